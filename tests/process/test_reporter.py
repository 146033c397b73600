"""A worker that cannot say what it does goes on doing it."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
from functools import partial

import pytest
from driver import Site, wait_for
from films import small_batch
from scans import sighting
from swaps import report

from worker.errors import FilmRefused, RefusalCode
from worker.monitoring.events import ScanEnded
from worker.monitoring.terminal import TerminalReporter
from worker.types import Claim, Facts, Outcome

pytestmark = pytest.mark.slow

_FORMATS = ["json", "plain"]


def _redirected(where: str) -> tuple[str, ...]:
    """Return what runs a command with its output redirected, as a shell does."""
    return ("sh", "-c", f'exec "$@" {where}', "sh")


@pytest.mark.parametrize("said", _FORMATS)
@pytest.mark.parametrize(
    "where", [">/dev/full 2>&1", ">&-"], ids=["a full disk", "closed from the start"]
)
def test_output_that_cannot_be_written(site: Site, where: str, said: str) -> None:
    """Every film is screened all the same, and the worker ends when it is told to, and well."""
    site.settings |= {"SCREENERS": "1", "LOG_FORMAT": said}
    films = small_batch(25)  # enough for a progress bar
    site.drop(films)
    worker = site.start(wrapper=_redirected(where))
    site.wait_until_finished(len(films))
    assert site.stop(worker) == 0
    site.check_invariants(films)
    assert site.log() == "", "nor does it complain elsewhere"


@pytest.mark.parametrize("said", _FORMATS)
def test_a_reader_that_goes_away(site: Site, said: str) -> None:
    """`lungwatch run | head -n1` shows a line, and goes on screening."""
    site.settings |= {"SCREENERS": "1", "LOG_FORMAT": said}
    pipe = site.root / "pipe"
    os.mkfifo(pipe)
    worker = site.start(wrapper=_redirected(f">{pipe}"))
    with pipe.open(encoding="utf-8") as reader:
        assert reader.readline()
    films = small_batch(3)
    site.drop(films)
    site.wait_until_finished(len(films))
    assert site.stop(worker) == 0
    site.check_invariants(films)
    assert site.log() == ""


def test_a_reader_that_stands_still(site: Site) -> None:
    """`lungwatch run | less` shows a page, and films are screened while it is read.

    Whoever reads on finds whole lines, and hears of what comes then.
    """
    site.settings |= {"SCREENERS": "1", "LOG_FORMAT": "json"}
    pipe = site.root / "pipe"
    os.mkfifo(pipe)
    worker = site.start(wrapper=_redirected(f">{pipe}"))
    with pipe.open("rb", buffering=0) as reader:
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 2 * select.PIPE_BUF)
        films = small_batch(60)  # more words than there is room for
        site.drop(films)
        site.wait_until_finished(len(films))
        os.set_blocking(reader.fileno(), False)
        told = reader.read(65536)
        assert told.count(b"screened") < len(films)
        films |= {"next.jpg": b""}
        site.drop({"next.jpg": b""})
        site.wait_until_finished(len(films))
        assert site.stop(worker) == 0
        told += reader.read(65536)
    site.check_invariants(films)
    said = [json.loads(line)["event"] for line in told.splitlines()]
    assert said[-2:] == ["refused", "stopped"]


def test_the_disk_of_log_and_database_is_full(site: Site) -> None:
    """Where there is no room to say that there is none, it is waited for; the log goes on then.

    The line that was being written is finished: whoever reads the log finds whole lines only.
    """
    site.settings |= {"SCREENERS": "1", "LOG_FORMAT": "json"}
    films = small_batch(6)
    worker = site.start()
    wait_for(lambda: report(site).get("model"), what="a model serves")
    (log,) = site.root.glob("worker-*.log")
    before = log.stat().st_size
    full = before + 40  # in the middle of the next line
    _, most = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (full, most))
    site.drop(films)
    wait_for(lambda: log.stat().st_size == full, what="there was something to say")
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (most, most))
    site.wait_until_finished(len(films))
    wait_for(partial(_is_over, site), what="it is over")
    assert site.stop(worker) == 0
    site.check_invariants(films)
    said = [json.loads(line)["event"] for line in site.log()[before:].splitlines()]
    assert said[0] == "trouble"
    assert said.count("screened") == len(films)
    assert said[-1] == "stopped"


def _is_over(site: Site) -> bool:
    return not report(site).get("trouble")


def test_a_name_in_letters_that_the_output_lacks(site: Site) -> None:
    """It is written by their numbers, and its film and the next are screened."""
    site.settings |= {"SCREENERS": "1", "LOG_FORMAT": "plain", "LOG_LEVEL": "DEBUG"}
    site.variables |= {"PYTHONIOENCODING": "latin-1"}
    one, another = small_batch(2).values()
    films = {"胸.jpg": one, "chest.jpg": another}
    site.drop(films)
    worker = site.start()
    site.wait_until_finished(len(films))
    assert site.stop(worker) == 0
    assert "\\u80f8.jpg" in site.log()
    assert "chest.jpg" in site.log()


def test_a_reason_with_brackets_in_it(capfd: pytest.CaptureFixture[str]) -> None:
    """What a decoder or a package has to say is shown as it is, whatever a terminal makes of it."""
    claim = Claim(scan_id=7, sighting=sighting(), attempt=1, crashes=0)
    refusal = FilmRefused(RefusalCode.DAMAGED, "It ends in [/red] at [bold].")
    outcome = Outcome(claim=claim, facts=Facts(), refusal=refusal)
    TerminalReporter().emit(ScanEnded(outcome=outcome))
    assert "It ends in [/red] at [bold]." in capfd.readouterr().out
