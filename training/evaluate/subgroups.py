"""A model's metrics by group: by series of names, and by film size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.data.patients import series_of
from training.evaluate.metrics import Truth, auc, wilson
from training.evaluate.paired import Reading
from worker.model.evaluation import Group, Groups

_UNKNOWN = "of no known series"


def break_down(
    truth: Truth, reading: Reading, *, patients: Sequence[str], sizes: Sequence[int]
) -> Groups:
    """Return a model's metrics on the test films by group; empty if all are in one group.

    Args:
        truth: (n,).
        reading: of the same films.
        patients: (n,) keys from `training.data.patients`.
        sizes: (n,) pixels of the stored pictures; empty if not known.
    """
    series = np.array([series_of(key) or _UNKNOWN for key in patients])
    by_series = {name: series == name for name in sorted(set(series.tolist()))}
    return Groups(
        series=_groups(truth, reading, by_series),
        size=_groups(truth, reading, _thirds(sizes)) if sizes else {},
    )


def _thirds(sizes: Sequence[int]) -> dict[str, Truth]:
    """Return which films are the smallest, the middle and the largest third."""
    pixels = np.array(sizes)
    low, high = np.quantile(pixels, [1 / 3, 2 / 3], method="lower")
    return {
        f"up to {_mega(low)} megapixels": pixels <= low,
        f"over {_mega(low)} to {_mega(high)} megapixels": (low < pixels) & (pixels <= high),
        f"over {_mega(high)} megapixels": pixels > high,
    }


def _mega(pixels: float) -> str:
    return f"{pixels / 1e6:.3g}"


def _groups(truth: Truth, reading: Reading, members: Mapping[str, Truth]) -> dict[str, Group]:
    groups = {name: _group(truth, reading, among) for name, among in members.items() if among.any()}
    return groups if len(groups) > 1 else {}


def _group(truth: Truth, reading: Reading, among: Truth) -> Group:
    """Return a group's metrics, None for those that its classes do not allow."""
    truth, called = truth[among], reading.called[among]
    positive, negative = int(truth.sum()), int((~truth).sum())
    area = auc(truth, reading.probability[among]) if positive and negative else None
    sensitivity = wilson(int(called[truth].sum()), positive)
    specificity = wilson(int((~called[~truth]).sum()), negative)
    return Group(
        films={"NORMAL": negative, "PNEUMONIA": positive},
        auc=area and area.estimate(),
        sensitivity=sensitivity and sensitivity.estimate(),
        specificity=specificity and specificity.estimate(),
    )
