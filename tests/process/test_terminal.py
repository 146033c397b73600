"""What a person at a terminal sees of a running worker."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys

from driver import Site, wait_for
from films import batch, small_batch


def run_on(terminal: int, site: Site) -> subprocess.Popen[bytes]:
    """Start the worker as a person does who sits at this terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "worker", "run"],
        env=site.environment | {"TERM": "xterm", "COLUMNS": "120"},
        cwd=site.root,
        stdout=terminal,
        stderr=terminal,
    )


def watch_until(site: Site, films: int) -> str:
    """Run the worker on a terminal until so many films are done; return all that it showed."""
    ours, theirs = pty.openpty()
    worker = run_on(theirs, site)
    os.close(theirs)
    os.set_blocking(ours, False)
    shown = bytearray()

    def drained() -> bool:
        try:
            while data := os.read(ours, 65536):
                shown.extend(data)
        except OSError:  # nothing more for now, or the other end has gone
            pass
        return site.finished() >= films

    wait_for(drained, what=f"{films} films on a terminal")
    worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == 0
    drained()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_person_sees_plain_words_a_line_a_scan_and_a_bar(site: Site) -> None:
    """What is watched, where results go, which model serves; each film; the backlog as it goes."""
    films = batch(40) | {"empty.jpg": b""}
    site.drop(films)
    shown = watch_until(site, len(films))
    for words in (
        f"watching    {site.inbox}",
        f"results in  {site.database_url}",
        f"model       {(site.models / 'CHAMPION').read_text().strip()}",
    ):
        assert words in shown
    lines = shown.replace("\r", "\n").splitlines()
    for name in films:
        (line,) = [line for line in lines if name in line]
        assert line.split()[0] in ("NORMAL", "PNEUMONIA", "REVIEW", "REFUSED")
    assert any(re.search(r"screening .*\d+/41", line) for line in lines), "no progress bar"
    assert "empty: The file is empty." in shown
    assert '"event"' not in shown


def test_a_terminal_that_is_not_read(site: Site) -> None:
    """A person who holds the terminal, to select a name or with Ctrl-S, holds up no film."""
    ours, theirs = pty.openpty()
    worker = run_on(theirs, site)
    films = small_batch(200)  # more words than there is room for
    site.drop(films)
    site.wait_until_finished(len(films))
    worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == 0
    os.close(theirs)
    os.close(ours)
    site.check_invariants(films)


def test_no_bar_is_shown_for_a_film_or_two(site: Site) -> None:
    """A progress bar is for a backlog, not for a film now and then."""
    site.drop(batch(2))
    assert "screening" not in watch_until(site, 2)
