"""What the calibration side says of a fit: each film as it is, swapped and zoomed.

Films as they are share the training films' shortcuts, and their loss picks an early epoch, which is
up to 0.02 of AUC worse on films from elsewhere than the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from training.fit.batches import Examples, balance

Logits = npt.NDArray[np.floating]

_AUCS = ("val_auc", "val_swapped", "val_zoomed")  # of each way


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Calibration films: all as they are and, where there are three ways, all swapped, all zoomed.

    Swapped is framed and exposed as the other class is; zoomed is cropped to 0.8 x 0.8.
    """

    examples: Examples  # (ways * n,)
    ways: int = 1  # or three

    def __post_init__(self) -> None:
        """Check that there is something to choose by.

        Raises:
            DataError: a class is missing.
        """
        balance(self.examples.labels)

    @property
    def as_they_are(self) -> Examples:
        """Return the films as they are, (n,)."""
        films, count = self.examples, len(self.examples) // self.ways
        return Examples(pixels=films.pixels, rows=films.rows[:count], labels=films.labels[:count])

    def numbers(self, logits: Logits, *, label_smoothing: float) -> dict[str, float]:
        """Return what a network's logits, (ways * n,), come to: all NaN where one is not finite.

        `val_loss` weighs both classes the same. `val_robust` is the mean of `val_auc`, of films as
        they are, `val_swapped` and `val_zoomed`; of the first alone where there is one way. Zoomed
        sets one class cropped against the other as it is, and takes the worse of the two.
        """
        names = ("val_loss", *_AUCS[: self.ways], "val_robust")
        if not np.isfinite(logits).all():
            return dict.fromkeys(names, np.nan)
        logits = logits.astype(np.float64)
        labels = self.examples.labels
        wanted = labels * (1 - label_smoothing) + label_smoothing / 2
        losses = (np.logaddexp(0, logits) - wanted * logits) * balance(labels)
        ways = logits.reshape(self.ways, -1)
        sick = labels[: ways.shape[1]] > 0.5
        aucs = [_auc(sick, one) for one in ways[:2]]
        if self.ways > 1:
            as_is, _, closer = ways
            zoomed = np.where(sick, as_is, closer), np.where(sick, closer, as_is)
            aucs.append(min(_auc(sick, one) for one in zoomed))
        return dict(zip(names, (float(losses.mean()), *aucs, float(np.mean(aucs))), strict=True))


def _auc(sick: npt.NDArray[np.bool_], logits: npt.NDArray[np.float64]) -> float:
    return float(roc_auc_score(sick, logits))
