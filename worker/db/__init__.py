"""The database: the tables, and every query. The only room that imports SQLAlchemy."""
