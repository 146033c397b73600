"""Score films with packages as they lie on disk, in a fresh process and by the worker's code.

    python -m training.evaluate.scoring PACKAGE... < films.json > scores.json
    python -m training.evaluate.scoring --disturbed PACKAGE < films.json > scores.json

Reads a list of paths, each with the SHA-256 of the film that must be there, or null; writes, for
each package, each film's logit, or its refusal code, in the same order, or why the package cannot
serve. Each film is read once, so all packages see the very same bytes. With `--disturbed` each film
is scored as it is, and after each of `corruptions.DISTURBANCES`: its logit and strangeness.
No TensorFlow is loaded here, as none is where the packages serve.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.evaluate.corruptions import DISTURBANCES, disturb
from training.evaluate.edge_evidence import outer_share
from training.evaluate.reframed import decode_grey
from training.io import read_again
from worker.errors import FilmRefused, LungwatchError, ModelPackageError
from worker.imaging.preprocessing import Pixels, PreparedFilm, read_film
from worker.model.decision import Score
from worker.model.runtime import Model, load

UNTOUCHED = "as they are"
_DISTURBED = "--disturbed"
_INDENT = "  "
_Wanted = tuple[str, str | None]  # a film's path, and the SHA-256 of what must be there


@dataclass(kw_only=True)
class Scored:
    """What one package makes of the films."""

    scores: list[float | str] = field(default_factory=list)  # of each film: logit or refusal code
    outside: list[float] = field(default_factory=list)  # of each that was read: `outer_share`
    sizes: list[int] = field(default_factory=list)  # of each that was read: pixels, as stored
    strangeness: list[float | None] = field(default_factory=list)  # of each read; None: no limits
    error: str = ""  # why the package cannot serve; then there are no scores


def score(
    packages: Sequence[Path], films: Sequence[Path], digests: Sequence[str] | None = None
) -> list[Scored]:
    """Return what each package makes of the films, from a process of their own.

    Args:
        packages: model packages.
        films: the paths of the films.
        digests: SHA-256 of the films that must be there, in their order; whatever is there, if not
            given.

    Raises:
        ModelPackageError: that process failed, as where a film is another by now; the message is
            its own last line, with what is indented below it.
    """
    return [Scored(**one) for one in _run([*map(str, packages)], _wanted(films, digests))]


def score_disturbed(
    package: Path, films: Sequence[Path], digests: Sequence[str] | None = None
) -> dict[str, list[Score | str]]:
    """Return what a package makes of the films as they are, and after each disturbance.

    Runs a process on each core. A film is disturbed alike for every package.

    Args:
        package: the model package.
        films: the paths of the films.
        digests: as for `score`.

    Returns:
        By the disturbance's name, `UNTOUCHED` first: each film's score, which may be beyond the
        limits of the familiar, or the code by which it cannot be read, in order.

    Raises:
        ModelPackageError: the package cannot serve, or a process failed.
    """
    count = max(1, min(len(os.sched_getaffinity(0)), len(films)))
    wanted = _wanted(films, digests)
    parts = [wanted[first::count] for first in range(count)]
    with ThreadPoolExecutor(count) as pool:
        done = list(pool.map(lambda part: _run([_DISTURBED, str(package)], part), parts))
    by_name: dict[str, list[Score | str]] = {}
    for name in (UNTOUCHED, *DISTURBANCES):
        scores: list[Score | str] = [""] * len(films)
        for first, part in enumerate(done):
            scores[first::count] = [
                one if isinstance(one, str) else Score(**one) for one in part[name]
            ]
        by_name[name] = scores
    return by_name


ScoreAll = Callable[[Sequence[Path], Sequence[Path], Sequence[str] | None], list[Scored]]
ScoreDisturbed = Callable[
    [Path, Sequence[Path], Sequence[str] | None], dict[str, list[Score | str]]
]


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """What scores packages for a night: in fresh processes, unless it is given others."""

    score: ScoreAll = score
    score_disturbed: ScoreDisturbed = score_disturbed


def _wanted(films: Sequence[Path], digests: Sequence[str] | None) -> list[_Wanted]:
    if digests is None:
        return [(str(film), None) for film in films]
    return [(str(film), digest) for film, digest in zip(films, digests, strict=True)]


def _run(arguments: Sequence[str], films: Sequence[_Wanted]) -> Any:
    run = subprocess.run(  # noqa: S603 - our own module, on our own interpreter
        [sys.executable, "-m", "training.evaluate.scoring", *arguments],
        input=json.dumps(films),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        # What a log may have in a line of its own, and below it, indented, what it may not.
        last = 2 if len(lines) > 1 and lines[-1].startswith(_INDENT) else 1
        why = "\n".join(lines[-last:])
        raise ModelPackageError(f"the films cannot be scored: {why}")
    return json.loads(run.stdout)


def main() -> int:
    """Read which films from standard input, write scores to standard output."""
    try:
        if sys.argv[1] == _DISTURBED:
            scores: Any = _score_disturbed(load(Path(sys.argv[2])), json.load(sys.stdin))
        else:
            scores = _score_all([_load(Path(name)) for name in sys.argv[1:]], json.load(sys.stdin))
    except LungwatchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.strerror or type(error).__name__}\n")
        return 1
    json.dump(scores, sys.stdout)
    return 0


def _score_all(
    loaded: Sequence[tuple[Model | None, Scored]], films: Sequence[_Wanted]
) -> list[dict[str, Any]]:
    for path, digest in films:
        film = read_again(Path(path), digest)
        for model, scored in loaded:
            if model is not None:
                _score(model, film, scored)
    return [asdict(scored) for _, scored in loaded]


def _score_disturbed(
    model: Model, films: Sequence[_Wanted]
) -> Mapping[str, list[dict[str, Any] | str]]:
    by_name: dict[str, list[dict[str, Any] | str]] = {
        name: [] for name in (UNTOUCHED, *DISTURBANCES)
    }
    for path, digest in films:
        film = read_again(Path(path), digest)
        seed = int(hashlib.sha256(film).hexdigest()[:8], 16)
        grey = _decode(film)
        for name, scores in by_name.items():
            if isinstance(grey, str):
                scores.append(grey)
                continue
            data = film if name == UNTOUCHED else disturb(name, grey, seed)
            try:
                scores.append(asdict(model.score(_read(model, data).pixels)))
            except FilmRefused as refusal:
                scores.append(str(refusal.code))
    return by_name


def _decode(film: bytes) -> Pixels | str:
    """Return a film at its own size, (height, width) uint8, or its refusal code."""
    try:
        return decode_grey(film)
    except FilmRefused as refusal:
        return str(refusal.code)


def _load(package: Path) -> tuple[Model | None, Scored]:
    try:
        return load(package), Scored()
    except ModelPackageError as error:
        return None, Scored(error=str(error))


def _read(model: Model, film: bytes) -> PreparedFilm:
    return read_film(film, height=model.manifest.height, width=model.manifest.width)


def _score(model: Model, film: bytes, scored: Scored) -> None:
    try:
        read = _read(model, film)
    except FilmRefused as refusal:
        scored.scores.append(str(refusal.code))
        return
    output = model.predict(read.pixels)
    scored.scores.append(output.logit)
    scored.strangeness.append(model.strangeness(read.pixels, output))
    scored.outside.append(outer_share(output.evidence))
    scored.sizes.append(read.width * read.height)


if __name__ == "__main__":
    sys.exit(main())
