"""Score films with a package as it lies on disk, in a fresh process and by the worker's code.

    python -m training.scoring PACKAGE < paths.json > scores.json

Reads a list of paths; writes, in the same order, each film's logit, or its refusal code. No
TensorFlow is loaded here, as none is where the package serves.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from worker.errors import FilmRefused, LungwatchError, ModelPackageError
from worker.model import Model, load
from worker.preprocessing import read_film


def score(package: Path, films: Sequence[Path]) -> list[float | str]:
    """Return each film's logit, or its refusal code, from a process of their own.

    Raises:
        ModelPackageError: the package does not load there; the message is the process's own.
    """
    run = subprocess.run(  # noqa: S603 - our own module, on our own interpreter
        [sys.executable, "-m", "training.scoring", str(package)],
        input=json.dumps([str(film) for film in films]),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        raise ModelPackageError(f"{package.name} cannot be scored: {lines[-1]}")
    scores: list[float | str] = json.loads(run.stdout)
    return scores


def _score(model: Model, film: Path) -> float | str:
    manifest = model.manifest
    try:
        read = read_film(film.read_bytes(), height=manifest.height, width=manifest.width)
    except FilmRefused as refusal:
        return str(refusal.code)
    return model.predict(read.pixels).logit


def main() -> int:
    """Read paths from standard input, write scores to standard output."""
    try:
        model = load(Path(sys.argv[1]))
        scores = [_score(model, Path(path)) for path in json.load(sys.stdin)]
    except (LungwatchError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump(scores, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
