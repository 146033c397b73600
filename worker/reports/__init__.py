"""Reports for people: tables, the HTML page, exports, and explanations of single films.

Nothing here changes a row or moves a film.
"""
