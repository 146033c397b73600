"""A cache of decoded films, kept between nights in one mapped file. It may be deleted.

    <cache>/films-v<preprocessing>-<height>x<width>.pixels   rows of height x width bytes
                                                             SHA-256 -> facts of its file
    <cache>/films.lock                                       held while films are decoded
    <cache>/films.lock                                       held while films are decoded
New films are appended. The JSON is written after the pixels it names, every few thousand films, so
a killed run keeps what it had decoded. Rows that the JSON does not name are overwritten.
thousand films: what a killed run had decoded is kept, and rows that no JSON names are overwritten.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.data.native_sizes import Size
from training.data.splits import LabelledScan
from training.io import needed, read_again
from worker.errors import DataError, FilmRefused
from worker.imaging.jpeg import parse_header
from worker.imaging.preprocessing import PREPROCESSING_VERSION, TURNED, Pixels, read_film
from worker.system.files import fsync_folder, write_atomically
from worker.system.progress import bar

_POOL_FROM = 500  # fewer films are decoded faster without a pool
_BLOCK = 4096  # films between two writes of the JSON
_WASTE = 0.25  # share of rows that may be of unwanted films
_KEPT_DAYS = 30.0  # until unused films of another size are removed
_OURS = re.compile(r"\.?films-v[\w.]+-\d+x\d+\.(pixels|json)(\.\d+\.tmp)?")  # file names
_FITS = re.compile(r"nights-[0-9a-f]{12}|fit-[0-9a-f]{16}")  # of killed nights; old name first


class FilmFile(NamedTuple):
    """Facts of a film's file, apart from its content."""

    size: Size  # upright
    encoding: str  # its writer: see `worker.imaging.jpeg.parse_header`
    quantisation: str  # its quantisation tables, in hex digits

    @classmethod
    def of(cls, film: bytes) -> FilmFile:
        """Read the header of a film that `read_film` accepts."""
        header = parse_header(film)
        size = Size(header.width, header.height)
        return cls(
            size=Size(*size[::-1]) if header.orientation in TURNED else size,
            encoding=header.encoding,
            quantisation=header.quantisation.hex(),
        )


@dataclass(frozen=True, kw_only=True)
class Films:
    """Decoded films, by content."""

    pixels: Pixels  # (n, height, width) uint8, memory-mapped; may hold films of other nights too
    rows: dict[str, int]  # SHA-256 -> row of `pixels`
    refused: dict[str, str]  # SHA-256 -> refusal code of a film that cannot be read
    files: dict[str, FilmFile] = field(default_factory=dict)  # SHA-256 -> facts of its file

    @property
    def sizes(self) -> dict[str, Size]:
        """The sizes of the files, by SHA-256."""
        return {digest: file.size for digest, file in self.files.items()}

    def select(self, scans: Iterable[LabelledScan]) -> Pixels:
        """Return a copy of the pixels of these scans, (n, height, width) uint8, in order."""
        rows = [self.rows[scan.sha256] for scan in scans]
        return np.ascontiguousarray(self.pixels[rows])


class Decoded(NamedTuple):
    """A film as read."""

    pixels: Pixels  # (height, width) uint8
    file: FilmFile


@dataclass(kw_only=True)
class _Store:
    """One file of pixels and its JSON."""

    pixels: Path
    index: Path
    height: int
    width: int
    rows: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    files: dict[str, FilmFile] = field(default_factory=dict)  # of each film with a row

    @property
    def row_bytes(self) -> int:
        return self.height * self.width

    def read(self) -> None:
        """Read the JSON. If it does not match the pixels, the store stays empty."""
        try:
            facts = json.loads(self.index.read_bytes())
            rows, refused = dict(facts["rows"]), dict(facts["refused"])
            files = _unpacked(facts["files"], facts["quantisation"])
            if (
                rows.keys() <= files.keys()
                and self.pixels.stat().st_size
                >= (1 + max(rows.values(), default=-1)) * self.row_bytes
            ):
                self.rows, self.refused, self.files = rows, refused, files
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent or damaged: decode again

    def add(self, films: Sequence[tuple[str, Decoded | str]]) -> None:
        """Append films and make them durable."""
        row = 1 + max(self.rows.values(), default=-1)
        if row == 0:  # another night may have mapped the old file
            self.pixels.unlink(missing_ok=True)
        with self.pixels.open("r+b" if row else "w+b") as file:
            file.truncate(row * self.row_bytes)
            file.seek(0, os.SEEK_END)
            for digest, film in films:
                if isinstance(film, str):
                    self.refused[digest] = film
                else:
                    file.write(film.pixels.tobytes())
                    self.rows[digest] = row
                    self.files[digest] = film.file
                    row += 1
            file.flush()
            os.fsync(file.fileno())
        self._write_index()

    def map(self) -> Pixels:
        """Return the pixels on disk, (n, height, width) uint8."""
        count = 1 + max(self.rows.values(), default=-1)
        shape = (count, self.height, self.width)
        if count == 0:
            return np.empty(shape, dtype=np.uint8)
        return np.memmap(self.pixels, dtype=np.uint8, mode="r", shape=shape)

    def prune(self, wanted: set[str]) -> None:
        """Rewrite the pixels without unwanted films, if there are many."""
        kept = {digest: row for digest, row in self.rows.items() if digest in wanted}
        if len(self.rows) - len(kept) <= _WASTE * len(self.rows):
            return
        aside = self.pixels.with_name(f".{self.pixels.name}")
        held = self.map()
        with aside.open("wb") as file:
            for digest in kept:
                file.write(held[self.rows[digest]].tobytes())
            file.flush()
            os.fsync(file.fileno())
        self.rows = {digest: row for row, digest in enumerate(kept)}
        self.files = {digest: self.files[digest] for digest in kept}
        self.refused = {d: code for d, code in self.refused.items() if d in wanted}
        self.index.unlink()  # between the two renames the files do not match
        fsync_folder(self.index.parent)
        aside.replace(self.pixels)
        self._write_index()

    def _write_index(self) -> None:
        facts = {"rows": self.rows, "refused": self.refused, **_packed(self.files)}
        write_atomically(self.index, json.dumps(facts).encode("ascii"))


def _packed(files: dict[str, FilmFile]) -> dict[str, dict[str, Any]]:
    """Return the JSON form, with each encoder's quantisation tables once."""
    return {
        "files": {digest: (*file.size, file.encoding) for digest, file in files.items()},
        "quantisation": {file.encoding: file.quantisation for file in files.values()},
    }


def _unpacked(
    files: dict[str, tuple[int, int, str]], quantisation: dict[str, str]
) -> dict[str, FilmFile]:
    return {
        digest: FilmFile(
            size=Size(width, height), encoding=encoding, quantisation=quantisation[encoding]
        )
        for digest, (width, height, encoding) in files.items()
    }


def decode_films(
    scans: Sequence[LabelledScan], cache: Path, *, height: int, width: int, now: float | None = None
) -> Films:
    """Return every scan's pixels, decoding only films that the cache lacks.

    A film that `read_film` refuses is returned with its code. Memory does not grow with the number
    of films.

    Args:
        scans: the films wanted.
        cache: the folder; created if it does not exist.
        height: of a decoded film, pixels.
        width: likewise.
        now: seconds since 1970, to find unused files; by default the clock's.

    Raises:
        DataError: a film or the cache cannot be read or written, a film was replaced, or a decoding
            process was killed.
    """
    with needed("the cache of decoded films cannot be used", cache):
        cache.mkdir(parents=True, exist_ok=True)
        return _decode_films(
            scans, cache, height=height, width=width, now=time.time() if now is None else now
        )


def _decode_films(
    scans: Sequence[LabelledScan], cache: Path, *, height: int, width: int, now: float
) -> Films:
    name = f"films-v{PREPROCESSING_VERSION}-{height}x{width}"
    store = _Store(
        pixels=cache / f"{name}.pixels", index=cache / f"{name}.json", height=height, width=width
    )
    wanted = {scan.sha256: scan.path for scan in scans}
    with _locked(cache):
        store.read()
        _sweep(cache, keep=name, now=now)
        missing = [d for d in wanted if d not in store.rows and d not in store.refused]
        with bar("decoding films", len(missing)) as progress:
            for digests, films in _decode(missing, wanted, height, width):
                store.add(list(zip(digests, films, strict=True)))
                progress.advance(len(digests))
        store.prune(set(wanted))
        if store.index.exists():
            os.utime(store.index)
        return Films(
            pixels=store.map(),
            rows={digest: store.rows[digest] for digest in wanted if digest in store.rows},
            refused={digest: store.refused[digest] for digest in wanted if digest in store.refused},
            files={digest: store.files[digest] for digest in wanted if digest in store.files},
        )


def _decode(
    digests: Sequence[str], paths: dict[str, Path], height: int, width: int
) -> Iterator[tuple[Sequence[str], list[Decoded | str]]]:
    """Yield films, one block at a time."""
    read = partial(_read, height=height, width=width)
    blocks = [digests[start : start + _BLOCK] for start in range(0, len(digests), _BLOCK)]
    if len(digests) < _POOL_FROM:
        for block in blocks:
            yield block, [read(paths[digest], digest) for digest in block]
        return
    # Spawned, because a fork of a process that has loaded TensorFlow may hang.
    context = multiprocessing.get_context("spawn")
    workers = len(os.sched_getaffinity(0))
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for block in blocks:
                decoded = pool.map(read, [paths[digest] for digest in block], block, chunksize=32)
                yield block, list(decoded)
    except BrokenProcessPool as error:
        raise DataError("a decoding process was killed; the next night continues") from error


def _read(path: Path, sha256: str, *, height: int, width: int) -> Decoded | str:
    film = read_again(path, sha256)
    try:
        pixels = read_film(film, height=height, width=width, version=PREPROCESSING_VERSION).pixels
        return Decoded(pixels, FilmFile.of(film))
    except FilmRefused as refusal:
        return str(refusal.code)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Lock the cache, which several registries may share. The kernel frees it after a kill."""
    with (cache / "films.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(cache: Path, *, keep: str, now: float) -> None:
    """Remove films of other preprocessing, and fits and other sizes that were unused for long."""
    for folder in cache.iterdir():
        if _FITS.fullmatch(folder.name) and folder.is_dir():
            used = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if now - used > _KEPT_DAYS * 86400:
                shutil.rmtree(folder, ignore_errors=True)
    current = f"films-v{PREPROCESSING_VERSION}-"
    for path in cache.iterdir():
        if not _OURS.fullmatch(path.name):
            continue
        name = path.name.removeprefix(".")
        if name.startswith(f"{keep}.") and name == path.name:
            continue
        index = cache / f"{path.stem}.json"
        used = index.stat().st_mtime if index.exists() else 0.0
        if not name.startswith(current) or now - used > _KEPT_DAYS * 86400:
            path.unlink(missing_ok=True)
