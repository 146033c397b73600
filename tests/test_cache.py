"""Films are decoded once, and the cache that remembers them may be deleted at any time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from films import draw, jpeg

from training import cache
from training.cache import decode_films
from training.dataset import LabelledScan, Side
from worker.errors import RefusalCode
from worker.preprocessing import Pixels, read_film


def scan(folder: Path, seed: int, data: bytes | None = None) -> LabelledScan:
    """Write a drawn film and return it as a labelled scan."""
    path = folder / f"{seed}.jpeg"
    path.write_bytes(jpeg(draw(seed, width=160, height=120)) if data is None else data)
    return LabelledScan(
        path=path, name=path.name, label="NORMAL", sha256=f"{seed:064x}", patient="", side=Side.TEST
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of films as they are decoded."""
    names: list[str] = []
    read = cache._read

    def noting(path: Path, *, height: int, width: int) -> Pixels | str:
        names.append(path.name)
        return read(path, height=height, width=width)

    monkeypatch.setattr(cache, "_read", noting)
    return names


def test_pixels_are_those_the_worker_sees(tmp_path: Path) -> None:
    """What is cached is what `read_film` makes, in the order asked for, from the disk again too."""
    scans = [scan(tmp_path, seed) for seed in (5, 3, 4)]
    expected = [read_film(s.path.read_bytes(), height=32, width=24).pixels for s in scans]
    for _ in range(2):
        films = decode_films(scans, tmp_path / "cache", height=32, width=24)
        np.testing.assert_array_equal(films.select(scans), expected)
        np.testing.assert_array_equal(films.select(scans[::-1]), expected[::-1])


def test_only_new_films_are_decoded(tmp_path: Path, decoded: list[str]) -> None:
    """A night with one new film decodes one, and the old ones keep their pixels."""
    scans = [scan(tmp_path, seed) for seed in range(3)]
    before = decode_films(scans, tmp_path / "cache", height=32, width=32).select(scans)
    decoded.clear()
    grown = [*scans, scan(tmp_path, 9)]
    films = decode_films(grown, tmp_path / "cache", height=32, width=32)
    assert decoded == ["9.jpeg"]
    np.testing.assert_array_equal(films.select(scans), before)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_another_size_is_decoded_anew(tmp_path: Path, decoded: list[str]) -> None:
    """Pixels of one size never stand in for those of another, and neither sweeps the other."""
    scans = [scan(tmp_path, 0)]
    for side in (32, 48, 32, 48):
        films = decode_films(scans, tmp_path / "cache", height=side, width=side)
        assert films.select(scans).shape == (1, side, side)
    assert decoded == ["0.jpeg", "0.jpeg"]


@pytest.mark.parametrize("spoil", ["delete", "truncate", "orphan"])
def test_a_spoilt_cache_is_made_again(tmp_path: Path, spoil: str) -> None:
    """A cache that is gone, cut short, or left behind by a killed run costs time and no more."""
    folder = tmp_path / "cache"
    scans = [scan(tmp_path, seed) for seed in range(3)]
    before = decode_films(scans, folder, height=32, width=32).select(scans)
    (array,), (index,) = folder.glob("*.npy"), folder.glob("*.json")
    if spoil == "delete":
        array.unlink()
    elif spoil == "truncate":
        array.write_bytes(array.read_bytes()[:500])
    else:
        index.unlink()
    films = decode_films(scans, folder, height=32, width=32)
    np.testing.assert_array_equal(films.select(scans), before)


def test_refused_films_are_noted_with_their_code(tmp_path: Path, decoded: list[str]) -> None:
    """A film that the worker would refuse has no pixels to learn from, tonight or tomorrow."""
    scans = [scan(tmp_path, 0), scan(tmp_path, 1, b"no film")]
    for _ in range(2):
        films = decode_films(scans, tmp_path / "cache", height=32, width=32)
        assert films.refused == {scans[1].sha256: RefusalCode.NOT_A_JPEG}
        assert films.rows.keys() == {scans[0].sha256}
    assert decoded == ["0.jpeg", "1.jpeg"]


def test_a_pool_decodes_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many films go through a pool of processes and come out the same and in order."""
    scans = [scan(tmp_path, seed) for seed in range(6)]
    alone = decode_films(scans, tmp_path / "alone", height=32, width=32).select(scans)
    monkeypatch.setattr(cache, "_POOL_FROM", 1)
    pooled = decode_films(scans, tmp_path / "pooled", height=32, width=32).select(scans)
    np.testing.assert_array_equal(pooled, alone)
