"""What systemd's journal is sent, over a real socket."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import documents
import pytest

from worker.monitoring.events import Notice, TroubleBegan
from worker.monitoring.journald import Journal, is_our_output, message_id
from worker.monitoring.log import LogReporter
from worker.system.trouble import Trouble


@pytest.fixture
def journal() -> Iterator[tuple[Journal, socket.socket]]:
    """Yield a journal, and the socket that listens in systemd's place."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,  # a socket's path must be short
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
    ):
        listening.bind(f"{folder}/socket")
        listening.settimeout(5)
        yield Journal(f"{folder}/socket"), listening


def fields(listening: socket.socket) -> dict[str, str]:
    """Return the fields of the next message."""
    lines = listening.recv(65536).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_an_event_and_its_fields(journal: tuple[Journal, socket.socket]) -> None:
    """Each can be asked for by its name; what is not so is left out."""
    sent, listening = journal
    swapped = Notice(name="model swapped", fields={"model": "b", "before": "a", "why": None})
    LogReporter("INFO", journal=sent).emit(swapped)
    assert fields(listening) == {
        "MESSAGE": "model swapped model=b before=a",
        "MESSAGE_ID": message_id("model swapped"),
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "lungwatch",
        "LUNGWATCH_MODEL": "b",
        "LUNGWATCH_BEFORE": "a",
    }


def test_a_value_cannot_bring_a_field_of_its_own(journal: tuple[Journal, socket.socket]) -> None:
    """Words of several lines are one line; trouble is a warning."""
    sent, listening = journal
    away = Trouble(kind="database", message="away\nPRIORITY=0", since=0.0)
    LogReporter("INFO", journal=sent).emit(TroubleBegan(trouble=away))
    told = fields(listening)
    assert (told["PRIORITY"], told["LUNGWATCH_MESSAGE"]) == ("4", "away PRIORITY=0")


def test_message_ids_are_the_same_in_every_release() -> None:
    """An operator's filter goes on working: these are in the documents."""
    told = documents.section("## Monitoring")
    for event in ("screened", "refused", "trouble", "trouble over", "model swapped"):
        assert f"`{message_id(event)}`" in told


def test_a_journal_that_is_gone(journal: tuple[Journal, socket.socket]) -> None:
    """Costs its lines and no more."""
    sent, listening = journal
    listening.close()
    LogReporter("INFO", journal=sent).emit(Notice(name="stopped"))


def test_a_journal_that_stands_still(journal: tuple[Journal, socket.socket]) -> None:
    """It is waited for once, and costs the lines that it has no room for; then it is told again."""
    sent, listening = journal
    reporter = LogReporter("INFO", journal=sent)
    for number in range(2000):  # more than any queue of the kernel's holds by default
        reporter.emit(Notice(name="beat", fields={"number": number}))
    listening.settimeout(0)
    with suppress(BlockingIOError):
        while True:
            last = fields(listening)
    assert int(last["LUNGWATCH_NUMBER"]) < 1999
    reporter.emit(Notice(name="stopped"))
    assert fields(listening)["MESSAGE"] == "stopped"


def test_whether_output_goes_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only if it is the very file that systemd names."""
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        here = os.fstat(out.fileno())
        for stream, so in ((f"{here.st_dev}:{here.st_ino}", True), ("1:2", False), ("", False)):
            monkeypatch.setenv("JOURNAL_STREAM", stream)
            assert is_our_output() is so
