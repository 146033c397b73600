"""Keeps freed memory in the process, because training takes it again at once.

TensorFlow's generator data sets, which Keras uses for a fit, set malloc's `M_TRIM_THRESHOLD` to
128 KiB for the whole process, because of a leak (tensorflow/tensorflow issue 65675). Every step
then returns the memory of its activations to the system and gets it back zeroed: two fifths of a
fit's processor time.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

import keras

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEPT = 1 << 30  # bytes that may be free at the top of the heap
_LARGEST = 32 << 20  # bytes of the largest block in the heap; glibc's maximum


def keep_freed_memory() -> None:
    """Make malloc keep freed memory, if the C library allows it (glibc)."""
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)


class KeepFreedMemory(keras.callbacks.Callback):  # type: ignore[misc] # keras has no types
    """Undo the setting of each epoch's data set, which exists by the first batch."""

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        """Set malloc's thresholds once an epoch."""
        del logs
        if batch == 0:
            keep_freed_memory()
