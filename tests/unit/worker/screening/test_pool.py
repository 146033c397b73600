"""Real screeners kept alive: none lost, none double, whatever happens to the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import films
import packages
import pytest
from messages import NONSENSE
from pools import Ward
from swaps import children

import worker.screening.pool
from worker.errors import ScreenerTrouble
from worker.model.manifest import GOLDEN
from worker.screening.ipc import Result
from worker.screening.pool import Died, HandedBack, NotServing, Screened, Serving
from worker.system.processes import started_at
from worker.types import Claim


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    """Yield an inbox of six films and a pool of one screener that does not serve yet."""
    ward = Ward(tmp_path)
    film = films.jpeg(films.draw(4))
    for number in range(6):
        ward.drop(f"film-{number}.jpg", films.with_comment(film, b"%d" % number))
    yield ward
    left = ward.processes
    ward.pool.close()
    assert [pid for pid in left if started_at(pid)] == [], "a screener outlived its pool"


def stuck(ward: Ward, others: int = 3) -> tuple[Claim, list[Claim]]:
    """Have a screener stopped at a film, with others queued behind it."""
    os.kill(ward.processes[0], signal.SIGSTOP)
    head = ward.submit(ward.claim("film-0.jpg"))
    behind = [ward.submit(ward.claim(f"film-{i}.jpg")) for i in range(1, 1 + others)]
    return head, behind


def answered(ward: Ward, claims: list[Claim]) -> None:
    """Have films screened, and check that each is, by a screener that came in place of one."""
    for claim in claims:
        ward.submit(claim)
    ward.wait(lambda: {one.claim for one in ward.all_said(Screened)} >= set(claims))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_screener_that_ends_costs_one_film(
    ward: Ward, shipped: Path, number: signal.Signals
) -> None:
    """The film it was at is held to account; those behind come back, and another takes over."""
    ward.serve(shipped)
    head, behind = stuck(ward)
    os.kill(ward.processes[0], number)
    os.kill(ward.processes[0], signal.SIGCONT)
    died = ward.wait_for(Died)
    assert died == Died(claim=head, overran=False, how=f"signal {number.value}")
    ward.wait(lambda: len(ward.all_said(HandedBack)) == len(behind))
    assert [one.claim for one in ward.all_said(HandedBack)] == behind
    assert ward.pool.in_hand == 0
    answered(ward, behind)
    assert not ward.all_said(NotServing)


def test_a_screener_that_takes_too_long_is_ended(ward: Ward, shipped: Path) -> None:
    """One that is over its time is ended, though it is stopped and hears no request."""
    ward.serve(shipped)
    head, behind = stuck(ward)
    now = time.monotonic()
    for seconds in range(30):  # as often as the loop comes round
        ward.pool.tend(now + seconds)
    assert not ward.all_said(Died)
    for seconds in (30, 31, 32):
        ward.pool.tend(now + seconds)
    died = ward.wait_for(Died)
    assert (died.claim, died.overran) == (head, True)
    answered(ward, behind)


def test_time_counts_from_when_a_film_is_begun(ward: Ward, shipped: Path) -> None:
    """A film that waited behind a slow one has all of its own time."""
    ward.serve(shipped)
    _, [second] = stuck(ward, others=1)
    later = time.monotonic() + 29
    os.kill(ward.processes[0], signal.SIGCONT)
    said = list(ward.pool.poll(30, later))  # the head's end is heard at this time
    if not any(isinstance(one, Screened) and one.claim == second for one in said):
        ward.pool.tend(later + 29)
        ward.wait_for(Screened, lambda one: one.claim == second)
    assert not [one for one in [*said, *ward.said] if isinstance(one, Died)]


def test_a_suspect_is_alone(ward: Ward, shipped: Path) -> None:
    """A film that must be tried alone goes to an idle screener, which takes no other till then."""
    ward.serve(shipped)
    now = time.monotonic()
    [screener] = ward.processes
    os.kill(screener, signal.SIGSTOP)
    ward.submit(ward.claim("film-1.jpg"))
    suspect = ward.claim("film-0.jpg")
    assert not ward.pool.submit(suspect, now, alone=True)
    os.kill(screener, signal.SIGCONT)
    ward.wait_for(Screened)
    os.kill(screener, signal.SIGSTOP)
    assert ward.pool.submit(suspect, now, alone=True)
    assert ward.pool.room == 0
    assert not ward.pool.submit(ward.claim("film-2.jpg"), now)
    os.kill(screener, signal.SIGCONT)
    ward.wait_for(Screened, lambda one: one.claim == suspect)
    assert ward.pool.room == ward.pool.capacity


def test_no_more_than_fits(ward: Ward, shipped: Path) -> None:
    """A pool takes what it has room for; before it serves, nothing."""
    claims = [ward.claim(f"film-{i % 6}.jpg") for i in range(ward.pool.capacity + 2)]
    assert not ward.pool.submit(claims[0], 0.0)
    assert (ward.pool.room, ward.pool.alive) == (0, 0)
    ward.serve(shipped)
    os.kill(ward.processes[0], signal.SIGSTOP)
    taken = [ward.pool.submit(claim, time.monotonic()) for claim in claims]
    assert sum(taken) == ward.pool.capacity == ward.pool.in_hand
    assert ward.pool.room == 0
    assert ward.pool.close() == claims[: ward.pool.capacity]


# Models


def test_a_swap_loses_nothing(ward: Ward, shipped: Path, tmp_path: Path) -> None:
    """Films that come while a model is swapped all get one answer, and later ones the new one's."""
    following = packages.copy_package(shipped, tmp_path / "models", version="next-1")
    ward.serve(shipped)
    first = ward.wait_for(Serving).model_version
    claims = [ward.submit(ward.claim(f"film-{i}.jpg")) for i in range(3)]
    ward.pool.serve(following, time.monotonic())
    late = []
    while len(ward.all_said(Serving)) < 2:
        claims.append(ward.submit(ward.claim("film-4.jpg")))
        ward.wait(lambda: ward.pool.room)
    late = [ward.submit(ward.claim(f"film-{i}.jpg")) for i in range(3)]
    ward.wait(lambda: len(ward.all_said(Screened)) >= len(claims) + len(late))
    screened = ward.all_said(Screened)
    assert sorted(one.claim.scan_id for one in screened) == [one.scan_id for one in claims + late]
    assert {one.model_version for one in screened if one.claim in late} == {"next-1"}
    assert {one.model_version for one in screened} <= {first, "next-1"}
    assert [one.model_version for one in ward.all_said(Serving)] == [first, "next-1"]
    assert not ward.all_said(Died)
    ward.wait(lambda: len(ward.processes) == 1)


def unfit(shipped: Path, root: Path) -> Path:
    """Return a package that gives other outputs than it says it gives."""
    folder = packages.copy_package(shipped, root, version="spoilt-1")
    golden = packages.read_golden(folder)
    golden["logits"] = golden["logits"] + 1
    packages.replace_file(folder, GOLDEN, packages.golden_bytes(golden))
    return folder


def test_an_unfit_model_never_serves(ward: Ward, shipped: Path, tmp_path: Path) -> None:
    """A package that fails its checks is said to, with the reason, and the old one serves on."""
    ward.serve(shipped)
    spoilt = unfit(shipped, tmp_path / "models")
    refused = ward.serve(spoilt)
    assert isinstance(refused, NotServing)
    assert refused.package == spoilt
    assert "golden" in refused.why
    answered(ward, [ward.claim("film-0.jpg")])
    assert len(ward.processes) == 1


@pytest.mark.parametrize("make", [lambda path: path, unfit])
def test_without_a_model_nothing_serves(
    ward: Ward, shipped: Path, tmp_path: Path, make: Any
) -> None:
    """If the first package is missing or unfit nothing serves, until a fit one comes."""
    bad = tmp_path / "models" / "none" if make is not unfit else unfit(shipped, tmp_path / "models")
    assert isinstance(ward.serve(bad), NotServing)
    assert ward.pool.alive == 0
    assert isinstance(ward.serve(shipped), Serving)
    answered(ward, [ward.claim("film-0.jpg")])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Ward]:
    """Yield a pool of two screeners that does not serve yet, and a film."""
    (tmp_path / "pair").mkdir()
    ward = Ward(tmp_path / "pair", count=2)
    ward.drop("film-0.jpg", films.jpeg(films.draw(4)))
    yield ward
    ward.pool.close()


def test_one_that_waits_for_the_others_may_be_killed(pair: Ward, shipped: Path) -> None:
    """Ended when it is ready and the others are not, a screener leaves nobody waiting for it."""
    pair.pool.serve(shipped, time.monotonic())
    ready, slow = pair.pool._screeners
    os.kill(slow.process.pid, signal.SIGSTOP)
    pair.wait(lambda: ready.version)
    assert not pair.all_said(Serving)
    os.kill(ready.process.pid, signal.SIGKILL)
    os.kill(slow.process.pid, signal.SIGCONT)
    assert not pair.wait_for(NotServing).proven
    assert pair.processes == []
    assert isinstance(pair.serve(shipped), Serving)
    answered(pair, [pair.claim("film-0.jpg")])


def test_half_of_them_started(pair: Ward, shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system starts one process and not the next, asking again starts them all."""
    start, started = subprocess.Popen, 0

    def start_one(*arguments: Any, **kwargs: Any) -> Any:
        nonlocal started
        started += 1
        if started == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return start(*arguments, **kwargs)

    monkeypatch.setattr(worker.screening.pool.subprocess, "Popen", start_one)  # type: ignore[attr-defined]
    with pytest.raises(ScreenerTrouble, match="cannot be started"):
        pair.pool.serve(shipped, time.monotonic())
    assert pair.processes == []
    assert isinstance(pair.serve(shipped), Serving)
    assert len(pair.processes) == 2


def refuse(monkeypatch: pytest.MonkeyPatch, *, after: int = 0) -> None:
    """Have the system start so many processes more, and then none."""
    start, started = subprocess.Popen, 0

    def start_some(*arguments: Any, **kwargs: Any) -> Any:
        nonlocal started
        started += 1
        if started > after:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return start(*arguments, **kwargs)

    monkeypatch.setattr(worker.screening.pool.subprocess, "Popen", start_some)  # type: ignore[attr-defined]


def test_half_of_a_swap_started(
    pair: Ward, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one of the new screeners cannot be started, the old ones serve on, and they alone."""
    following = packages.copy_package(shipped, tmp_path / "models", version="next-1")
    pair.serve(shipped)
    serving, all_ours = pair.processes, children(os.getpid())
    with monkeypatch.context() as patch:
        refuse(patch, after=1)
        with pytest.raises(ScreenerTrouble, match="cannot be started"):
            pair.pool.serve(following, time.monotonic())
        assert pair.processes == serving
        assert children(os.getpid()) == all_ours
        answered(pair, [pair.claim("film-0.jpg")])
    assert isinstance(pair.serve(following), Serving)
    answered(pair, [pair.claim("film-0.jpg")])
    assert pair.all_said(Screened)[-1].model_version == "next-1"


def test_one_that_cannot_be_replaced(
    pair: Ward, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other screens on meanwhile; only where none is left is that trouble of our own."""
    pair.serve(shipped)
    gone, left = pair.processes
    with monkeypatch.context() as patch:
        refuse(patch)
        os.kill(gone, signal.SIGKILL)
        pair.wait(lambda: pair.pool.lacking)
        assert "cannot be started" in pair.pool.lacking
        answered(pair, [pair.claim("film-0.jpg")])
        os.kill(left, signal.SIGKILL)
        with pytest.raises(ScreenerTrouble, match="cannot be started"):
            pair.wait(lambda: False)
    pair.wait(lambda: pair.pool.alive == 2)
    assert not pair.pool.lacking


def test_back_to_what_serves(ward: Ward, shipped: Path, tmp_path: Path) -> None:
    """A swap called off, and one asked for twice, leave as many screeners as there should be."""
    following = packages.copy_package(shipped, tmp_path / "models", version="next-1")
    ward.serve(shipped)
    serving = ward.processes
    ward.pool.serve(following, time.monotonic())
    ward.pool.serve(following, time.monotonic())
    assert len(ward.processes) == 2
    ward.pool.serve(shipped, time.monotonic())
    assert ward.processes == serving
    answered(ward, [ward.claim("film-0.jpg")])
    assert len(ward.all_said(Serving)) == 1


# Screeners that misbehave

_IMPOSTOR = """
import socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
channel.recv(65536)
channel.send(b'["Ready", {"model_version": "impostor", "unfenced": ""}]')
channel.recv(65536)
nonsense = bytes.fromhex(sys.argv[2])
channel.send(nonsense)
while sys.argv[3] == "flood":
    channel.send(nonsense)
while channel.recv(65536):
    pass
"""


def impostor(monkeypatch: pytest.MonkeyPatch, nonsense: bytes, *, flood: bool = False) -> None:
    """Have the pool start, in place of screeners, processes that answer a film with nonsense."""
    start = subprocess.Popen

    def start_impostor(command: list[str], **kwargs: Any) -> Any:
        arguments = [command[-1], nonsense.hex(), "flood" if flood else "once"]
        return start([sys.executable, "-I", "-c", _IMPOSTOR, *arguments], **kwargs)

    monkeypatch.setattr(worker.screening.pool.subprocess, "Popen", start_impostor)  # type: ignore[attr-defined]


OUT_OF_TURN = {
    "no fit after all": b'["Unfit", {"why": "it is not"}]',
    "a job": b'["Job", {"scan_id": 1, "name": "a", "size_bytes": 1, "mtime_ns": 1, "inode": 1}]',
    "another film's result": next(one for name, one in NONSENSE.items() if "sentence" in name)
    .replace(b'["x"]', b"null")
    .replace(b'"scan_id": 1', b'"scan_id": 99'),
}


@pytest.mark.parametrize(
    "nonsense",
    [*(NONSENSE[name] for name in list(NONSENSE)[:9:3]), NONSENSE["deep"][:20_000]]
    + [one for name, one in NONSENSE.items() if "dance" in name or "no_such" in name]
    + list(OUT_OF_TURN.values()),
    ids=lambda one: ascii(one[:40]),
)
def test_nonsense_is_as_good_as_a_crash(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nonsense: bytes
) -> None:
    """A screener that answers nonsense is ended, and its film held to account."""
    impostor(monkeypatch, nonsense)
    ward.serve(tmp_path)
    claim, behind = (ward.submit(ward.claim(f"film-{i}.jpg")) for i in range(2))
    died = ward.wait_for(Died)
    assert (died.claim, died.overran) == (claim, False)
    assert ward.wait_for(HandedBack).claim == behind
    assert not ward.all_said(Screened)


@pytest.mark.parametrize("why", ["EIO", "EACCES"])
def test_a_film_that_cannot_be_read(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, why: str
) -> None:
    """A bad sector costs no screener; one goes that may not open what the inbox holds now."""
    unread = Result(scan_id=1, kind="unreadable", sentence=why).encode()
    impostor(monkeypatch, unread)
    ward.serve(tmp_path)
    (before,) = ward.processes
    ward.submit(ward.claim("film-0.jpg"))
    ward.wait_for(Screened)
    ward.pool.tend(time.monotonic())
    assert (ward.processes == [before]) == (why == "EIO")


READY = b'["Ready", {"model_version": "impostor", "unfenced": ""}]'


@pytest.mark.parametrize("flood", [READY, b"[]", OUT_OF_TURN["another film's result"]])
def test_a_flood_of_messages_keeps_nobody(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flood: bytes
) -> None:
    """A screener that talks without end, or says again that it is ready, is ended."""
    impostor(monkeypatch, flood, flood=True)
    ward.serve(tmp_path)
    claim = ward.submit(ward.claim("film-0.jpg"))
    assert ward.wait_for(Died).claim == claim


def test_a_loop_that_was_held_up_blames_no_screener(ward: Ward, shipped: Path) -> None:
    """Where we ourselves stood still for a minute, no film is said to have taken too long."""
    ward.serve(shipped)
    (screener,) = ward.processes
    os.kill(screener, signal.SIGSTOP)
    now = time.monotonic()
    ward.pool.tend(now)
    ward.pool.submit(ward.claim("film-0.jpg"), now)
    ward.pool.tend(now + 3600)
    ward.pool.tend(now + 3601)
    os.kill(screener, signal.SIGCONT)
    ward.wait_for(Screened)
    assert not ward.all_said(Died)


def test_screeners_that_cannot_live_are_trouble(
    ward: Ward, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If screeners end as soon as they start, that is said, not tried as fast as can be."""
    ward.serve(shipped)
    start, started = subprocess.Popen, 0

    def start_nothing(_command: list[str], **kwargs: Any) -> Any:
        nonlocal started
        started += 1
        return start(["false"], **kwargs)

    monkeypatch.setattr(worker.screening.pool.subprocess, "Popen", start_nothing)  # type: ignore[attr-defined]
    os.kill(ward.processes[0], signal.SIGKILL)
    now = time.monotonic()

    def fail() -> None:
        nonlocal now
        for _ in range(400):
            now += 0.5
            ward.said.extend(ward.pool.poll(0.02, now))
            ward.pool.tend(now)

    with pytest.raises(ScreenerTrouble, match="as soon as they start"):
        fail()
    assert started < 10


def test_no_process_to_be_had(ward: Ward, shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system starts no process, that is trouble of our own."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(worker.screening.pool.subprocess, "Popen", refuse)  # type: ignore[attr-defined]
    with pytest.raises(ScreenerTrouble, match="cannot be started"):
        ward.pool.serve(shipped, 0.0)


def test_a_descriptor_wakes_the_poll(ward: Ward) -> None:
    """Whatever can be read from a watched descriptor ends the wait."""
    read, write = os.pipe()
    ward.pool.watch(read)
    os.write(write, b"w")
    began = time.monotonic()
    assert list(ward.pool.poll(60.0, began)) == []
    assert time.monotonic() - began < 30
    for descriptor in (read, write):
        os.close(descriptor)
