"""The schema's history. Alembic runs it; nothing imports it."""
