"""Memory that training frees and takes again a moment later stays with the process.

TensorFlow's generator data sets, which Keras feeds a fit by, set malloc's `M_TRIM_THRESHOLD` to
128 KiB for the whole process, against a leak (tensorflow/tensorflow issue 65675). Every step then
gives its activations back to the system and has them zeroed again, page by page: two fifths of a
fit's processor time.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

import keras

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEPT = 1 << 30  # bytes at the heap's top that may lie free
_LARGEST = 32 << 20  # bytes of one block that the heap holds: glibc takes no more


def keep_freed_memory() -> None:
    """Tell malloc to keep what is freed, where it can be told (glibc)."""
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)


class KeepFreedMemory(keras.callbacks.Callback):  # type: ignore[misc] # keras has no types
    """Undo what the data set of each epoch has set: it is there by its first batch."""

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        """Tell malloc once an epoch."""
        del logs
        if batch == 0:
            keep_freed_memory()
