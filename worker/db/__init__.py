"""The database: the tables, and every query on them.

SQLite and Postgres are supported alike. This is the only room that imports SQLAlchemy; the others
are handed facts, not rows, but for those of the view `results`.
"""
