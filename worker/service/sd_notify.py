"""What systemd is told: ready, alive, stopping. Nothing where there is no systemd.

The protocol is sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_PATIENCE_SECONDS = 0.5  # with a listener that does not read: the loop must go on


class Notifier:
    """Speaks to systemd, if it is there."""

    def __init__(self, address: str | None = None, watchdog_usec: str | None = None) -> None:
        """Take the socket's address and the watchdog's interval as systemd writes them."""
        self._address = address
        # Ping at twice the rate that systemd asks for, as sd_watchdog_enabled(3) advises.
        self._every = int(watchdog_usec) / 2e6 if watchdog_usec and watchdog_usec.isdigit() else 0.0
        self._next_ping = 0.0
        self._starting = True

    @classmethod
    def from_environment(cls) -> Notifier:
        """Take both from this process's environment."""
        return cls(os.environ.get("NOTIFY_SOCKET"), os.environ.get("WATCHDOG_USEC"))

    def ready(self) -> None:
        """Say that films are being screened from now on."""
        self._starting = False
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def status(self, sentence: str) -> None:
        """Say in one line how things stand, for `systemctl status`."""
        self._send(f"STATUS={sentence}")

    def ping(self, now: float) -> None:
        """Say that the loop came round. Called from the loop alone, so a stuck one is silent.

        A start that waits for a database is not to be ended for taking long: it asks for more time.
        """
        if self._every and now >= self._next_ping:
            self._next_ping = now + self._every
            self._send("WATCHDOG=1")
            if self._starting:
                self._send(f"EXTEND_TIMEOUT_USEC={int(4 * self._every * 1e6)}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.settimeout(_PATIENCE_SECONDS)
            channel.sendto(message.encode(), address)
