"""Bytes to pixels, and pixels to pictures.

Training and serving both read films through `preprocessing`, strictly: what is damaged is refused.
This is the only room that imports simplejpeg and Pillow.
"""
