"""Damaged bytes are never scored, mutated ones harm nobody, and sound oddities pass."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import films
import pytest
from driver import Site
from packages import copy_package
from swaps import check_rows_are_of_their_models, children, wait_until_serving
from trials import Trial

from worker.errors import FilmRefused
from worker.imaging.jpeg import parse_header
from worker.imaging.preprocessing import PREPROCESSING_VERSION, scale
from worker.model.manifest import Manifest, read_manifest

_SECTOR = 4096
_FULL_SIZE = 4  # times 320 x 272


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(1, len(data) - 1)]


def _zero_tail(data: bytes, chance: random.Random) -> bytes:
    return films.zeroed(data, chance.uniform(0.01, 0.99))


def _zero_tail_and_end(data: bytes, chance: random.Random) -> bytes:
    """Zero the tail but for the end marker: it looks whole from both ends."""
    return films.zeroed(data, chance.uniform(0.1, 0.95))[:-2] + films.EOI


def _hole(data: bytes, chance: random.Random) -> bytes:
    """Zero a sector where the copy would have put it."""
    at = _SECTOR * chance.randrange(1, len(data) // _SECTOR)
    return data[:at] + bytes(min(_SECTOR, len(data) - at)) + data[at + _SECTOR :]


def _random_tail(data: bytes, chance: random.Random) -> bytes:
    at = int(len(data) * chance.uniform(0.2, 0.9))
    return data[:at] + chance.randbytes(len(data) - at)


def _lost_middle(data: bytes, chance: random.Random) -> bytes:
    """Lose a piece; not of a progressive film's last pass, which can lose one without a trace.

    That pass refines the picture by a step of grey: of what is lost there no more can be seen.
    """
    at = int(len(data) * chance.uniform(0.1, 0.25))
    return data[:at] + data[at + _SECTOR // 2 :]


_DAMAGE = (_cut, _zero_tail, _zero_tail_and_end, _hole, _random_tail, _lost_middle)
Spoil = Callable[[bytes, random.Random], bytes]


def _pictures(count: int = 6, *, times: int = 1) -> list[bytes]:
    width, height = 320 * times, 272 * times
    drawn = [films.draw(number, width=width, height=height, opacity=0.5) for number in range(count)]
    quality = 92 if times == 1 else 80  # a full count of full-size films has to fit into memory
    return [
        films.jpeg(one, quality=quality, progressive=bool(n % 2)) for n, one in enumerate(drawn)
    ]


def _sound(times: int) -> dict[str, bytes]:
    return {f"sound-{name}.jpg": data for name, data in films.odd_but_sound(times).items()}


def _at_reduced_scale(manifest: Manifest, everything: Mapping[str, bytes]) -> set[str]:
    """Return which films a package has decoded at reduced scale, by their headers."""
    names = set()
    for name, data in everything.items():
        with contextlib.suppress(FilmRefused):
            eighths = scale(
                parse_header(data),
                height=manifest.height,
                width=manifest.width,
                version=manifest.preprocessing_version,
            )
            if eighths < 8:
                names.add(name)
    return names


def _screened(site: Site, everything: Mapping[str, bytes], shipped: str) -> None:
    """Have one worker screen everything with the screeners it began with."""
    site.settings |= {"INCOMPLETE_SECONDS": "0"}
    worker = site.start()
    wait_until_serving(site, shipped)
    site.drop(everything)
    site.wait_until_finished(len(everything))
    assert worker.poll() is None, "the worker must outlive them"
    assert children(worker.pid)


@pytest.mark.parametrize("times", [1, _FULL_SIZE], ids=["small", "full_size"])
def test_no_damaged_film_is_scored(site: Site, trial: Trial, shipped: Path, times: int) -> None:
    """Of films cut, zeroed, holed or overwritten anywhere none is scored; sound ones all are.

    Full-size films are decoded at reduced scale: the rows of sound ones hold what its pixels give.
    """
    package = copy_package(
        shipped, site.models, version="damage", preprocessing_version=PREPROCESSING_VERSION
    )
    (site.models / "CHAMPION").write_text(f"{package.name}\n", encoding="ascii")
    few, drawn = (180, 6) if times == 1 else (48, 2)  # full-size films take long to draw
    chance, sound = random.Random(31), _sound(times)
    pictures = _pictures(trial.count(drawn, 6), times=times)
    damaged = {}
    for number in range(trial.count(few, 10_000)):
        spoil: Spoil = _DAMAGE[number % len(_DAMAGE)]
        data = spoil(pictures[number // len(_DAMAGE) % len(pictures)], chance)
        damaged[f"{spoil.__name__}-{number}.jpg"] = films.with_comment(data, b"%d" % number)
    everything = damaged | sound
    _screened(site, everything, package.name)
    scored = {row["file_name"] for row in site.results() if row["refusal_code"] is None}
    assert scored & damaged.keys() == set()
    assert scored == sound.keys()
    if times == _FULL_SIZE:
        reduced = _at_reduced_scale(read_manifest(package), everything)
        assert sound.keys() <= reduced
        assert len(reduced & damaged.keys()) > 0.9 * len(damaged)
        rows = [row for row in site.results() if row["file_name"] in scored]
        check_rows_are_of_their_models(site, sound, rows=rows)
    trial.end(site, everything)


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """Change a JPEG anywhere: bits, bytes, markers, lengths, pieces swapped, doubled or dropped."""
    mutable = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 40))):
        at = chance.randrange(len(mutable))
        if chance.random() < 0.5:
            at = min(at, chance.randrange(700))  # the headers are where it hurts
        match chance.randrange(7):
            case 0:
                mutable[at] ^= 1 << chance.randrange(8)
            case 1:
                mutable[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 2:
                mutable[at : at + 2] = bytes((0xFF, chance.randrange(0xC0, 0x100)))
            case 3:
                mutable[at : at + 2] = chance.choice((b"\0\0", b"\0\2", b"\xff\xff", b"\x7f\xff"))
            case 4:
                mutable[at:at] = mutable[at : at + chance.randrange(1, 600)]
            case 5 if len(mutable) > 1000:
                del mutable[at : at + chance.randrange(1, 600)]
            case _:
                mutable[at : at + 8] = chance.randbytes(8)
    return bytes(mutable)


@pytest.mark.slow
def test_no_mutated_file_harms_the_worker(site: Site, trial: Trial, shipped: Path) -> None:
    """However a film is mutated it is answered once; no screener dies or stalls of it."""
    chance, pictures = random.Random(32), _pictures()
    odd = [films.jpeg(films.draw(9, width=200, height=160), orientation=6, restart_rows=1)]
    odd += [data for name, data in films.odd_but_sound().items() if len(data) < 60_000]
    mutated = {
        f"mutated-{number}.jpg": _mutated((pictures + odd)[number % len(pictures + odd)], chance)
        for number in range(trial.count(200, 10_000))
    }
    _screened(site, mutated, shipped.name)
    codes = {row["refusal_code"] for row in site.results()}
    assert len(codes) > 3, "they must be mutated in more than one way"
    assert not {code for code in codes if code and code.startswith("screener_")}
    trial.end(site, mutated)
