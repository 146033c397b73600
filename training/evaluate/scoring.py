"""Scores films with packages on disk, in a fresh process, with the worker's code.

    python -m training.evaluate.scoring PACKAGE... < films.json > scores.json
    python -m training.evaluate.scoring --disturbed PACKAGE < films.json > scores.json
    python -m training.evaluate.scoring --reframed PACKAGE... < reframings.json > scores.json

Reads a list of paths, each with the SHA-256 that the film must have, or null. Writes for each
package each film's logit or refusal code, in order, or why the package cannot serve. Each film is
read once, so all packages see the same bytes. With `--disturbed` each film is scored undisturbed
and after each of `corruptions.DISTURBANCES`: its logit and strangeness. With `--reframed` it is
scored after each of `reframed.Kind`, with the crop and donor given for the film. TensorFlow is not
loaded, as it is not in the worker.
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

from training.data.reframing import Crop
from training.data.splits import LabelledScan
from training.evaluate.corruptions import DISTURBANCES, disturb
from training.evaluate.edge_evidence import outer_share
from training.evaluate.reframed import Kind, Reframing, decode_grey, reframe
from training.io import read_again
from worker.errors import FilmRefused, LungwatchError, ModelPackageError
from worker.imaging.preprocessing import Pixels, PreparedFilm, read_film
from worker.model.decision import Score
from worker.model.runtime import Model, load

UNTOUCHED = "as they are"
_DISTURBED = "--disturbed"
_REFRAMED = "--reframed"
_INDENT = "  "
_Wanted = tuple[str, str | None]  # a film's path, and the SHA-256 it must have
_Changed = tuple[_Wanted, _Wanted, tuple[float, float]]  # film, donor, shares kept by the crop


@dataclass(kw_only=True)
class Scored:
    """The scores of one package."""

    scores: list[float | str] = field(default_factory=list)  # of each film: logit or refusal code
    outside: list[float] = field(default_factory=list)  # of each film read: `outer_share`
    sizes: list[int] = field(default_factory=list)  # of each film read: pixels, as stored
    strangeness: list[float | None] = field(default_factory=list)  # of each read; None: no limits
    error: str = ""  # why the package cannot serve; it has no scores then


def score(
    packages: Sequence[Path], films: Sequence[Path], digests: Sequence[str] | None = None
) -> list[Scored]:
    """Return each package's scores of the films, from a separate process.

    Args:
        packages: model packages.
        films: the paths of the films.
        digests: the SHA-256 that each film must have, in order; None to accept any.

    Raises:
        ModelPackageError: that process failed, for example because a film was replaced; the message
            is its last line, with the indented line below it.
    """
    return [Scored(**one) for one in _run([*map(str, packages)], _wanted(films, digests))]


@dataclass(kw_only=True)
class ScoredByKind:
    """One package's scores of the films, as they are and reframed."""

    # By kind, `UNTOUCHED` first: each film's score or refusal code.
    scores: dict[str, list[Score | str]] = field(default_factory=dict)
    error: str = ""  # why the package cannot serve; it has no scores then


def score_disturbed(
    package: Path, films: Sequence[Path], digests: Sequence[str] | None = None
) -> dict[str, list[Score | str]]:
    """Return a package's scores of the films, undisturbed and after each disturbance.

    Runs a process on each core. A film is disturbed in the same way for every package.

    Args:
        package: the model package.
        films: the paths of the films.
        digests: as for `score`.

    Returns:
        By the disturbance's name, `UNTOUCHED` first: each film's score, which may be over the
        familiarity limits, or its refusal code, in order.

    Raises:
        ModelPackageError: the package cannot serve, or a process failed.
    """
    done, count = _run_apart([_DISTURBED, str(package)], _wanted(films, digests))
    return {
        name: _woven([part[name] for part in done], count) for name in (UNTOUCHED, *DISTURBANCES)
    }


def score_reframed(
    packages: Sequence[Path], films: Sequence[LabelledScan], changes: Sequence[Reframing]
) -> list[ScoredByKind]:
    """Return each package's scores of the films, as they are and reframed in each way.

    Runs a process on each core. All packages see the same bytes, decoded at their own sizes.

    Args:
        packages: model packages.
        films: the films.
        changes: the change of each film, in order.

    Raises:
        ModelPackageError: a process failed, for example because a film was replaced.
    """
    wanted: list[_Changed] = [
        (
            (str(film.path), film.sha256),
            (str(change.donor.path), change.donor.sha256),
            (change.crop.height, change.crop.width),
        )
        for film, change in zip(films, changes, strict=True)
    ]
    done, count = _run_apart([_REFRAMED, *map(str, packages)], wanted)
    return [
        ScoredByKind(
            scores={
                name: _woven([part[number]["scores"][name] for part in done], count)
                for name in done[0][number]["scores"]
            },
            error=done[0][number]["error"],
        )
        for number in range(len(packages))
    ]


ScoreAll = Callable[[Sequence[Path], Sequence[Path], Sequence[str] | None], list[Scored]]
ScoreDisturbed = Callable[
    [Path, Sequence[Path], Sequence[str] | None], dict[str, list[Score | str]]
]
ScoreReframed = Callable[
    [Sequence[Path], Sequence[LabelledScan], Sequence[Reframing]], list[ScoredByKind]
]


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """The functions that score packages for a night; by default in fresh processes."""

    score: ScoreAll = score
    score_disturbed: ScoreDisturbed = score_disturbed
    score_reframed: ScoreReframed = score_reframed


def _wanted(films: Sequence[Path], digests: Sequence[str] | None) -> list[_Wanted]:
    if digests is None:
        return [(str(film), None) for film in films]
    return [(str(film), digest) for film, digest in zip(films, digests, strict=True)]


def _run_apart(arguments: Sequence[str], films: Sequence[Any]) -> tuple[list[Any], int]:
    """Split films over a process on each core; return each one's scores, and the film count."""
    count = max(1, min(len(os.sched_getaffinity(0)), len(films)))
    parts = [films[first::count] for first in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda part: _run(arguments, part), parts)), len(films)


def _woven(parts: Sequence[Sequence[Any]], count: int) -> list[Score | str]:
    """Return the scores of all films in order, from those of each process."""
    scores: list[Score | str] = [""] * count
    for first, part in enumerate(parts):
        scores[first :: len(parts)] = [
            one if isinstance(one, str) else Score(**one) for one in part
        ]
    return scores


def _run(arguments: Sequence[str], films: Sequence[Any]) -> Any:
    run = subprocess.run(  # noqa: S603 - our own module, on our own interpreter
        [sys.executable, "-m", "training.evaluate.scoring", *arguments],
        input=json.dumps(films),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        # The last line is fit for a log. An indented line below it is not, and is kept separate.
        last = 2 if len(lines) > 1 and lines[-1].startswith(_INDENT) else 1
        why = "\n".join(lines[-last:])
        raise ModelPackageError(f"the films cannot be scored: {why}")
    return json.loads(run.stdout)


def main() -> int:
    """Read films from standard input, and write scores to standard output."""
    try:
        if sys.argv[1] == _DISTURBED:
            scores: Any = _score_disturbed(load(Path(sys.argv[2])), json.load(sys.stdin))
        elif sys.argv[1] == _REFRAMED:
            loaded = [_load(Path(name)) for name in sys.argv[2:]]
            scores = _score_reframed(loaded, json.load(sys.stdin))
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
            scores.append(_screen(model, data))
    return by_name


def _score_reframed(
    loaded: Sequence[tuple[Model | None, Scored]], films: Sequence[_Changed]
) -> list[dict[str, Any]]:
    kinds = (UNTOUCHED, *Kind)
    said: list[dict[str, Any]] = [
        {"scores": {} if model is None else {kind: [] for kind in kinds}, "error": scored.error}
        for model, scored in loaded
    ]
    for (path, digest), donor, (height, width) in films:
        film = read_again(Path(path), digest)
        tone = read_again(Path(donor[0]), donor[1])
        changed = {UNTOUCHED: film, **_reframe(film, tone, Crop(height=height, width=width))}
        for (model, _), one in zip(loaded, said, strict=True):
            if model is not None:
                for kind in kinds:
                    data = changed[kind]
                    score = data if isinstance(data, str) else _screen(model, data)
                    one["scores"][kind].append(score)
    return said


def _reframe(film: bytes, donor: bytes, crop: Crop) -> Mapping[str, bytes | str]:
    """Return a film reframed in each way, or the refusal code of it or its donor."""
    grey, tone = _decode(film), _decode(donor)
    if isinstance(grey, str):
        return dict.fromkeys(Kind, grey)
    if isinstance(tone, str):
        return dict.fromkeys(Kind, tone)
    return {str(kind): data for kind, data in reframe(grey, tone, crop).items()}


def _screen(model: Model, film: bytes) -> dict[str, Any] | str:
    """Return a film's score for JSON, or its refusal code."""
    try:
        return asdict(model.score(_read(model, film).pixels))
    except FilmRefused as refusal:
        return str(refusal.code)


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
    manifest = model.manifest
    return read_film(
        film,
        height=manifest.height,
        width=manifest.width,
        version=manifest.preprocessing_version,
    )


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
