"""Where the time of a film goes: each stage by itself, and what the whole worker takes for it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.imaging.preprocessing import FilmLimits, check_header, covered, decode, resize, scale
from worker.model.runtime import Model

STAGES = ("read", "SHA-256", "header", "decode", "resize", "predict", "familiar")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Used:
    """Processor time up to now, and when that was, in seconds."""

    parent: float
    screeners: float
    clock: float


def used(pid: int) -> Used:
    """Return what a worker and its screeners have used so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return Used(
        parent=_processor_seconds(pid),
        screeners=sum(_processor_seconds(int(child)) for child in children),
        clock=time.perf_counter(),
    )


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def milliseconds_alone(paths: Sequence[Path], model: Model) -> dict[str, float]:
    """Return what each stage takes of a core for a film in the mean, in milliseconds.

    One process does them one after the other, with nothing beside it.
    """
    spent: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    for path in paths:
        moments = [*_moments(path, model)]
        for stage, start, end in zip(STAGES, moments, moments[1:], strict=False):
            spent[stage] += end - start
    return {stage: 1000 * seconds / len(paths) for stage, seconds in spent.items()}


def _moments(path: Path, model: Model) -> Iterator[float]:
    """Yield when the first stage begins, and when each ends."""
    height, width = model.manifest.height, model.manifest.width
    version = model.manifest.preprocessing_version
    yield time.perf_counter()
    data = path.read_bytes()
    yield time.perf_counter()
    hashlib.sha256(data).hexdigest()
    yield time.perf_counter()
    header = check_header(data, FilmLimits())
    yield time.perf_counter()
    eighths = scale(header, height=height, width=width, version=version)
    grey = decode(data, header, eighths=eighths)
    yield time.perf_counter()
    pixels = resize(grey, height=height, width=width, box=covered(header, eighths))
    yield time.perf_counter()
    output = model.predict(pixels)
    yield time.perf_counter()
    if model.familiar is not None:
        model.familiar.strangeness(pixels, output.features)
    yield time.perf_counter()


def shares(alone: dict[str, float], before: Used, after: Used, films: int) -> dict[str, float]:
    """Return where a core's time went, in milliseconds a film, while a worker screened.

    Args:
        alone: what the stages take by themselves.
        before: the worker's use when the first of the films was done.
        after: the same when the last was.
        films: how many these were.
    """
    cores = len(os.sched_getaffinity(0))
    wall, parent, screeners = (
        1000 * (getattr(after, name) - getattr(before, name)) / films
        for name in ("clock", "parent", "screeners")
    )
    return {
        **alone,
        "screeners, the rest": screeners - sum(alone.values()),
        "worker": parent,
        "idle": cores * wall - parent - screeners,
    }


def draw(found: dict[str, dict[str, float]], path: Path) -> None:
    """Draw a bar for each database, cut into what each stage takes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.7 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    stages = list(next(iter(found.values())))
    colours = [f"C{number}" for number in range(10)] + ["0.85"]
    for row, times in enumerate(found.values()):
        left = 0.0
        for stage, colour in zip(stages, colours, strict=False):
            width = max(0.0, times[stage])
            axes.barh(row, width, left=left, color=colour, label=stage if row == 0 else None)
            if width > 0.25:
                axes.text(left + width / 2, row, f"{width:.1f}", ha="center", va="center")
            left += width
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of a core, for a film")
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
