"""What people read: tables, the report page, exports, and explanations of single films."""
