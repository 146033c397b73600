"""Pictures that show films: a training batch as the network sees it, and the worst mistakes.

They show patients' films, so they are never in a package, which may be passed on. They are written
to a separate folder, one subfolder per version; the oldest are removed.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from training.data.cache import Films
from training.data.dataset import LabelledScan
from training.evaluate.head_to_head import Judged, is_positive
from training.fit.augmentation import Augmentation, cut_and_mix
from worker.imaging.preprocessing import Pixels
from worker.system.redaction import shown

BATCH = 24  # films on a contact sheet
_COLUMNS = 8
_KEPT = 30  # versions with pictures
_VERSION = re.compile(r"\d{8}-[0-9a-f]{8}")  # as `package.build.export` names them

Captions = Sequence[str]


def write_sheets(
    folder: Path,
    *,
    version: str,
    train: Sequence[LabelledScan],
    films: Films,
    judged: Judged,
    seed: int,
) -> Path:
    """Write the pictures of one night, and return their folder.

    Args:
        folder: for a subfolder for each version.
        version: the challenger.
        train: the train side.
        films: pixels of every film.
        judged: its answers on the test films.
        seed: of the batch and its augmentation.

    Raises:
        OSError: they cannot be written.
    """
    ours = folder / version
    ours.mkdir(parents=True, exist_ok=True)
    batch = draw_batch(train, seed=seed)
    pixels = films.select(batch)
    labels = is_positive(batch).astype(np.float32)
    _write(ours / "batch-preprocessed.png", pixels, [scan.label for scan in batch])
    changed, mixed = augment(pixels, labels, seed=seed)
    _write(ours / "batch-augmented.png", changed, [f"PNEUMONIA {share:.2f}" for share in mixed])
    worst = worst_mistakes(judged, most=BATCH)
    shown = films.select([judged.scans[row] for row in worst])
    captions = [f"{judged.scans[row].label}, {_said(judged, row)}" for row in worst]
    _write(ours / "worst-mistakes.png", shown, captions)
    (ours / "worst-mistakes.txt").write_text(_listed(judged, worst), encoding="utf-8")
    (ours / "films-lost.txt").write_text(_listed(judged, judged.lost), encoding="utf-8")
    for old in sorted(path for path in folder.iterdir() if _VERSION.fullmatch(path.name))[:-_KEPT]:
        if old != ours:
            shutil.rmtree(old, ignore_errors=True)
    return ours


def draw_batch(train: Sequence[LabelledScan], *, seed: int) -> list[LabelledScan]:
    """Draw the films of a contact sheet, half of each class if there are enough."""
    generator = np.random.default_rng(seed)
    positive = is_positive(train)
    rows: list[int] = []
    for side in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        rows += generator.permutation(side)[: BATCH // 2].tolist()
    return [train[row] for row in generator.permutation(sorted(rows))]


def augment(
    pixels: Pixels, labels: npt.NDArray[np.float32], *, seed: int
) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Return films as augmented in training, (n, height, width) uint8, and their mixed labels.

    The second half is cut and mixed, like every other training batch.
    """
    half = len(pixels) // 2
    mixed, shares = pixels.copy(), labels.copy()
    if len(pixels) - half > 1:
        generator = np.random.default_rng(seed)
        mixed[half:], shares[half:] = cut_and_mix(pixels[half:], labels[half:], generator)
    layer = Augmentation(seed=seed)
    changed: Any = layer(mixed[..., np.newaxis], training=True)
    return np.asarray(changed)[..., 0].round().astype(np.uint8), shares


def worst_mistakes(judged: Judged, *, most: int) -> list[int]:
    """Return the rows of wrongly labelled films, the most confident mistakes first."""
    wrong = np.flatnonzero(judged.challenger.called != judged.truth)
    probability = judged.challenger.probability
    off = np.abs(probability[wrong] - judged.truth[wrong])
    return [int(row) for row in wrong[np.argsort(-off, kind="stable")][:most]]


def _listed(judged: Judged, rows: Sequence[int]) -> str:
    """Return a line for each film, with control characters in its name escaped."""
    return "".join(f"{shown(judged.scans[row].name)}\t{_said(judged, row)}\n" for row in rows)


def _said(judged: Judged, row: int) -> str:
    return f"p {judged.challenger.probability[row]:.3f}"


def _write(path: Path, pixels: Pixels, captions: Captions) -> None:
    rows = max(1, math.ceil(len(pixels) / _COLUMNS))
    figure = Figure(figsize=(1.55 * _COLUMNS, 1.75 * rows), dpi=100, layout="constrained")
    for number in range(rows * _COLUMNS):
        axes = figure.add_subplot(rows, _COLUMNS, number + 1)
        axes.set_axis_off()
        if number < len(pixels):
            axes.imshow(pixels[number], cmap="gray", vmin=0, vmax=255)
            axes.set_title(captions[number], size=8)
    if len(pixels) == 0:
        figure.suptitle("none")
    figure.savefig(path, format="png", metadata={"Software": None})
