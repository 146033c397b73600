"""The network and its training.

It starts from the champion's weights or from nothing, and can be stopped and go on.
"""
