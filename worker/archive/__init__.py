"""Work on films that are kept: screen an archive, remove old films, find films without a row."""
