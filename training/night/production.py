"""Decoded films to a fitted, calibrated network in the files that serve.

Everything here looks at the train and calibration sides alone; the test side is not handed to it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from training.data.cache import Films
from training.data.dataset import Dataset, Side
from training.evaluate import metrics
from training.evaluate.head_to_head import is_positive
from training.evaluate.operating_point import Aims, choose_operating_point, fit_calibration
from training.fit.batches import Examples, InOrder
from training.fit.network import Architecture, build_network, describe, shift_logit
from training.fit.trainer import Fitted, Limits, Recipe, fit
from training.fit.warm_start import Start
from training.night.record import code_digest
from training.package import build, familiarity

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Product:
    """A model that nobody has measured yet."""

    exported: build.Exported
    point: metrics.OperatingPoint
    familiarity: familiarity.Familiarity
    calibration_side: dict[str, Any]  # what it makes of the films it was calibrated on
    training: dict[str, Any]  # what was trained on what, and how: for the manifest


def produce(
    dataset: Dataset,
    films: Films,
    *,
    architecture: Architecture,
    start: Start,
    recipe: Recipe,
    salt: str,
    scratch_root: Path,
    now: datetime,
    say: Say,
    limits: Limits | None = None,
) -> Product:
    """Fit a network on the train side, calibrate it on the calibration side, and export it.

    Args:
        dataset: says which film lies on which side.
        films: their pixels, of the architecture's height and width.
        architecture: of the network.
        start: the weights it begins with.
        recipe: how to fit; its seed decides everything that is random.
        salt: that the split was made with; goes on record.
        scratch_root: where a killed run leaves what it needs to go on. Nobody else's: what others
            left there is swept.
        now: UTC.
        say: is given a line an epoch.
        limits: of time; none where not given.

    Raises:
        DataError: the loss is not finite, or a side lacks a class.
    """
    training = _recorded(dataset, architecture, start, recipe=recipe, salt=salt)
    train = _examples(dataset, films, Side.TRAIN)
    calibration = _examples(dataset, films, Side.CALIBRATION)
    scratch = _scratch(scratch_root, training)
    network = _begun(architecture, start, recipe)
    say(f"fitting {network.count_params():,} weights {start.why}, {recipe.epochs} epochs at most")
    fitted = fit(network, train, calibration, recipe, scratch=scratch, say=say, limits=limits)
    say(f"fitted: {fitted.ended}; the weights are those of epoch {fitted.epoch}")
    return _finished(network, fitted, train, calibration, training, now=now)


def _recorded(
    dataset: Dataset,
    architecture: Architecture,
    start: Start,
    *,
    recipe: Recipe,
    salt: str,
) -> dict[str, Any]:
    """Return what decides which weights come out, for the manifest and for the scratch folder."""
    return {
        "data": dataset.name,
        "data_digest": dataset.digest,
        "counts": dataset.counts(),
        "salt": salt,
        "from": start.version,  # whose weights; None for fresh ones
        "recipe": asdict(recipe),
        "architecture": describe(architecture),
        "prevalence": 0.5,  # that the probabilities are calibrated for
    }


def _begun(architecture: Architecture, start: Start, recipe: Recipe) -> keras.Model:
    """Return the network with the weights it begins with."""
    keras.utils.clear_session()  # layers' names go into the served file: let them start at one
    keras.utils.set_random_seed(recipe.seed)
    network = build_network(architecture)
    if start.weights is not None:
        network.load_weights(start.weights)
    return network


def _finished(
    network: keras.Model,
    fitted: Fitted,
    train: Examples,
    calibration: Examples,
    training: dict[str, Any],
    *,
    now: datetime,
) -> Product:
    """Calibrate, export, choose the operating point, and learn what is familiar."""
    # The calibration's shift goes into the network's bias, its temperature into the manifest.
    truth = calibration.labels > 0.5
    raw = network.predict(InOrder(calibration), verbose=0)["logit"][:, 0]
    scale = fit_calibration(truth, raw.astype(np.float64))
    shift_logit(network, scale.shift)

    # The threshold is chosen on what the served file gives, not on what Keras gives.
    exported = build.export(network, now=now)
    logits = build.litert_logits(exported.served, calibration.films()).astype(np.float64)
    aims = Aims()
    point = choose_operating_point(truth, logits, temperature=scale.temperature, aims=aims)

    # What these films look like, by the network that serves: so that it knows what does not.
    familiar = familiarity.fit(
        familiarity.look(exported.served, train.films()),
        familiarity.look(exported.served, calibration.films()),
    )
    return Product(
        exported=exported,
        point=point,
        familiarity=familiar,
        calibration_side=metrics.evaluate(truth, logits, point),
        training={
            **training,
            "aims": asdict(aims),
            "familiar": familiar.facts,
            "backend": keras.backend.backend(),
            "minutes": sum(epoch["seconds"] for epoch in fitted.curve) / 60,
            "ended": fitted.ended,
            "epoch": fitted.epoch,  # whose weights these are
            "curve": fitted.curve,
        },
    )


def _examples(dataset: Dataset, films: Films, side: Side) -> Examples:
    scans = dataset.side(side)
    return Examples(
        pixels=films.pixels,
        rows=np.array([films.rows[scan.sha256] for scan in scans], dtype=np.intp),
        labels=is_positive(scans).astype(np.float32),
    )


def _scratch(root: Path, training: dict[str, Any]) -> Path:
    """Name the folder in which this very run can go on, and sweep what was left of others."""
    made_by = {"backend": keras.backend.backend(), "code": code_digest()}
    digest = hashlib.sha256(json.dumps(training | made_by, sort_keys=True).encode()).hexdigest()
    folder = root / f"fit-{digest[:16]}"
    for other in root.glob("fit-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder
