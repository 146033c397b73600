"""Lungwatch's worker: films in an inbox become rows in a database."""
