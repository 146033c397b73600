"""Writes to systemd's journal by its native protocol: a message with named fields.

The protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL) is a datagram with lines `NAME=value` to a
socket.
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from contextlib import suppress
from typing import Any

_SOCKET = "/run/systemd/journal/socket"
# Each event name has its own message id, the same in every release.
_EVENTS = uuid.UUID("6f1f3c0e-6d0a-4f0e-9a55-2f3d2a9c7d11")
_PATIENCE_SECONDS = 1.0  # limit on a blocked journal, once per stall
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}


def is_our_output() -> bool:
    """Whether standard output goes to the journal, according to JOURNAL_STREAM."""
    if sys.stdout is None:  # closed before the start
        return False
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        ours = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(ours.st_dev), str(ours.st_ino))


def message_id(event: str) -> str:
    """Return the message id of an event, for `journalctl MESSAGE_ID=...`: 32 hex digits."""
    return uuid.uuid5(_EVENTS, event).hex


class Journal:
    """Writes events with their fields, one datagram each. What cannot be written is dropped."""

    def __init__(self, address: str = _SOCKET) -> None:
        """Write to the socket at `address`."""
        self._address = address
        self._still = False  # whether the journal is blocked

    def msg(self, **fields: Any) -> None:
        """Write an event with its name `event`, its `level`, and its fields."""
        event, level = str(fields.pop("event")), str(fields.pop("level", "info"))
        present = {name: value for name, value in fields.items() if value is not None}
        words = " ".join(f"{name}={value}" for name, value in present.items())
        lines = {
            "MESSAGE": f"{event} {words}".rstrip(),
            "MESSAGE_ID": message_id(event),
            "PRIORITY": _PRIORITIES.get(level, 6),
            "SYSLOG_IDENTIFIER": "lungwatch",
            **{f"LUNGWATCH_{name.upper()}": value for name, value in present.items()},
        }
        # A value with several lines would need its length before it; ours have one.
        data = "".join(f"{name}={' '.join(str(it).splitlines())}\n" for name, it in lines.items())
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.settimeout(0 if self._still else _PATIENCE_SECONDS)
            self._still = True
            channel.sendto(data.encode(), self._address)
            self._still = False

    debug = info = warning = error = msg
