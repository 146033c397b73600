"""The steps of a night: options, state, record, build, review."""
