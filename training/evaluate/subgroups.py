"""Where a model's numbers come from: by series of names, by film size, and by place on the film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from training.data.patients import series_of
from training.evaluate.edge_evidence import EVEN_SHARE
from training.evaluate.metrics import Truth, auc, wilson
from training.evaluate.paired import Reading

_UNKNOWN = "of no known series"


def break_down(
    truth: Truth,
    reading: Reading,
    *,
    patients: Sequence[str],
    sizes: Sequence[int],
    outside: Sequence[float],
) -> dict[str, Any]:
    """Return the numbers of a model's test films by group, as plain values.

    Args:
        truth: (n,).
        reading: of the same films.
        patients: (n,) keys, as `training.data.patients` gives them.
        sizes: (n,) pixels of the stored pictures; or none, where they are not known.
        outside: (n,) shares from `evidence.outer_share`; or none.

    Returns:
        `groups`, with `series` and `size`, each a group's numbers by its name; empty where all
        films are of one. `evidence_outside`: the mean and median of the shares, and that of an
        `even` map; None where they are not known.
    """
    series = np.array([series_of(key) or _UNKNOWN for key in patients])
    return {
        "groups": {
            "series": _groups(
                truth, reading, {name: series == name for name in sorted(set(series.tolist()))}
            ),
            "size": _by_size(truth, reading, sizes) if sizes else {},
        },
        "evidence_outside": {
            "mean": float(np.mean(outside)),
            "median": float(np.median(outside)),
            "even": EVEN_SHARE,
        }
        if outside
        else None,
    }


def _by_size(truth: Truth, reading: Reading, sizes: Sequence[int]) -> dict[str, Any]:
    """Return numbers of the smallest, the middle and the largest third of the films."""
    pixels = np.array(sizes)
    low, high = np.quantile(pixels, [1 / 3, 2 / 3], method="lower")
    thirds = {
        f"up to {_mega(low)} megapixels": pixels <= low,
        f"over {_mega(low)} to {_mega(high)} megapixels": (low < pixels) & (pixels <= high),
        f"over {_mega(high)} megapixels": pixels > high,
    }
    return _groups(truth, reading, thirds)


def _mega(pixels: float) -> str:
    return f"{pixels / 1e6:.3g}"


def _groups(truth: Truth, reading: Reading, members: Mapping[str, Truth]) -> dict[str, Any]:
    found = {
        name: _numbers(truth, reading, among) for name, among in members.items() if among.any()
    }
    return found if len(found) > 1 else {}


def _numbers(truth: Truth, reading: Reading, among: Truth) -> dict[str, Any]:
    """Return a group's numbers, None for what its classes do not allow."""
    truth, called = truth[among], reading.called[among]
    positive, negative = int(truth.sum()), int((~truth).sum())
    measured = {
        "auc": auc(truth, reading.probability[among]) if positive and negative else None,
        "sensitivity": wilson(int(called[truth].sum()), positive),
        "specificity": wilson(int((~called[~truth]).sum()), negative),
    }
    return {
        "films": {"NORMAL": negative, "PNEUMONIA": positive},
        **{name: None if one is None else asdict(one) for name, one in measured.items()},
    }
