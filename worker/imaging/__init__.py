"""Decoding of films, and drawing of pictures.

Training and serving read films through `preprocessing`, which refuses damaged ones. No other room
imports simplejpeg or Pillow.
"""
