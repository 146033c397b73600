"""From a model's score to calibrated probability, label and decision. Pure functions.

Used for a film just screened, for an earlier score, and for the test films of a night.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from worker.errors import FilmRefused, ModelPackageError, RefusalCode, ReviewReason
from worker.model.manifest import NEGATIVE, POSITIVE, FamiliarLimits, Manifest

REVIEW: Final = "REVIEW"
# 8-bit rounding differs between processors. A larger difference is another film or model.
SAME_LOGIT: Final = 0.05
BALANCE: Final = 0.5  # the prevalence that every package's probabilities are calibrated for


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one model says of one film: the row in `predictions` without its keys."""

    logit: float  # the network's own, before calibration
    probability: float  # calibrated probability of PNEUMONIA, 0 to 1
    label: str  # the side of the threshold it lies on: NORMAL or PNEUMONIA
    confidence: float  # how probable that label is, 0 to 1
    decision: str  # the label, or REVIEW
    review_reason: ReviewReason | None
    threshold: float
    strangeness: float | None  # None if the package has no familiarity limits
    prevalence: float  # of PNEUMONIA, assumed by probability, confidence and threshold


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a model version gives for one film. A verdict is computed from this."""

    logit: float
    strangeness: float | None = None  # None if the package has no familiarity limits


def judge(score: Score, manifest: Manifest, *, prevalence: float | None = None) -> Verdict:
    """Turn a score into a calibrated probability, a label and a decision.

    The logit is divided by the package's temperature (Guo et al. 2017, *On Calibration of Modern
    Neural Networks*) and put through the logistic function. Label and decision are chosen at the
    package's balanced prevalence. `prevalence` then moves probability and threshold together, so
    the same logits stay above the threshold. An unfamiliar film is REVIEW for that reason even near
    the threshold, because its probability means little.

    Args:
        score: from `Model.score`, new or stored.
        manifest: of the model that gave the score.
        prevalence: of PNEUMONIA at the site, between 0 and 1; None for the package's own.

    Raises:
        ModelPackageError: a number is not finite, or the package has familiarity limits and the
            score has no strangeness. No decision is made then.
        FilmRefused: the strangeness is over the refusal limit.
    """
    logit, limits = score.logit, manifest.familiar
    if not math.isfinite(logit):
        raise ModelPackageError(f"model {manifest.version} gave a logit that is not finite")
    strange = limits is not None and _is_strange(score.strangeness, limits, manifest.version)
    probability = float(calibrate(np.float64(logit), manifest.temperature))
    positive = probability >= manifest.threshold
    label = POSITIVE if positive else NEGATIVE
    low, high = manifest.review_band
    reason = ReviewReason.NEAR_THRESHOLD if low <= probability < high else None
    if strange:
        reason = ReviewReason.UNFAMILIAR

    prior = BALANCE if prevalence is None else prevalence
    here = shift_prior(probability, prior)
    return Verdict(
        logit=logit,
        probability=here,
        label=label,
        confidence=here if positive else 1.0 - here,
        decision=label if reason is None else REVIEW,
        review_reason=reason,
        threshold=shift_prior(manifest.threshold, prior),
        strangeness=None if limits is None else score.strangeness,
        prevalence=prior,
    )


def _is_strange(strangeness: float | None, limits: FamiliarLimits, version: str) -> bool:
    """Whether a film is over the review limit. Raises FilmRefused over the refusal limit."""
    if strangeness is None or not math.isfinite(strangeness):
        raise ModelPackageError(f"model {version} gave a strangeness that is not finite")
    if not strangeness <= limits.refuse:
        raise FilmRefused(
            RefusalCode.NOT_A_CHEST_XRAY,
            f"The picture is not like a frontal chest X-ray: its strangeness is "
            f"{strangeness:.2f}, over the limit of {limits.refuse:.2f}.",
            measured=round(strangeness, 3),
            limit=round(limits.refuse, 3),
        )
    return not strangeness <= limits.review


def shift_prior(probability: float, prevalence: float) -> float:
    """Return a probability for balanced classes, adjusted to a prevalence of PNEUMONIA.

    The log-odds move by those of the prevalence (Saerens, Latinne and Decaestecker 2002, *Adjusting
    the Outputs of a Classifier to New a Priori Probabilities*).

    >>> shift_prior(0.5, 0.1)
    0.1
    >>> shift_prior(0.9, 0.5)
    0.9
    """
    if prevalence == BALANCE:
        return probability  # exactly
    positive, negative = probability * prevalence, (1 - probability) * (1 - prevalence)
    return positive / (positive + negative)


def calibrate(
    logits: np.float64 | npt.NDArray[np.floating[Any]], temperature: float
) -> npt.NDArray[np.float64]:
    """Return probabilities of PNEUMONIA (float64) for logits of any shape."""
    # The clip prevents overflow in exp; probabilities there are 0 or 1 to 16 digits.
    scaled = np.clip(np.asarray(logits, dtype=np.float64) / temperature, -700, 700)
    probabilities: npt.NDArray[np.float64] = 1.0 / (1.0 + np.exp(-scaled))
    return probabilities
