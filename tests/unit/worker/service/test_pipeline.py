"""The story of a batch: every file in the inbox ends once, whatever goes wrong on the way.

Real files and real databases; a small fake stands where the screeners do.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import execute, query
from scans import manifest
from scans import worker as a_worker

import worker.service.pipeline
from worker.db.engine import Database
from worker.db.sharing import Crew
from worker.errors import DatabaseTrouble, FilmStuck, OwnTrouble, RefusalCode, StorageTrouble
from worker.inbox.folders import Inbox
from worker.screening.ipc import Result
from worker.screening.pool import Died, HandedBack, PoolEvent, Screened
from worker.service.pipeline import Pipeline, Policy
from worker.system.files import move
from worker.system.folders import Folders
from worker.types import Claim, Outcome

VERSION = "drawn-1"
SETTLE, PATIENCE, LEASE = 1.0, 30.0, 60.0


def logit_of(data: bytes) -> float:
    """Return what the fake model says of bytes: always the same of the same."""
    return hashlib.sha256(data).digest()[0] / 32 - 4


class Screeners:
    """In a pool's place: does with each film what the film's bytes begin with."""

    capacity, alive = 8, 1

    def __init__(self, inbox: Path) -> None:
        """Read films from a folder."""
        self._inbox = inbox
        self.jobs: list[tuple[Claim, bool]] = []
        self.predicted: list[str] = []  # names, each time the model ran
        self.tried_alone: list[str] = []
        self.last_first = False
        self.off_by = 0.0  # what another machine's network would say
        self.slow: set[str] = set()  # names that are not ended yet

    @property
    def in_hand(self) -> int:
        """As a pool's."""
        return len(self.jobs)

    @property
    def room(self) -> int:
        """As a pool's."""
        return 0 if any(alone for _, alone in self.jobs) else self.capacity - len(self.jobs)

    def submit(self, claim: Claim, _now: float, *, alone: bool = False) -> bool:
        """As a pool's."""
        if not self.room or (alone and self.jobs):
            return False
        self.jobs.append((claim, alone))
        if alone:
            self.tried_alone.append(claim.sighting.name)
        return True

    def work(self) -> Iterator[PoolEvent]:
        """Say what becomes of all films in hand."""
        jobs = [job for job in self.jobs if job[0].sighting.name not in self.slow]
        self.jobs = [job for job in self.jobs if job not in jobs]
        if self.last_first:
            jobs.reverse()
        read = {claim.scan_id: self._read(claim) for claim, _ in jobs}
        jobs.reverse()
        for position, (claim, _) in enumerate(jobs):
            event = self._end(claim, read[claim.scan_id])
            yield event
            if isinstance(event, Died):
                for behind, _ in jobs[position + 1 :]:
                    yield HandedBack(claim=behind)
                return

    def _read(self, claim: Claim) -> bytes | None:
        path = self._inbox / claim.sighting.name
        if self._inbox.is_symlink():
            return None
        seen = Inbox(Folders(inbox=self._inbox, archive=path, refused=path)).look(
            claim.sighting.name
        )
        return path.read_bytes() if seen == claim.sighting else None

    def _end(self, claim: Claim, data: bytes | None) -> PoolEvent:
        kind = "" if data is None else data.partition(b" ")[0].decode()
        dying = {"crash": "signal 11", "endless": "signal 9"}
        if data is None:
            return self._screened(claim, "lost")
        sha256 = hashlib.sha256(data).hexdigest()
        if kind == "once" and not claim.crashes:
            kind = "crash"
        if kind in dying:
            return Died(claim=claim, overran=kind == "endless", how=dying[kind])
        match kind:
            case "film" | "once":
                self.predicted.append(claim.sighting.name)
                found = self._screened(
                    claim, "predicted", sha256=sha256, logit=logit_of(data) + self.off_by
                )
            case "nan":
                found = self._screened(claim, "predicted", sha256=sha256, logit=float("nan"))
            case "fat":
                found = self._screened(claim, "out_of_memory")
            case "fickle":
                found = self._screened(claim, "lost")
            case "closed":
                found = self._screened(claim, "unreadable", sentence="EACCES")
            case code:
                found = self._screened(claim, "refused", code=code or "empty", sentence="Bad.")
        return found

    @staticmethod
    def _screened(claim: Claim, kind: Any, **facts: Any) -> Screened:
        result = Result(scan_id=claim.scan_id, kind=kind, **facts)
        return Screened(claim=claim, result=result, model_version=VERSION)


class Flaky:
    """Another object, whose n-th call of those named fails: before it is done, or after."""

    def __init__(self, inner: Any, names: tuple[str, ...], error: OwnTrouble) -> None:
        """Do as `inner` does, until `fail` is called."""
        self._inner, self._names, self._error = inner, names, error
        self._countdown = 0
        self._after = False
        self.calls = 0  # of those named

    def fail(self, countdown: int, *, after: bool) -> None:
        """Fail at the n-th call from now."""
        self._countdown, self._after = countdown, after

    @property
    def has_failed(self) -> bool:
        """Whether the call that was to fail came."""
        return self._countdown <= 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._inner, name)
        if name not in self._names:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            self._countdown -= 1
            if self._countdown != 0:
                return real(*args, **kwargs)
            if self._after:
                real(*args, **kwargs)
            raise self._error

        return call


class Ward:
    """A pipeline on real folders and a real database, and a clock that is turned by hand."""

    def __init__(self, root: Path, database: Database, name: str = "ward-1") -> None:
        """Prepare; the folders may be there from an earlier worker."""
        self.folder = root / "inbox"
        self.folder.mkdir(exist_ok=True)
        store = a_worker(database, name)
        store.register_model(manifest(VERSION))
        self.database = database
        self.store = Flaky(store, ("claim", "apply"), DatabaseTrouble("it went away"))
        self.inbox = Flaky(
            Inbox(Folders(inbox=self.folder, archive=root / "archive", refused=root / "refused")),
            ("file_away", "make_durable"),
            StorageTrouble("the disk is full"),
        )
        self.screeners = Screeners(self.folder)
        self.told: list[Outcome] = []
        self.crew = Crew()
        self.now = 1000.0
        self.begin()

    def begin(self, *, keep: bool = False) -> None:
        """Put the worker together anew, as a restart does."""
        self.pipeline = Pipeline(
            store=self.store,  # type: ignore[arg-type]
            inbox=self.inbox,  # type: ignore[arg-type]
            pool=self.screeners,  # type: ignore[arg-type]
            policy=Policy(
                settle_seconds=SETTLE,
                lease_seconds=LEASE,
                incomplete_seconds=PATIENCE,
                keep_in_inbox=keep,
            ),
            manifest_of=manifest,
            on_outcome=self.told.append,
        )

    def drop(self, **films: bytes) -> None:
        """Put films into the inbox."""
        for name, data in films.items():
            (self.folder / name).write_bytes(data)

    def step(self, seconds: float = 0.1) -> None:
        """Let time pass and do what the service does in one round."""
        self.now += seconds
        for path in sorted(self.folder.iterdir()) if self.crew.lists else ():
            self.pipeline.notice(path.name, self.now)
        if int(self.now) != int(self.now - seconds):  # as often as the inbox is listed
            self.pipeline.recover(lists=self.crew.lists)
        self.pipeline.settle(self.now)
        self.pipeline.record(self.now)
        self.pipeline.file_away(self.now)
        self.pipeline.share(self.crew, self.now)
        self.pipeline.claim(self.now)
        self.pipeline.dispatch(self.now)
        self.work()

    def work(self) -> None:
        """Take in what the screeners say."""
        self.pipeline.collect(self.screeners.work(), self.now)

    def run(self, seconds: float) -> int:
        """Go on for a while, whatever trouble there is. Return how often there was some."""
        troubles = 0
        for _ in range(30):
            try:
                self.step(seconds / 30)
            except OwnTrouble:
                troubles += 1
                self.work()
        return troubles

    def results(self) -> dict[str, dict[str, Any]]:
        """Return the one result of each name."""
        rows = query(self.database, "SELECT * FROM results")
        assert max(Counter(row["file_name"] for row in rows).values(), default=1) == 1, rows
        return {row["file_name"]: row for row in rows}

    def left(self) -> list[str]:
        """Return what is in the inbox."""
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def ward(tmp_path: Path, database: Database) -> Ward:
    """Return a ward with an empty inbox."""
    return Ward(tmp_path, database)


def test_films_end_in_their_places(ward: Ward) -> None:
    """A sound film is predicted and archived, a bad one refused; each is told of once."""
    ward.drop(good=b"film 1", bad=b"too_small")
    ward.run(SETTLE + 1)
    assert ward.left() == []
    found = ward.results()
    assert found["good"]["decision"] is not None
    assert found["bad"]["refusal_code"] == "too_small"
    assert sorted(one.claim.sighting.name for one in ward.told) == sorted(found)
    assert ward.pipeline.idle
    states = query(ward.database, "SELECT DISTINCT state FROM scans")
    assert states == [{"state": "filed"}]


def test_nothing_before_it_stood_still(ward: Ward) -> None:
    """A film that is still being written is not claimed until it stands still."""
    for size in range(5):
        ward.drop(film=b"film " + b"." * size)
        ward.run(SETTLE / 2)
    assert query(ward.database, "SELECT * FROM scans") == []
    ward.run(SETTLE + 1)
    assert list(ward.results()) == ["film"]


@pytest.mark.parametrize("code", ["", "truncated", "damaged", "not_a_jpeg"])
def test_what_may_be_incomplete_waits(ward: Ward, code: str) -> None:
    """A file that breaks off may be a stalled copy: refused only when it stood still for long."""
    ward.drop(film=code.encode())
    ward.run(PATIENCE - 2)
    assert ward.results() == {}
    assert ward.left() == ["film"]
    ward.run(4)
    assert ward.results()["film"]["refusal_code"] == (code or "empty")
    assert ward.left() == []


def test_a_copy_that_goes_on_is_predicted(ward: Ward) -> None:
    """A stalled copy that ends after all is screened as it is then, and never refused."""
    ward.drop(film=b"truncated")
    ward.run(PATIENCE / 2)
    ward.drop(film=b"film whole")
    ward.run(SETTLE + 1)
    assert ward.results()["film"]["decision"] is not None
    ward.run(PATIENCE)
    assert len(ward.results()) == 1
    states = query(ward.database, "SELECT state FROM scans ORDER BY id")
    assert [row["state"] for row in states] == ["withdrawn", "filed"]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: os.utime(path, ns=(5, 5)),
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("renamed")),
    ],
    ids=["grew", "touched", "went", "renamed"],
)
def test_a_film_that_changes_after_the_claim(ward: Ward, change: Callable[[Path], Any]) -> None:
    """No verdict on what is no longer there; what is there is screened as it is."""
    ward.drop(film=b"film 1")
    ward.step()
    ward.now += SETTLE
    ward.pipeline.settle(ward.now)
    ward.pipeline.claim(ward.now)
    ward.pipeline.dispatch(ward.now)
    change(ward.folder / "film")
    there = ward.left()
    ward.work()
    ward.run(SETTLE + 1)
    assert sorted(ward.results()) == there
    assert len(ward.screeners.predicted) == len(there)


@pytest.mark.parametrize("last_first", [False, True])
def test_the_same_bytes_at_once_get_one_answer(ward: Ward, last_first: bool) -> None:  # noqa: FBT001
    """Of several films of the same bytes one is answered afresh, and the others as that one."""
    ward.screeners.last_first = last_first
    ward.drop(a=b"film same", b=b"film same", c=b"film same", d=b"film else")
    ward.run(SETTLE + 1)
    found = ward.results()
    assert sorted(found) == ["a", "b", "c", "d"]
    assert len({found[name]["probability"] for name in "abc"}) == 1
    assert sorted(bool(found[name]["reused"]) for name in "abcd") == [False, False, True, True]


def test_the_same_bytes_later_get_the_answer_they_had(ward: Ward) -> None:
    """Bytes that this model has seen, in this run or an earlier one, get the same answer again.

    So too on a machine where the network sums in another order.
    """
    ward.drop(first=b"film same")
    ward.run(SETTLE + 1)
    ward.screeners.off_by = 0.001
    ward.drop(second=b"film same")
    ward.run(SETTLE + 1)
    ward.begin()
    ward.drop(third=b"film same")
    ward.run(SETTLE + 1)
    found = ward.results()
    assert [bool(found[name]["reused"]) for name in ("first", "second", "third")] == [
        False,
        True,
        True,
    ]
    assert len({row["probability"] for row in found.values()}) == 1


def test_an_answer_that_was_given_for_another_film(ward: Ward) -> None:
    """What a screener in the hands of a film says of other bytes is not their answer."""
    ward.screeners.off_by = 5.0
    ward.drop(planted=b"film same")
    ward.run(SETTLE + 1)
    ward.screeners.off_by = 0.0
    ward.drop(sound=b"film same")
    ward.run(SETTLE + 1)
    found = ward.results()
    assert not found["sound"]["reused"]
    assert found["sound"]["probability"] < found["planted"]["probability"]


def test_a_disk_that_cannot_sync_folders(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file system has no such call, films are filed without it."""
    sync = os.fsync

    def of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)
    ward.drop(one=b"film 1")
    assert ward.run(SETTLE + 1) == 0
    assert list(ward.results()) == ["one"]
    assert not list(ward.folder.iterdir())


def test_the_twin_of_a_film_that_crashes(ward: Ward) -> None:
    """A film of the same bytes is not lost when its twin ends its screener."""
    ward.drop(a=b"once same", b=b"once same", c=b"film same")
    ward.run(SETTLE + 2)
    assert sorted(ward.results()) == ["a", "b", "c"]
    assert all(row["decision"] for row in ward.results().values())


def test_a_film_that_ends_a_screener_once(ward: Ward) -> None:
    """It is tried once more, soon and alone, and is then like any other; so are its neighbours."""
    ward.drop(odd=b"once", near=b"film 1", by=b"film 2")
    ward.run(SETTLE + 2)
    found = ward.results()
    assert {name: row["refusal_code"] for name, row in found.items()} == dict.fromkeys(
        ("odd", "near", "by")
    )
    assert ward.screeners.tried_alone == ["odd"]


def test_the_second_try_comes_soon(ward: Ward) -> None:
    """It is not put off for a lease because others are still being screened."""
    ward.screeners.slow = {"slow"}
    ward.drop(slow=b"film 1", odd=b"once")
    while not query(ward.database, "SELECT * FROM scans WHERE crashes > 0"):
        ward.step(0.04)
    ward.screeners.slow.clear()
    for _ in range(5):
        ward.step(0.01)
    assert ward.screeners.tried_alone == ["odd"]
    [row] = query(ward.database, "SELECT attempt, crashes FROM scans WHERE file_name = 'odd'")
    assert row == {"attempt": 2, "crashes": 1}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"crash", RefusalCode.SCREENER_CRASHED),
        (b"endless", RefusalCode.SCREENER_OVERRAN),
        (b"fat", RefusalCode.SCREENER_OUT_OF_MEMORY),
        (b"nan", RefusalCode.SCREENER_CRASHED),
    ],
)
def test_a_film_that_ends_screeners_is_refused(ward: Ward, data: bytes, code: RefusalCode) -> None:
    """The second time, alone, it is the film's own doing; its neighbours are unharmed."""
    ward.drop(a=b"film 1", bad=data, c=b"film 2", d=b"film 3")
    ward.run(SETTLE + 2)
    found = ward.results()
    assert {name: row["refusal_code"] for name, row in found.items()} == {
        "a": None,
        "bad": code.value,
        "c": None,
        "d": None,
    }
    assert ward.screeners.tried_alone == ["bad"]
    assert sorted(ward.screeners.predicted) == ["a", "c", "d"]


def test_a_film_that_ends_screeners_is_remembered(tmp_path: Path, database: Database) -> None:
    """A worker that takes over knows which film ended a screener, and tries it alone."""
    ward = Ward(tmp_path, database)
    ward.drop(bad=b"crash")
    while not query(database, "SELECT * FROM scans WHERE crashes > 0"):
        ward.step()
    execute(database, "UPDATE scans SET lease_until = :past", past="2020-01-01 00:00:00.000000")
    other = Ward(tmp_path, database, "ward-2")
    other.run(SETTLE + 2)
    assert other.results()["bad"]["refusal_code"] == RefusalCode.SCREENER_CRASHED.value
    assert other.screeners.tried_alone == ["bad"]


def test_a_film_that_cannot_be_read_is_tried_again(ward: Ward) -> None:
    """No verdict on a film that may not be read; when it may, it is screened, with no restart."""
    ward.drop(film=b"closed", other=b"film 1")
    ward.run(20)
    assert list(ward.results()) == ["other"]
    assert list(ward.pipeline.unreadable) == ["film"]
    attempts = query(ward.database, "SELECT attempt FROM scans WHERE file_name = 'film'")
    assert 3 <= attempts[0]["attempt"] <= 6, "tried again, less and less often"
    before = (ward.folder / "film").stat()
    ward.drop(film=b"film 2")
    os.utime(ward.folder / "film", ns=(before.st_atime_ns, before.st_mtime_ns))
    ward.run(61)
    assert sorted(ward.results()) == ["film", "other"]
    assert not ward.pipeline.unreadable


def test_a_film_that_could_not_be_read_and_went(ward: Ward) -> None:
    """A film that is taken away is no longer counted among those that cannot be read."""
    ward.drop(film=b"closed")
    ward.run(5)
    (ward.folder / "film").unlink()
    ward.run(61)
    assert not ward.pipeline.unreadable
    assert ward.results() == {}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["store", "inbox"])
def test_trouble_at_any_call_loses_nothing(ward: Ward, what: str, after: bool) -> None:  # noqa: FBT001
    """Whichever call to database or disk fails, done or not, every film still ends once.

    The n-th call fails, for n from one on until the whole story has no such call left.
    """
    part: Flaky = getattr(ward, what)
    for countdown in range(1, 200):
        films = {
            f"a-{countdown}": b"film %d" % countdown,
            f"b-{countdown}": b"film %d" % countdown,
            f"c-{countdown}": b"too_small",
            f"d-{countdown}": b"once %d" % countdown,
        }
        ward.drop(**films)
        part.fail(countdown, after=after)
        ward.run(SETTLE + 1)
        if ward.left():  # it waits a little longer for what another might have had
            ward.run(LEASE + SETTLE)
        assert ward.left() == [], countdown
        assert set(films) <= set(ward.results())
        ward.run(SETTLE)  # what was filed last is said to be
        assert ward.pipeline.idle
        assert ward.pipeline.in_hand == 0
        if not part.has_failed:
            break
    else:
        pytest.fail("it never got through without")
    assert countdown > 3
    assert not query(ward.database, "SELECT * FROM scans WHERE state NOT IN ('filed')")
    rows = query(ward.database, "SELECT scan_id FROM predictions")
    assert len(rows) == 3 * countdown


def test_a_restart_files_what_was_recorded(ward: Ward) -> None:
    """A worker killed between the row and the move leaves a file that the next one files."""
    ward.drop(film=b"film 1", bad=b"too_small")
    record_all(ward)
    assert len(ward.left()) == 2
    ward.begin()
    ward.run(SETTLE + 1)
    assert ward.left() == []
    assert len(ward.results()) == 2
    assert len(ward.screeners.predicted) == 1


def record_all(ward: Ward) -> None:
    """Go on until all that is in the inbox has its row, and file none of it."""
    while len(ward.results()) < len(ward.left()):
        ward.now += 0.5
        for name in ward.left():
            ward.pipeline.notice(name, ward.now)
        ward.pipeline.settle(ward.now)
        ward.pipeline.record(ward.now)
        ward.pipeline.claim(ward.now)
        ward.pipeline.dispatch(ward.now)
        ward.work()


def test_a_restart_files_what_stands_behind_many_that_are_stuck(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many cannot be moved, what a kill left behind them is filed, and all are counted."""
    monkeypatch.setattr(worker.service.pipeline, "_LEFT_OVER", 4)
    for number in range(10):
        ward.drop(**{f"{number}-another's": b"film %d" % number})
        record_all(ward)
    ward.drop(ours=b"film of ours")
    record_all(ward)
    ward.begin()
    with monkeypatch.context() as sticky:
        sticky.setattr("worker.inbox.folders.move", may_not_move_anothers)
        ward.run(5)
        assert ward.left() == [f"{number}-another's" for number in range(10)]
        assert ward.pipeline.stuck == 10
    ward.drop(late=b"film later")  # and the first are come back to
    ward.run(120)
    assert ward.left() == []
    assert len(ward.screeners.predicted) == 12, "none was screened again"


def test_claims_behind_many_whose_films_are_there_are_ended(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead worker's claim on a film that is gone ends, however many others it had in hand."""
    monkeypatch.setattr(worker.service.pipeline, "_LEFT_OVER", 4)
    names = [f"film-{number:02}" for number in range(11)]
    ward.drop(**dict.fromkeys(names, b"film"))
    seen = [ward.inbox.look(name) for name in names]
    for sighting in seen:
        ward.store.claim([sighting], lease_seconds=LEASE)
    execute(
        ward.database, "UPDATE scans SET lease_until = :past", past="2020-01-01 00:00:00.000000"
    )
    (ward.folder / names[-1]).unlink()
    for _ in range(3):
        ward.pipeline.withdraw_gone()
    (ward.folder / names[0]).unlink()
    ward.pipeline.withdraw_gone()
    gone = query(ward.database, "SELECT file_name FROM scans WHERE state = 'withdrawn' ORDER BY id")
    assert [row["file_name"] for row in gone] == [names[0], names[-1]]


def test_a_film_that_was_moved_in_waits_for_nothing(ward: Ward) -> None:
    """Its writer is done with it: it is with a screener in the same round."""
    ward.drop(film=b"film 1")
    ward.pipeline.notice("film", ward.now, whole=True)
    ward.pipeline.settle(ward.now)
    ward.pipeline.claim(ward.now)
    ward.pipeline.dispatch(ward.now)
    ward.work()
    ward.pipeline.record(ward.now)
    assert set(ward.results()) == {"film"}


def test_a_film_that_was_moved_in_broken_is_refused_no_sooner_than_others(ward: Ward) -> None:
    """Some writers move what they still write to: that costs the film nothing."""
    ward.drop(film=b"truncated")
    ward.pipeline.notice("film", ward.now, whole=True)
    ward.run(PATIENCE - 1)
    assert ward.results() == {}
    ward.run(2)
    assert ward.results()["film"]["refusal_code"] == "truncated"


def test_films_that_stay(ward: Ward) -> None:
    """Where films are left in the inbox each is screened once, also after a restart."""
    ward.begin(keep=True)
    ward.drop(film=b"film 1", bad=b"too_small")
    ward.run(SETTLE + 1)
    for _ in range(2):
        assert ward.left() == ["bad", "film"]
        assert sorted(ward.results()) == ["bad", "film"]
        assert ward.screeners.predicted == ["film"]
        ward.run(LEASE * 2)
        ward.begin(keep=True)
        ward.run(SETTLE + 1)
    assert len(query(ward.database, "SELECT * FROM scans")) == 2
    ward.drop(film=b"film 1, replaced")
    ward.run(SETTLE + 1)
    assert ward.screeners.predicted == ["film", "film"]


def test_the_database_is_not_asked_again_for_films_that_stay(ward: Ward) -> None:
    """However often the inbox is listed, a finished film is claimed once."""
    ward.begin(keep=True)
    ward.drop(film=b"film 1", bad=b"too_small")
    ward.run(SETTLE + 1)
    asked = ward.store.calls
    for _ in range(3):
        ward.pipeline.begin_listing()
        ward.run(SETTLE + 1)
    assert ward.store.calls == asked


def test_films_that_stayed_and_went(ward: Ward) -> None:
    """What something else takes away at last is not remembered for ever; what stays is."""
    ward.begin(keep=True)
    ward.drop(**{f"film-{number}": b"film %d" % number for number in range(20)})
    ward.run(SETTLE + 1)
    for path in list(ward.folder.iterdir())[:18]:
        path.unlink()
    for _ in range(3):
        ward.pipeline.begin_listing()
        ward.run(SETTLE + 1)
    assert len(ward.pipeline._kept) == 2
    assert len(ward.screeners.predicted) == 20
    assert ward.pipeline.idle


def test_two_workers_share_an_inbox(tmp_path: Path, database: Database) -> None:
    """Two workers that see the same films screen each once between them."""
    one, other = Ward(tmp_path, database), Ward(tmp_path, database, "ward-2")
    one.drop(**{f"film-{i}": b"film %d" % i for i in range(40)})
    for _ in range(40):
        one.step()
        other.step()
    assert len(one.results()) == 40
    predicted = one.screeners.predicted + other.screeners.predicted
    assert len(predicted) == len(set(predicted)) == 40
    assert one.left() == []
    assert len(one.told) + len(other.told) == 40


@pytest.fixture
def crew(tmp_path: Path, database: Database) -> tuple[Ward, Ward]:
    """Return two workers of one inbox, of whom the first lists and the other sees no names."""
    one, other = Ward(tmp_path, database), Ward(tmp_path, database, "ward-2")
    one.crew, other.crew = Crew(others=1), Crew(others=1, lists=False)
    one.drop(**{f"film-{i}": b"film %d" % i for i in range(400)})
    return one, other


def test_one_lists_and_both_screen(crew: tuple[Ward, Ward]) -> None:
    """What the one finds beyond what it can screen soon the other screens, each film once."""
    one, other = crew
    for _ in range(60):
        one.step()
        other.step()
    assert len(one.results()) == 400
    predicted = one.screeners.predicted + other.screeners.predicted
    assert len(predicted) == len(set(predicted)) == 400
    assert min(len(one.screeners.predicted), len(other.screeners.predicted)) > 100
    assert one.left() == []
    assert query(one.database, "SELECT max(attempt) AS n FROM scans") == [{"n": 1}]


def test_what_nobody_takes_is_screened_all_the_same(crew: tuple[Ward, Ward]) -> None:
    """Offers that no other takes are not lost sight of by the one that lists."""
    one, _ = crew
    for _ in range(12):
        one.step()
    assert query(one.database, "SELECT 1 FROM scans WHERE worker = ''"), "something is on offer"
    for _ in range(80):
        one.step()
    assert len(one.results()) == 400
    assert one.left() == []


def test_an_inbox_that_is_not_the_same_takes_nothing(crew: tuple[Ward, Ward]) -> None:
    """A worker that does not find what was offered, as on an empty mount point, lets go of it."""
    one, other = crew
    other.inbox = Flaky(
        Inbox(
            Folders(inbox=other.folder / "elsewhere", archive=other.folder, refused=other.folder)
        ),
        (),
        StorageTrouble(),
    )
    (other.folder / "elsewhere").mkdir()
    other.begin()
    for _ in range(80):
        one.step()
        other.step()
    assert len(one.results()) == 400
    assert other.screeners.predicted == []
    assert not query(one.database, "SELECT 1 FROM scans WHERE state = 'withdrawn'")


def test_what_is_let_go_of_is_free(tmp_path: Path, database: Database) -> None:
    """A worker that stops lets go of what it has not screened, and another has it at once."""
    one = Ward(tmp_path, database)
    one.drop(**{f"film-{i}": b"film %d" % i for i in range(20)})
    one.step()
    one.now += SETTLE
    one.pipeline.settle(one.now)
    one.pipeline.claim(one.now)
    one.pipeline.dispatch(one.now)
    in_hand = [claim for claim, _ in one.screeners.jobs]
    one.screeners.jobs = []
    one.pipeline.abandon(in_hand)
    one.pipeline.record(one.now)
    other = Ward(tmp_path, database, "ward-2")
    other.run(SETTLE + 2)
    assert len(other.results()) == 20


def test_a_film_that_only_seems_to_change(ward: Ward) -> None:
    """Read as another than it is looked at, by its file system's fault, it is told as unreadable.

    Once for each try, and less and less often: not by a row a second for ever.
    """
    ward.drop(film=b"fickle")
    ward.run(SETTLE + 60)
    assert list(ward.pipeline.unreadable) == ["film"]
    (row,) = query(ward.database, "SELECT state, attempt FROM scans")
    assert row["state"] == "claimed"
    assert row["attempt"] < 10
    (ward.folder / "film").write_bytes(b"film 1")
    ward.run(SETTLE + 61)
    assert list(ward.results()) == ["film"]
    assert not ward.pipeline.unreadable


def test_a_lost_film_on_a_broken_disk(ward: Ward) -> None:
    """If a film is lost and the inbox cannot be looked at then, the worker goes on all the same."""
    ward.drop(film=b"film 1")
    ward.step()
    ward.now += SETTLE
    ward.pipeline.settle(ward.now)
    ward.pipeline.claim(ward.now)
    ward.pipeline.dispatch(ward.now)
    (ward.folder / "film").write_bytes(b"film 1 and more")
    ward.folder.rename(ward.folder.with_name("away"))
    ward.folder.symlink_to(ward.folder)  # not to be reached at all
    ward.work()
    ward.folder.unlink()
    ward.folder.with_name("away").rename(ward.folder)
    ward.run(SETTLE + 1)
    assert list(ward.results()) == ["film"]


def test_when_something_is_due(ward: Ward) -> None:
    """The pipeline says when it must be called again though nothing happens."""
    assert ward.pipeline.next_due(ward.now) is None
    ward.drop(film=b"film 1")
    ward.pipeline.notice("film", ward.now)
    assert ward.pipeline.next_due(ward.now) == ward.now + SETTLE
    ward.now += SETTLE
    ward.pipeline.settle(ward.now)
    assert ward.pipeline.next_due(ward.now) == ward.now
    assert ward.pipeline.waiting == 1
    ward.pipeline.claim(ward.now)
    assert (ward.pipeline.waiting, ward.pipeline.in_hand) == (0, 1)


def test_a_film_that_cannot_be_moved_holds_up_nobody(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One film that may not leave the inbox keeps its verdict and its place; the others go on."""
    monkeypatch.setattr("worker.inbox.folders.move", may_not_move_anothers)
    ward.drop(**{"another's": b"film 1", "first": b"film 2"})
    assert ward.run(SETTLE + 1) == 0
    ward.drop(second=b"film 3")
    assert ward.run(30) == 0
    assert ward.left() == ["another's"]
    assert ward.results().keys() == {"another's", "first", "second"}
    assert ward.pipeline.stuck == 1
    monkeypatch.undo()
    ward.run(120)
    assert ward.left() == []
    assert ward.pipeline.stuck == 0
    assert len(ward.results()) == 3, "none was screened again"


def may_not_move_anothers(source: bytes, target: bytes, **_: Any) -> None:
    """Move a film, but for another's in a sticky folder."""
    if source.endswith(b"another's"):
        raise PermissionError(errno.EPERM, "Operation not permitted")
    move(source, target)


def step_on(ward: Ward) -> None:
    """Go on until there is trouble."""
    for _ in range(100):
        ward.step()


def record_but_not_file(ward: Ward) -> None:
    """Drop a film, and stop where its verdict is durable and its file still in the inbox."""
    ward.drop(film=b"film 1")
    ward.inbox.fail(1, after=False)
    with pytest.raises(StorageTrouble):
        step_on(ward)
    assert ward.left() == ["film"]
    assert query(ward.database, "SELECT state FROM scans") == [{"state": "recorded"}]


def test_an_inbox_that_is_empty_for_a_while_loses_nothing(ward: Ward) -> None:
    """A share is unmounted before its films are filed: back again, none is screened anew."""
    record_but_not_file(ward)
    away = ward.folder.rename(ward.folder.with_name("unmounted"))
    ward.folder.mkdir()  # the mount point beneath it
    ward.run(300)
    ward.folder.rmdir()
    away.rename(ward.folder)
    ward.run(120)
    assert ward.left() == []
    assert ward.screeners.predicted == ["film"]
    assert len(ward.results()) == 1


def test_a_film_taken_away_before_it_was_filed_is_given_up_in_the_end(ward: Ward) -> None:
    """Somebody took the file once its verdict was written: the row stands, and says no place."""
    record_but_not_file(ward)
    (ward.folder / "film").unlink()
    ward.run(60)
    assert ward.pipeline.idle, "nothing waits for it"
    ward.run(2 * 3600)
    assert ward.results()["film"]["filed_as"] is None
    assert query(ward.database, "SELECT state FROM scans") == [{"state": "filed"}]


@pytest.mark.parametrize("seen_before", [True, False])
def test_a_film_that_cannot_be_looked_at_holds_up_nobody(
    ward: Ward,
    monkeypatch: pytest.MonkeyPatch,
    seen_before: bool,  # noqa: FBT001
) -> None:
    """An I/O error on one name is that name's alone: the others are screened, it is tried again.

    It is told of, and waited for, whether or not it could ever be looked at.
    """
    real = os.stat

    def broken(path: Any, **options: Any) -> os.stat_result:
        if isinstance(path, bytes) and path.endswith(b"bad-sector"):
            raise OSError(errno.EIO, "Input/output error")
        return real(path, **options)

    ward.drop(**{"bad-sector": b"film 1"})
    if seen_before:
        ward.step()
    monkeypatch.setattr("worker.inbox.folders.os.stat", broken)
    ward.drop(good=b"film 2")
    assert ward.run(20) == 0
    assert ward.results().keys() == {"good"}
    assert ward.pipeline.unreadable.keys() == {"bad-sector"}
    assert ward.pipeline.unreadable["bad-sector"] < 6, "less and less often"
    monkeypatch.undo()
    ward.run(120)
    assert ward.results().keys() == {"good", "bad-sector"}
    assert not ward.pipeline.unreadable


def test_a_film_that_never_could_be_looked_at_and_went(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken away, it is no longer counted among those that cannot be read."""
    ward.drop(film=b"film 1")
    with monkeypatch.context() as broken:
        broken.setattr(Inbox, "look", cannot_be_looked_at)
        ward.run(5)
        assert ward.pipeline.unreadable.keys() == {"film"}
        assert ward.pipeline.waiting == 1
    (ward.folder / "film").unlink()
    ward.run(61)
    assert not ward.pipeline.unreadable
    assert ward.pipeline.waiting == 0
    assert ward.results() == {}


def cannot_be_looked_at(*_: Any) -> None:
    """Fail as a name on a bad sector does."""
    raise FilmStuck("a film cannot be looked at: Input/output error")
