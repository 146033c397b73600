"""Films are decoded once, and the cache that remembers them may be deleted at any time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from films import draw, jpeg
from pixels import pixels_of

from training.data import cache
from training.data.cache import decode_films
from training.data.dataset import LabelledScan, Side
from training.data.native_sizes import Size
from training.data.near_duplicates import perceptual_hash
from worker.errors import DataError, RefusalCode
from worker.imaging.jpeg import parse_header


def scan(folder: Path, seed: int, data: bytes | None = None) -> LabelledScan:
    """Write a drawn film and return it as a labelled scan."""
    path = folder / f"{seed}.jpeg"
    data = jpeg(draw(seed, width=160, height=120)) if data is None else data
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return LabelledScan(
        path=path, name=path.name, label="NORMAL", sha256=digest, patient="", side=Side.TEST
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of films as they are decoded."""
    names: list[str] = []
    read = cache._read

    def noting(path: Path, sha256: str, *, height: int, width: int) -> cache.Decoded | str:
        names.append(path.name)
        return read(path, sha256, height=height, width=width)

    monkeypatch.setattr(cache, "_read", noting)
    return names


def test_pixels_are_those_the_worker_sees(tmp_path: Path) -> None:
    """What is cached is what `read_film` makes, in the order asked for, from the disk again too."""
    scans = [scan(tmp_path, seed) for seed in (5, 3, 4)]
    expected = [pixels_of(s.path.read_bytes(), height=32, width=24) for s in scans]
    for _ in range(2):
        films = decode_films(scans, tmp_path / "cache", height=32, width=24)
        np.testing.assert_array_equal(films.select(scans), expected)
        np.testing.assert_array_equal(films.select(scans[::-1]), expected[::-1])


def test_the_cache_keeps_what_files_are_like(tmp_path: Path, decoded: list[str]) -> None:
    """Upright size and encoder, on later nights too, also after other films were pruned."""
    film = draw(1, width=160, height=120)
    scans = [
        scan(tmp_path, 0),
        scan(tmp_path, 1, jpeg(film, orientation=6)),
        scan(tmp_path, 2, jpeg(film, quality=50)),
    ]
    sizes = [Size(160, 120), Size(120, 160), Size(160, 120)]
    for wanted in (scans, scans, scans[1:]):
        films = decode_films(wanted, tmp_path / "cache", height=32, width=32)
        assert films.sizes == {s.sha256: sizes[int(s.path.stem)] for s in wanted}
        for one in wanted:
            header = parse_header(one.path.read_bytes())
            assert films.files[one.sha256].encoding == header.encoding
            assert films.files[one.sha256].quantisation == header.quantisation.hex()
    assert len(decoded) == 3
    first, second = (films.files[one.sha256].quantisation for one in scans[1:])
    assert len(first) == len(second) == 2 * 65
    assert first != second


def test_a_cache_of_an_earlier_release_is_made_again(tmp_path: Path, decoded: list[str]) -> None:
    """It does not say what files are like."""
    scans = [scan(tmp_path, seed) for seed in range(2)]
    decode_films(scans, tmp_path / "cache", height=32, width=32)
    (index,) = (tmp_path / "cache").glob("*.json")
    facts = json.loads(index.read_bytes())
    index.write_text(json.dumps({name: facts[name] for name in ("rows", "refused")}))
    films = decode_films(scans, tmp_path / "cache", height=32, width=32)
    assert films.files.keys() == {one.sha256 for one in scans}
    assert len(decoded) == 4


def test_only_new_films_are_decoded(tmp_path: Path, decoded: list[str]) -> None:
    """A night with one new film decodes one, and the old ones keep their pixels."""
    scans = [scan(tmp_path, seed) for seed in range(3)]
    before = decode_films(scans, tmp_path / "cache", height=32, width=32).select(scans)
    decoded.clear()
    grown = [*scans, scan(tmp_path, 9)]
    films = decode_films(grown, tmp_path / "cache", height=32, width=32)
    assert decoded == ["9.jpeg"]
    np.testing.assert_array_equal(films.select(scans), before)
    assert len(list((tmp_path / "cache").glob("*.pixels"))) == 1
    decoded.clear()
    fewer = decode_films(scans[1:], tmp_path / "cache", height=32, width=32)
    assert decoded == []
    assert fewer.rows.keys() == {one.sha256 for one in scans[1:]}


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
    (array,), (index,) = folder.glob("*.pixels"), folder.glob("*.json")
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
    monkeypatch.setattr(cache, "_BLOCK", 4)
    pooled = decode_films(scans, tmp_path / "pooled", height=32, width=32).select(scans)
    np.testing.assert_array_equal(pooled, alone)


def test_a_killed_run_keeps_what_it_had_decoded(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one decodes the rest, over whatever was written and not yet named."""
    scans = [scan(tmp_path, seed) for seed in range(7)]
    monkeypatch.setattr(cache, "_BLOCK", 3)
    noting = cache._read

    def killed(path: Path, sha256: str, *, height: int, width: int) -> cache.Decoded | str:
        if path.name == "4.jpeg":
            raise KeyboardInterrupt
        return noting(path, sha256, height=height, width=width)

    with monkeypatch.context() as once:
        once.setattr(cache, "_read", killed)
        with pytest.raises(KeyboardInterrupt):
            decode_films(scans, tmp_path / "cache", height=32, width=32)
    (pixels,) = (tmp_path / "cache").glob("*.pixels")
    with pixels.open("ab") as file:
        file.write(b"half a film")
    decoded.clear()
    films = decode_films(scans, tmp_path / "cache", height=32, width=32)
    assert decoded == ["3.jpeg", "4.jpeg", "5.jpeg", "6.jpeg"]
    expected = [pixels_of(s.path.read_bytes(), height=32, width=32) for s in scans]
    np.testing.assert_array_equal(films.select(scans), expected)


def test_a_process_that_is_ended_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that the system kills ends the night with a sentence, not with a traceback."""
    monkeypatch.setattr(cache, "_POOL_FROM", 1)
    monkeypatch.setattr(cache, "_read", _die)
    with pytest.raises(DataError, match="was killed"):
        decode_films([scan(tmp_path, 0)], tmp_path / "cache", height=32, width=32)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_film_that_went_away_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, pooled: bool
) -> None:
    """Moved after it was hashed: what is wrong in a line, and whose film it is on another."""
    monkeypatch.setattr(cache, "_POOL_FROM", 1 if pooled else 500)
    scans = [scan(tmp_path, seed) for seed in range(3)]
    scans[1].path.unlink()
    with pytest.raises(DataError) as caught:
        decode_films(scans, tmp_path / "cache", height=32, width=32)
    said = f"a film cannot be read (No such file or directory):\n  {scans[1].path}"
    assert str(caught.value) == said


def test_a_cache_that_cannot_be_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a file, or on a disk that is full."""
    films = [scan(tmp_path, 0)]
    with pytest.raises(DataError) as caught:
        decode_films(films, films[0].path / "cache", height=32, width=32)
    place = f"{films[0].path}/cache"
    assert str(caught.value) == (
        f"the cache of decoded films cannot be used (Not a directory):\n  {place}"
    )

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache, "write_atomically", full)
    with pytest.raises(DataError, match=r"^the cache .* \(No space left on device\):\n  "):
        decode_films(films, tmp_path / "cache", height=32, width=32)


def _die(*_: object, **__: object) -> None:
    os._exit(9)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_film_that_was_replaced_is_not_taken_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, pooled: bool
) -> None:
    """After it was found: the night stops, and no later one finds wrong pixels in the cache."""
    monkeypatch.setattr(cache, "_POOL_FROM", 1 if pooled else 500)
    scans = [scan(tmp_path, seed) for seed in range(3)]
    sound = scans[1].path.read_bytes()
    scans[1].path.write_bytes(scans[2].path.read_bytes())
    with pytest.raises(DataError) as caught:
        decode_films(scans, tmp_path / "cache", height=32, width=32)
    matter, where = str(caught.value).split("\n")
    assert matter == "a film was replaced since it was found:"
    assert where == f"  {scans[1].path}"
    scans[1].path.write_bytes(sound)
    expected = [pixels_of(s.path.read_bytes(), height=32, width=32) for s in scans]
    films = decode_films(scans, tmp_path / "cache", height=32, width=32)
    np.testing.assert_array_equal(films.select(scans), expected)


def test_films_no_longer_wanted_are_pruned(tmp_path: Path, decoded: list[str]) -> None:
    """Few are left where they are; many go, and those that stay keep their pixels."""
    scans = [scan(tmp_path, seed) for seed in range(8)]
    folder = tmp_path / "cache"
    before = decode_films(scans, folder, height=32, width=32)
    (pixels,) = folder.glob("*.pixels")
    decode_films(scans[1:], folder, height=32, width=32)
    assert pixels.stat().st_size == 8 * 32 * 32
    films = decode_films(scans[4:], folder, height=32, width=32)
    assert pixels.stat().st_size == 4 * 32 * 32
    np.testing.assert_array_equal(films.select(scans[4:]), before.select(scans[4:]))
    decoded.clear()
    decode_films(scans, folder, height=32, width=32)
    assert decoded == ["0.jpeg", "1.jpeg", "2.jpeg", "3.jpeg"]


def test_a_size_that_nobody_uses_goes_after_a_month(tmp_path: Path) -> None:
    """As do films of another preprocessing, at once, and what a killed run left aside."""
    scans, folder = [scan(tmp_path, 0)], tmp_path / "cache"
    decode_films(scans, folder, height=48, width=48)
    (folder / "films-v0-32x32.pixels").write_bytes(b"old")
    (folder / "films-v0-32x32.json").write_bytes(b"{}")
    (folder / ".films-v1-32x32.json.4711.tmp").write_bytes(b"{")
    (folder / "films-of-mine.txt").write_bytes(b"not the night's")
    decode_films(scans, folder, height=32, width=32)
    sizes = {path.stem.rsplit("-", 1)[1] for path in folder.glob("*.pixels")}
    assert sizes == {"48x48", "32x32"}
    decode_films(scans, folder, height=32, width=32, now=time.time() + 31 * 86400)
    assert [path.stem.rsplit("-", 1)[1] for path in folder.glob("*.pixels")] == ["32x32"]
    assert not list(folder.glob("films-v0*"))
    assert not list(folder.glob("*.tmp"))
    assert (folder / "films-of-mine.txt").exists()


def test_a_fit_that_nobody_goes_on_with_goes_after_a_month(tmp_path: Path) -> None:
    """Of another models folder, or of a release that kept it elsewhere; what is in use stays."""
    scans, folder = [scan(tmp_path, 0)], tmp_path / "cache"
    fits = ["fit-0123456789abcdef", "nights-0123456789ab/fit-0123456789abcdef"]
    mine = folder / "fit-for-me"
    for place in (*fits, mine.name):
        (folder / place).mkdir(parents=True)
        (folder / place / "epoch.json").write_bytes(b"{}")
    later = time.time() + 31 * 86400
    os.utime(folder / fits[1], (later, later))
    decode_films(scans, folder, height=32, width=32)
    assert all((folder / place / "epoch.json").exists() for place in fits)
    decode_films(scans, folder, height=32, width=32, now=later)
    assert [(folder / place).exists() for place in fits] == [False, True]
    decode_films(scans, folder, height=32, width=32, now=later + 31 * 86400)
    assert not list(folder.glob("nights-*"))
    assert mine.exists()


def test_memory_does_not_grow_with_the_films(tmp_path: Path) -> None:
    """With 16 times the films, an epoch and a look for copies still hold but a few at a time."""
    from training.fit.batches import Examples, InOrder, Shuffled

    most = []
    for count in (2000, 32000):
        path = tmp_path / f"{count}.pixels"
        with path.open("wb") as file:
            file.truncate(count * 64 * 64)
        pixels = np.memmap(path, dtype=np.uint8, mode="r", shape=(count, 64, 64))
        labels = (np.arange(count) % 2).astype(np.float32)
        tracemalloc.start()  # NumPy's own memory is counted, mapped files are not
        examples = Examples(pixels=pixels, rows=np.arange(count), labels=labels)
        for batches in (Shuffled(examples, batch=64, seed=1, mixed_share=0.5), InOrder(examples)):
            for position in range(len(batches)):
                batches[position]
        perceptual_hash(pixels, np.arange(count))
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    each = (most[1] - most[0]) / 30000
    assert each < 64 * 64 / 10, "bytes for each film more"
