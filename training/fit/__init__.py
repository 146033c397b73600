"""The network and its training.

Training starts from the champion's weights or from new ones. A killed run can be continued.
"""
