"""TensorBoard event files, by tensorboardX: `tensorboard --logdir DIR`. Only scalars are written.

They are written at once, because the library's own thread hides errors of a full disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from training.io import needed

_TROUBLE = "TensorBoard's events cannot be written"


class EventFile:
    """The event file of one run, written step by step."""

    def __init__(self, folder: Path) -> None:
        """Start a file in `folder`.

        Raises:
            DataError: it cannot be written.
        """
        self._folder = folder
        with needed(_TROUBLE, folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"))

    def add(self, step: int, scalars: Mapping[str, float], *, now: float) -> None:
        """Add named numbers at a step. `now` is in seconds since 1970.

        Raises:
            DataError: they cannot be written.
        """
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        event = Event(wall_time=now, step=step, summary=Summary(value=values))
        with needed(_TROUBLE, self._folder):
            self._writer.write_event(event)
            self._writer.flush()

    def close(self) -> None:
        """Close the file. `add` has reported write errors."""
        with suppress(OSError):
            self._writer.close()


@contextmanager
def event_file(folder: Path | None) -> Iterator[EventFile | None]:
    """Yield an event file in `folder`, closed at the end; None if `folder` is None."""
    if folder is None:
        yield None
        return
    events = EventFile(folder)
    try:
        yield events
    finally:
        events.close()
