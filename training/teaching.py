"""Softer labels for the network that serves: what networks say of films they have not seen.

Each teacher is fitted on all patients but those of one fold, and then asked about those. A film's
label becomes a mixture of what its reader said and what that teacher says, so that the pupil is
not made to be sure of films that nobody could be sure of. Distillation (Hinton, Vinyals and Dean
2015, *Distilling the Knowledge in a Neural Network*) from out-of-fold predictions (Wolpert 1992,
*Stacked Generalization*). What serves is the pupil alone: it costs nothing at serving.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from training.augmentation import Labels
from training.batches import Examples
from training.evaluation import Scores, fit_calibration
from training.fit import Limits, Recipe, fit
from training.network import Architecture, build_network
from training.watching import Say
from worker.decision import calibrate

_ASKED = 2048  # films in memory at once


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """How the pupil is taught. Travels in the manifest."""

    teachers: int = 0  # folds, and so networks; 0 for none
    heed: float = 0.5  # the teacher's share in a label: no more, or readers could be outvoted
    epochs: int = 25  # of each teacher


def teach(
    train: Examples,
    calibration: Examples,
    patients: Sequence[str],
    lessons: Lessons,
    *,
    architecture: Architecture,
    recipe: Recipe,
    salt: str,
    scratch: Path,
    say: Say,
    limits: Limits,
) -> Labels:
    """Fit the teachers one after the other, and return what they say of the films: (n,) float32.

    Args:
        train: the films, n of them, and what readers said.
        calibration: chooses each teacher's best epoch, and makes its logits probabilities.
        patients: (n,) of the films: a patient's films lie in one fold.
        lessons: how many teachers, and for how long.
        architecture: of the teachers, and of the pupil.
        recipe: of the pupil; the teachers' differs in epochs and seed.
        salt: decides the folds, with the patient.
        scratch: a folder in which a killed run can go on.
        say: is given a line a teacher, and one an epoch.
        limits: of time. Teachers leave the pupil its part of what is left.

    Raises:
        DataError: a fold's other films lack a class, or a loss is not finite.
    """
    folds = _folds(patients, lessons.teachers, salt=salt)
    said = np.empty(len(train), dtype=np.float32)
    for fold in range(lessons.teachers):
        theirs, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if len(theirs) == 0:
            continue
        say(f"teacher {fold + 1} of {lessons.teachers}: fitted on {len(others)} films")
        own = replace(recipe, epochs=lessons.epochs, seed=recipe.seed + 1 + fold)
        keras.utils.set_random_seed(own.seed)
        network = build_network(architecture)
        left = lessons.teachers - fold + recipe.epochs / lessons.epochs
        fit(
            network,
            _some(train, others),
            calibration,
            own,
            scratch=scratch / f"teacher-{fold + 1}",
            say=say,
            limits=replace(limits, stop_at=_share(limits, left), tensorboard=None),
        )
        scale = fit_calibration(calibration.labels > 0.5, _logits(network, calibration))
        logits = _logits(network, _some(train, theirs)) + scale.shift
        said[theirs] = calibrate(logits, scale.temperature)
    return said


def heeding(labels: Labels, said: Labels, lessons: Lessons) -> Labels:
    """Mix what readers said, (n,) of 0 and 1, with what teachers say, (n,) of 0 to 1."""
    mixed: Labels = ((1 - lessons.heed) * labels + lessons.heed * said).astype(np.float32)
    return mixed


def _folds(patients: Sequence[str], folds: int, *, salt: str) -> npt.NDArray[np.intp]:
    """Return each film's fold, by a hash of its patient."""
    digests = (hashlib.sha256(f"{salt}:fold:{patient}".encode()).digest() for patient in patients)
    return np.array([int.from_bytes(digest[:8]) % folds for digest in digests], dtype=np.intp)


def _some(examples: Examples, which: npt.NDArray[np.intp]) -> Examples:
    return replace(examples, rows=examples.rows[which], labels=examples.labels[which])


def _logits(network: keras.Model, films: Examples) -> Scores:
    """Return a network's logits, (n,) float64."""
    parts = [films.rows[start : start + _ASKED] for start in range(0, len(films), _ASKED)]
    logits = [network.predict(films.pixels[part][..., None], verbose=0)["logit"] for part in parts]
    return np.concatenate(logits)[:, 0].astype(np.float64)


def _share(limits: Limits, left: float) -> float:
    """Return when a teacher's time is up, if as much work as `left` of it is still to be done."""
    now = limits.clock()
    return now + (limits.stop_at - now) / left
