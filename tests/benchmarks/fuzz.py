#!/usr/bin/env python
"""Fuzz the way from bytes to pixels, led by what code is reached, and keep what reaches new code.

    python -m pip install atheris
    python tests/benchmarks/fuzz.py FOLDER tests/unit/worker/imaging/corpus -max_total_time=600

The options are libFuzzer's. Starts from small drawn JPEGs and from what lies in the folders named;
what reaches new code is written into the first. A file that raises anything but a refusal, takes
longer than `-timeout` or more memory than `-rss_limit_mb` ends it, and is written as `crash-...`
beside. To keep few of many, with the environment's `bin` first on the PATH, as libFuzzer starts it
by its name: `tests/benchmarks/fuzz.py CORPUS FOLDER -merge=1`, where CORPUS is
`tests/unit/worker/imaging/corpus`. `test_corpus.py` beside it reads each kept file in every run.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

with atheris.instrument_imports(include=["worker"]):
    from worker.errors import FilmRefused
    from worker.imaging.preprocessing import PREPROCESSING_VERSION, FilmLimits, read_film

import films

_LIMITS = FilmLimits(max_pixels=250_000, min_side_pixels=1, min_contrast=0.0)
_LONGEST = 4096  # bytes: headers are what is mangled, not pictures


def one(data: bytes) -> None:
    """Read one file, at a size so small that it is decoded at reduced scale."""
    with contextlib.suppress(FilmRefused):
        film = read_film(data, height=8, width=8, version=PREPROCESSING_VERSION, limits=_LIMITS)
        assert film.pixels.shape == (8, 8)


def seeds() -> dict[str, bytes]:
    """Return small sound JPEGs of every coding that is read."""
    drawn = films.draw(1, width=48, height=40)
    return {
        "baseline": films.jpeg(drawn, quality=30),
        "progressive": films.jpeg(drawn, quality=30, progressive=True),
        "restarts": films.jpeg(drawn, quality=30, restart_rows=1),
        "turned": films.jpeg(drawn, quality=30, orientation=6),
    }


def main() -> None:
    """Lay the seeds into the first folder, and hand over to libFuzzer."""
    folders = [Path(word) for word in sys.argv[1:] if not word.startswith("-")]
    if not folders:
        sys.exit(__doc__)
    folders[0].mkdir(exist_ok=True)
    if not any(word.startswith("-merge") for word in sys.argv):
        for name, data in seeds().items():
            (folders[0] / name).write_bytes(data)
    atheris.Setup([*sys.argv, f"-max_len={_LONGEST}", "-timeout=10"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
