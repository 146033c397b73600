"""The database: its tables and every query on them.

SQLite and Postgres are supported alike. No other room imports SQLAlchemy. Other rooms get typed
facts, not rows, except rows of the view `results`.
"""
