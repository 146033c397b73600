"""The steps of a night: options, state, record, build, review.

`training.retrain` calls them in order.
"""
