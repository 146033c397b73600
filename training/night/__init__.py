"""The steps of a night: options, state, record, build, review.

`training.retrain` tells them in their order.
"""
