"""Score films with packages as they lie on disk, in a fresh process and by the worker's code.

    python -m training.scoring PACKAGE... < paths.json > scores.json

Reads a list of paths; writes, for each package, each film's logit, or its refusal code, in the
same order, or why the package cannot serve. Each film is read once, so all packages see the very
same bytes. No TensorFlow is loaded here, as none is where the packages serve.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from worker.errors import FilmRefused, LungwatchError, ModelPackageError
from worker.model import Model, load
from worker.preprocessing import read_film


@dataclass(kw_only=True)
class Scored:
    """What one package makes of the films."""

    scores: list[float | str] = field(default_factory=list)  # of each film: logit or refusal code
    error: str = ""  # why the package cannot serve; then there are no scores


def score(packages: Sequence[Path], films: Sequence[Path]) -> list[Scored]:
    """Return what each package makes of the films, from a process of their own.

    Raises:
        ModelPackageError: that process failed; the message is its own last line.
    """
    run = subprocess.run(  # noqa: S603 - our own module, on our own interpreter
        [sys.executable, "-m", "training.scoring", *map(str, packages)],
        input=json.dumps([str(film) for film in films]),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        raise ModelPackageError(f"the films cannot be scored: {lines[-1]}")
    return [Scored(**one) for one in json.loads(run.stdout)]


def main() -> int:
    """Read paths from standard input, write scores to standard output."""
    loaded = [_load(Path(name)) for name in sys.argv[1:]]
    try:
        for path in json.load(sys.stdin):
            film = Path(path).read_bytes()
            for model, scored in loaded:
                if model is not None:
                    scored.scores.append(_score(model, film))
    except (LungwatchError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump([asdict(scored) for _, scored in loaded], sys.stdout)
    return 0


def _load(package: Path) -> tuple[Model | None, Scored]:
    try:
        return load(package), Scored()
    except ModelPackageError as error:
        return None, Scored(error=str(error))


def _score(model: Model, film: bytes) -> float | str:
    manifest = model.manifest
    try:
        read = read_film(film, height=manifest.height, width=manifest.width)
    except FilmRefused as refusal:
        return str(refusal.code)
    return model.predict(read.pixels).logit


if __name__ == "__main__":
    sys.exit(main())
