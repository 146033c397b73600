"""A real screener, a child process on the shipped model: for each film the one right answer."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import films
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import NONSENSE, RESULT
from packages import copy_package
from pixels import read_for
from pools import Ward

from worker.errors import RefusalCode
from worker.imaging.preprocessing import PREPROCESSING_VERSIONS, FilmLimits, read_film
from worker.model.runtime import load
from worker.screening.ipc import Channel, Result, Unfit, decode, refusal_from
from worker.screening.pool import Serving


@pytest.fixture(scope="module")
def ward(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """Yield a pool with one screener that serves the shipped model."""
    ward = Ward(tmp_path_factory.mktemp("ward"))
    assert isinstance(ward.serve(shipped), Serving)
    yield ward
    assert ward.pool.close() == []


def test_a_film_is_predicted(ward: Ward, shipped: Path) -> None:
    """A screener says of a film what the package says of it when it is loaded here."""
    data = films.jpeg(films.draw(3, opacity=0.7))
    ward.drop("film.jpg", data)
    screened = ward.screen(ward.claim("film.jpg"))
    model = load(shipped)
    film = read_for(model.manifest, data)
    result = screened.result
    assert result.kind == "predicted"
    assert result.logit == model.predict(film.pixels).logit
    assert (result.width, result.height, result.contrast) == (
        film.width,
        film.height,
        film.contrast,
    )
    assert screened.model_version == model.manifest.version


def test_each_package_is_given_the_pixels_it_was_made_for(shipped: Path, tmp_path: Path) -> None:
    """A package of preprocessing 1 goes on with its own pixels, beside one of preprocessing 2."""
    data = films.odd_but_sound(4)["plain"]  # 1280 x 1088
    ward = Ward(tmp_path)
    ward.drop("film.jpg", data)
    logits = []
    for version in PREPROCESSING_VERSIONS:
        package = copy_package(
            shipped, tmp_path, version=f"of-{version}", preprocessing_version=version, familiar=None
        )
        assert isinstance(ward.serve(package), Serving)
        model = load(package)
        pixels = read_film(
            data, height=model.manifest.height, width=model.manifest.width, version=version
        ).pixels
        logits.append(ward.screen(ward.claim("film.jpg")).result.logit)
        assert logits[-1] == model.predict(pixels).logit
    assert len(set(logits)) == len(PREPROCESSING_VERSIONS)
    ward.pool.close()


def test_the_same_bytes_give_the_same_answer(ward: Ward) -> None:
    """Screening the same bytes again gives the very same logit and digest."""
    data = films.jpeg(films.draw(5))
    ward.drop("one.jpg", data)
    ward.drop("two.jpg", data)
    one, two = (ward.screen(ward.claim(name)).result for name in ("one.jpg", "two.jpg"))
    assert one == replace(two, scan_id=one.scan_id)


@pytest.mark.parametrize(
    "name", ["empty", "text", "truncated_at_50", "hole", "too_small", "huge", "2000_scans", "black"]
)
def test_a_bad_film_is_refused(ward: Ward, name: str) -> None:
    """A bad film comes back with its code and no logit, and the screener serves on."""
    bad = films.bad_films()[name]
    ward.drop("bad.jpg", bad.data)
    result = ward.screen(ward.claim("bad.jpg")).result
    assert result.kind == "refused"
    assert refusal_from(result).code in bad.codes
    assert result.logit is None
    assert result.sentence


def test_a_file_too_large_is_not_read(ward: Ward) -> None:
    """A file over the limit is refused by its size alone, however little of it is on disk."""
    path = ward.inbox / "large.jpg"
    path.touch()
    os.truncate(path, FilmLimits().max_bytes + 1)
    result = ward.screen(ward.claim("large.jpg")).result
    assert (result.kind, result.code) == ("refused", RefusalCode.TOO_MANY_BYTES.value)
    assert result.sha256 is None


def _replace(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: _replace(path, lambda at: at.write_bytes(b"another film")),
        lambda path: path.rename(path.with_name("b.jpg")) and path.symlink_to("b.jpg"),
        lambda path: _replace(path, os.mkfifo),
        lambda path: _replace(path, lambda at: at.mkdir()),
        lambda path: _replace(path, lambda at: at.symlink_to(at)),
        lambda path: _replace(path, lambda at: at.symlink_to("/dev/zero")),
    ],
    ids=["gone", "grown", "touched", "replaced", "link", "fifo", "folder", "loop", "device"],
)
def test_a_film_that_changed_is_lost(
    ward: Ward, change: Callable[[Path], Any], request: pytest.FixtureRequest
) -> None:
    """A file that is no longer what was sighted is not read, and gets no verdict."""
    name = f"{request.node.callspec.id}.jpg"
    ward.drop(name, films.jpeg(films.draw(1)))
    claim = ward.claim(name)
    change(ward.inbox / name)
    assert ward.screen(claim).result == Result(scan_id=claim.scan_id, kind="lost")


def test_a_film_that_cannot_be_opened(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is no refusal: it says which error, and is tried again."""
    from worker.screening.ipc import Job, Setup
    from worker.screening.screener import Screener

    ward.drop("film.jpg", films.jpeg(films.draw(1)))
    claim = ward.claim("film.jpg")
    setup = Setup(inbox=str(ward.inbox), package="", limits=asdict(FilmLimits()), memory_mb=1)
    ours, theirs = wire()
    screener = Screener(theirs, setup, None)  # type: ignore[arg-type]
    job = Job(scan_id=1, **asdict(claim.sighting))

    def denied(*_: Any) -> int:  # for root nothing is
        raise PermissionError(errno.EACCES, "denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        result = screener._screen(job)
    ours.close()
    theirs.close()
    assert (result.kind, result.sentence) == ("unreadable", "EACCES")


def test_a_film_that_takes_too_much_memory(shipped: Path, tmp_path: Path) -> None:
    """A film for which there is not enough memory costs neither the screener nor the next film."""
    ward = Ward(tmp_path, memory_mb=40)
    assert isinstance(ward.serve(shipped), Serving)
    small_film = films.draw(1)
    # Progressive: its coefficients are kept whole, at whatever scale it is decoded.
    ward.drop("large.jpg", films.jpeg(np.tile(small_film, (16, 16)), quality=30, progressive=True))
    ward.drop("small.jpg", films.jpeg(small_film))
    screener = ward.processes
    large, small = (ward.screen(ward.claim(name)).result for name in ("large.jpg", "small.jpg"))
    assert (large.kind, large.logit) == ("out_of_memory", None)
    assert small.kind == "predicted"
    assert ward.processes == screener
    ward.pool.close()


# The wire


def wire() -> tuple[Channel, Channel]:
    """Return the two ends of a connection: the parent's, and the child's."""
    ours, theirs = Channel.pair()
    return ours, Channel(theirs)


@settings(max_examples=30)
@given(st.text(max_size=200))
def test_messages_come_as_they_were_sent(why: str) -> None:
    """A message means the same on either side, whatever text is in it."""
    ours, theirs = wire()
    theirs.send(Unfit(why=why))
    assert ours.receive() == Unfit(why=why)
    assert ours.receive() is None, "the parent never waits"
    for end in (ours, theirs):
        end.close()


def test_what_nonsense_is_made_of_is_none() -> None:
    """Else all of it would be told by what is the matter with every one."""
    assert decode(json.dumps(["Result", RESULT]).encode()) == Result(scan_id=1, kind="lost")


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_told_from_messages(nonsense: bytes) -> None:
    """Nothing but a whole message of a known kind is taken for one."""
    with pytest.raises(ValueError):  # noqa: PT011 - which words is no matter
        decode(nonsense)
