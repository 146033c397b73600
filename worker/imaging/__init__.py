"""Bytes to pixels. Training and serving both read films through this room."""
