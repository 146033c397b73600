"""What systemd hears, over a real socket."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from worker.service.sd_notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    """Yield the address, as systemd writes it, of a socket that listens in systemd's place."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,  # a socket's path must be short
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
    ):
        path = f"{folder}/notify"
        abstract = f"lungwatch-test-{os.getpid()}"
        listening.bind(path if request.param == "path" else f"\0{abstract}")
        listening.settimeout(0)
        yield path if request.param == "path" else f"@{abstract}", listening


def heard(listening: socket.socket) -> list[str]:
    """Return what came since the last call."""
    messages = []
    while True:
        try:
            messages.append(listening.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_words(systemd: tuple[str, socket.socket]) -> None:
    """Each call is one datagram in sd_notify's words."""
    address, listening = systemd
    notifier = Notifier(address)
    notifier.ready()
    notifier.status("3 waiting, é")
    notifier.stopping()
    assert heard(listening) == ["READY=1", "STATUS=3 waiting, é", "STOPPING=1"]


def test_pings(systemd: tuple[str, socket.socket]) -> None:
    """The watchdog hears twice in each interval it asks for, and only when the loop comes round."""
    address, listening = systemd
    notifier = Notifier(address, "10000000")
    notifier.ready()
    heard(listening)
    counts = []
    for now in (100.0, 101.0, 104.9, 105.0, 109.0, 110.0, 400.0):
        notifier.ping(now)
        counts.append(len(heard(listening)))
    assert counts == [1, 0, 0, 1, 0, 1, 1]


def test_a_start_that_takes_long(systemd: tuple[str, socket.socket]) -> None:
    """As long as it is not ready it asks for time, more than until the next ping; then no more."""
    address, listening = systemd
    notifier = Notifier(address, "10000000")
    notifier.ping(0.0)
    assert heard(listening) == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=20000000"]
    notifier.ready()
    notifier.ping(5.0)
    assert heard(listening) == ["READY=1", "WATCHDOG=1"]


@pytest.mark.parametrize("interval", [None, "", "0", "-5", "soon"])
def test_no_watchdog(systemd: tuple[str, socket.socket], interval: str | None) -> None:
    """Where systemd asks for no pings, or for nonsense, none are sent."""
    address, listening = systemd
    notifier = Notifier(address, interval)
    notifier.ping(1.0)
    assert heard(listening) == []


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody-listens", "x" * 200])
def test_no_systemd(address: str | None) -> None:
    """Without systemd, or with one that is gone, nothing is said and nothing breaks."""
    notifier = Notifier(address, "1000000")
    notifier.ready()
    notifier.ping(1.0)
    notifier.stopping()


def test_from_the_environment(
    systemd: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address and the interval are those that systemd put into the environment."""
    address, listening = systemd
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    Notifier.from_environment().ping(1.0)
    assert heard(listening)[0] == "WATCHDOG=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    Notifier.from_environment().ready()
    assert heard(listening) == []


def test_a_listener_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A systemd too busy to read does not hold up the loop for good."""
    monkeypatch.chdir(tmp_path)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as another,
    ):
        listening.bind("notify")
        another.settimeout(0)
        with suppress(BlockingIOError):
            while True:  # until its queue is full
                another.sendto(b"x", "notify")
        notifier = Notifier("notify")
        notifier.ready()
        listening.settimeout(0)
        assert set(heard(listening)) == {"x"}
