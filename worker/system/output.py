"""Standard output for a worker that outlives it: what cannot be written is lost, and no more."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PATIENCE_SECONDS = 1.0  # with a reader that stands still, once each time


class _Output(io.FileIO):
    """An open file; where it is full, or its reader gone or standing still, that costs words alone.

    Each line is tried anew, so it goes on by itself. One that is written in part is finished before
    the next, so that whoever reads the file finds whole lines.

    Nothing is left in a buffer of Python's either: it would come out in halves, or at the end,
    where what cannot be written turns a clean stop into an exit status of 120.
    """

    _rest = b""  # of a line that is written in part
    _still = False  # whether the reader of a pipe, or the person at a terminal, takes nothing

    def write(self, data: ReadableBuffer, /) -> int:
        """Write it all, or as much as can be."""
        begun, left = bool(self._rest), self._rest + bytes(data)
        # What has room for anything has room for so much: pipe(7). A terminal, for a letter.
        most = 1 if self.isatty() else select.PIPE_BUF
        with suppress(OSError):
            while left and self._has_room() and (written := super().write(left[:most])):
                begun = not left[:written].endswith(b"\n")
                left = left[written:]
        line, end, _ = left.partition(b"\n")
        self._rest = line + end if begun else b""
        return memoryview(data).nbytes

    def _has_room(self) -> bool:
        room = select.poll()
        room.register(self, select.POLLOUT)
        self._still = not room.poll(0 if self._still else _PATIENCE_SECONDS * 1000)
        return not self._still


def standard_output() -> TextIO:
    """Open standard output for a worker that outlives it."""
    if sys.stdout is None:  # it was closed before we began
        return io.TextIOWrapper(_Output(os.devnull, "w"), write_through=True)
    return io.TextIOWrapper(
        _Output(sys.stdout.fileno(), "w", closefd=False),
        encoding=sys.stdout.encoding,
        errors="backslashreplace",  # a name in letters that the terminal lacks is no trouble either
        write_through=True,
    )
