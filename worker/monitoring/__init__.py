"""What the worker says of itself: log, terminal, journal, metrics, drift."""
