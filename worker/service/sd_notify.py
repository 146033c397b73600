"""Notifies systemd: ready, alive, stopping. Does nothing without systemd.

The protocol is sd_notify(3): datagrams to the socket in NOTIFY_SOCKET.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_PATIENCE_SECONDS = 0.5  # limit on a blocked send, so that the loop continues


class Notifier:
    """Sends notifications to systemd, if there is one."""

    def __init__(self, address: str | None = None, watchdog_usec: str | None = None) -> None:
        """Set the socket's address and the watchdog's interval, as systemd gives them."""
        self._address = address
        # Twice the rate that systemd requires, as sd_watchdog_enabled(3) advises.
        self._every = int(watchdog_usec) / 2e6 if watchdog_usec and watchdog_usec.isdigit() else 0.0
        self._next_ping = 0.0
        self._starting = True

    @classmethod
    def from_environment(cls) -> Notifier:
        """Read both from this process's environment."""
        return cls(os.environ.get("NOTIFY_SOCKET"), os.environ.get("WATCHDOG_USEC"))

    def ready(self) -> None:
        """Report that films are screened from now on."""
        self._starting = False
        self._send("READY=1")

    def stopping(self) -> None:
        """Report that the worker is stopping."""
        self._send("STOPPING=1")

    def status(self, sentence: str) -> None:
        """Report the status in one line, for `systemctl status`."""
        self._send(f"STATUS={sentence}")

    def ping(self, now: float) -> None:
        """Send a watchdog ping. Only the loop calls this, so a stuck loop sends none.

        A start that waits for a database asks for more time, so that systemd does not end it.
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
