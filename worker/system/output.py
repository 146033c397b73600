"""Standard output that cannot stop the worker: text that cannot be written is dropped."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PATIENCE_SECONDS = 1.0  # for a reader that has stopped reading, once per stall


class _Output(io.FileIO):
    """An open file that drops text if the disk is full or the reader has stopped or gone.

    Each line is a new attempt, so output resumes as soon as it can. A line written in part is
    completed before the next one, so the reader gets whole lines.

    Python must buffer nothing: buffered text would come out in pieces, or fail at exit and turn a
    clean stop into exit status 120.
    """

    _rest = b""  # of a line written in part
    _still = False  # whether the reader (a pipe, a terminal) has stopped reading

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it, or as much as possible."""
        begun, left = bool(self._rest), self._rest + bytes(data)
        # A pipe that is ready takes PIPE_BUF bytes (pipe(7)); of a terminal only one is certain.
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
    """Open standard output so that it cannot stop the worker."""
    if sys.stdout is None:  # closed before the start
        return io.TextIOWrapper(_Output(os.devnull, "w"), write_through=True)
    return io.TextIOWrapper(
        _Output(sys.stdout.fileno(), "w", closefd=False),
        encoding=sys.stdout.encoding,
        errors="backslashreplace",  # for names the terminal cannot show
        write_through=True,
    )
