"""What people read: tables, the report page, exports, and explanations of single films.

Nothing here changes a row or moves a film.
"""
