"""The figures of the model card, as PNG: the course of training, and the model's quality.

They are drawn from numbers and show no film, so they go into the package.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.evaluate.metrics import OperatingPoint, Truth, equal_weights, roc, wilson
from training.evaluate.paired import Reading
from worker.model.decision import shift_prior
from worker.model.evaluation import Confusion, Metrics
from worker.model.manifest import NEGATIVE, POSITIVE

_BLUE, _RED, _GREY, _BAND = "#2b6ca3", "#c0392b", "#888888", "#f0e2b6"
_BINS = 10  # as for the calibration error
_DOTS_PER_INCH = 110
_NAN = float("nan")


def draw_figures(
    truth: Truth,
    reading: Reading,
    point: OperatingPoint,
    *,
    curve: Sequence[Mapping[str, float]],
    numbers: Metrics,
) -> dict[str, bytes]:
    """Return the figures by file name.

    Args:
        truth: (n,) of the test side.
        reading: the model's answers on it.
        point: from its manifest.
        curve: of the training, an entry per epoch.
        numbers: its metrics.
    """
    return {
        "training.png": _training(curve),
        "roc.png": _roc(truth, reading, numbers),
        "calibration.png": _calibration(truth, reading, numbers),
        "scores.png": _histogram(truth, reading, point),
        "confusion.png": _confusion(numbers.confusion),
    }


def _training(curve: Sequence[Mapping[str, float]]) -> bytes:
    figure, (left, right) = _axes(2, width=8.6, height=3.6)
    epochs = [numbers["epoch"] for numbers in curve]
    alone = "o" if len(curve) == 1 else ""
    for name, words, colour in (("loss", "train", _GREY), ("val_loss", "calibration", _BLUE)):
        left.plot(epochs, [_of(one, name) for one in curve], alone + "-", c=colour, label=words)
    right.plot(epochs, [_of(one, "val_auc") for one in curve], alone + "-", c=_BLUE)
    left.set(title="Loss, train side augmented", xlabel="epoch", ylabel="cross-entropy")
    right.set(title="AUC on the calibration side", xlabel="epoch", ylabel="AUC")
    left.legend(frameon=False)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _png(figure)


def _of(numbers: Mapping[str, float], name: str) -> float:
    return numbers.get(name, _NAN)


def _known(number: float | None) -> float:
    return _NAN if number is None else number


def _roc(truth: Truth, reading: Reading, numbers: Metrics) -> bytes:
    """Draw the whole ROC, and its upper left corner enlarged."""
    figure, panels = _axes(2, width=8.6, height=4.2)
    wrongly, rightly = roc(truth, reading.probability)
    area, (low, high) = _known(numbers.auc), numbers.intervals.get("auc") or (_NAN, _NAN)
    at = (1 - _known(numbers.specificity), _known(numbers.sensitivity))
    for axes in panels:
        axes.plot(wrongly, rightly, "-", c=_BLUE, drawstyle="steps-post", label="ROC")
        axes.plot([0, 1], [0, 1], ":", c=_GREY)
        axes.plot(*at, "o", c=_RED, label=f"operating point, p = {_known(numbers.threshold):.3f}")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    panels[0].set(title=f"AUC {area:.4f} ({low:.4f} to {high:.4f})")
    panels[0].set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    panels[0].legend(frameon=False, loc="lower right")
    reach = min(1.0, max(0.2, 1.25 * at[0], 1.25 * (1 - at[1])))
    panels[1].set(title="corner", xlim=(-reach / 50, reach), ylim=(1 - reach, 1 + reach / 50))
    return _png(figure)


def _calibration(truth: Truth, reading: Reading, numbers: Metrics) -> bytes:
    figure, (axes,) = _axes(1, width=4.6, height=4.4)
    where = np.minimum((reading.probability * _BINS).astype(np.int64), _BINS - 1)
    axes.plot([0, 1], [0, 1], ":", c=_GREY, label="ideal")
    # Shares as for equally many films of each class, which the probabilities assume.
    weights, even = equal_weights(truth), 1 - float(truth.mean())
    for number in np.unique(where):
        inside = where == number
        count, hits = int(inside.sum()), int(truth[inside].sum())
        share = wilson(hits, count)
        if share is None:
            continue
        said = float(np.average(reading.probability[inside], weights=weights[inside]))
        seen, low, high = (
            shift_prior(value, even) for value in (share.value, share.low, share.high)
        )
        axes.plot([said, said], [low, high], "-", c=_BLUE, alpha=0.5)
        axes.plot(said, seen, "o", c=_BLUE)
        beside = (6, -4) if said < 0.9 else (-6, -4)
        side = "left" if said < 0.9 else "right"
        axes.annotate(f"{count}", (said, seen), beside, textcoords="offset points", ha=side, size=8)
    axes.set(
        title=f"Calibration error {_known(numbers.calibration_error):.4f}",
        xlabel="probability of PNEUMONIA, mean of the bin",
        ylabel="share of PNEUMONIA, equal classes (with films)",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
    )
    axes.legend(frameon=False, loc="lower right")
    return _png(figure)


def _histogram(truth: Truth, reading: Reading, point: OperatingPoint) -> bytes:
    figure, (axes,) = _axes(1, width=6.4, height=3.8)
    low, high = point.review_band
    axes.axvspan(low, high, color=_BAND, label="REVIEW", zorder=0)
    axes.axvline(point.threshold, c="black", ls="--", lw=1, label="threshold")
    bins = np.linspace(0, 1, 41).tolist()
    for label, side, colour in ((NEGATIVE, ~truth, _BLUE), (POSITIVE, truth, _RED)):
        scores = reading.probability[side]
        axes.hist(scores, bins=bins, color=colour, alpha=0.55, label=f"{label}, {len(scores)}")
    axes.set_yscale("symlog", linthresh=10)
    axes.set_yticks([0, 5, 10, 100, 1000][: 4 if len(truth) < 2000 else 5])
    axes.get_yaxis().set_major_formatter("{x:g}")
    axes.set(
        title="Scores of the test films",
        xlabel="probability of PNEUMONIA",
        ylabel="films (logarithmic from 10 on)",
        xlim=(0, 1),
    )
    axes.legend(facecolor="white", framealpha=1, loc="upper center")
    return _png(figure)


def _confusion(confusion: Confusion) -> bytes:
    figure, panels = _axes(2, width=7.6, height=3.6)
    counts = np.array(
        [
            [confusion.true_negative, confusion.false_positive],
            [confusion.false_negative, confusion.true_positive],
        ]
    )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for axes, title, table, spell in (
        (panels[0], "films", counts, "{:d}"),
        (panels[1], "share of each row", shares, "{:.3f}"),
    ):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.3)
        for row, column in np.ndindex(2, 2):
            words = spell.format(table[row, column])
            ink = "white" if shares[row, column] > 0.7 else "black"
            axes.text(column, row, words, ha="center", va="center", size=15, color=ink)
        axes.set(title=title, xlabel="called", ylabel="is")
        axes.set_xticks([0, 1], [NEGATIVE, POSITIVE])
        axes.set_yticks([0, 1], [NEGATIVE, POSITIVE], rotation=90, va="center")
        axes.grid(visible=False)
    return _png(figure)


def _axes(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")
    panels = [figure.add_subplot(1, count, number + 1) for number in range(count)]
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
