"""From decoded films to a model package, fitted and calibrated, that nobody has judged yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from training.console import needed
from training.data.cache import Films
from training.data.dataset import Dataset, Side
from training.data.seen_films import marks_of
from training.fit.network import Architecture, describe
from training.fit.trainer import Limits, Recipe
from training.fit.warm_start import Start, choose_start, from_scratch
from training.night.options import Plan
from training.night.production import Product, produce
from training.night.record import Record
from training.package import build
from worker.model.registry import Registry

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A model that nobody has judged yet, as files on disk."""

    dataset: Dataset  # less the films that cannot be read
    films: Films
    product: Product
    training: dict[str, Any]  # what the manifest says under `training`
    package: Path  # staged; or published, by a night that was killed before its verdict

    @property
    def version(self) -> str:
        """Of the model."""
        return self.product.exported.version


def make(
    plan: Plan,
    dataset: Dataset,
    films: Films,
    registry: Registry,
    record: Record,
    *,
    now: datetime,
    say: Say,
) -> Made:
    """Fit a network, calibrate it, and make it into a package aside.

    Args:
        plan: of the night.
        dataset: says which film lies on which side.
        films: their pixels, of the plan's side.
        registry: where it is to serve, and whose champion it may go on from.
        record: of the night.
        now: UTC; names the version and dates the package.
        say: is given a line for each step.

    Raises:
        DataError: the loss is not finite, a side lacks a class, or a file cannot be written.
    """
    start = _start(plan, dataset, registry)
    product = produce(
        dataset,
        films,
        architecture=Architecture.of(plan.side_pixels),
        start=start,
        recipe=Recipe.starting(
            from_weights=start.weights is not None, epochs=plan.epochs, seed=plan.seed
        ),
        salt=plan.salt,
        scratch_root=plan.scratch,
        now=now,
        say=say,
        limits=Limits(
            stop_at=time.monotonic() + 60 * plan.max_minutes, tensorboard=plan.tensorboard
        ),
    )
    training = {**product.training, "population": plan.population}
    record.note(training=training, challenger=product.exported.version)
    package = registry.folder(product.exported.version)
    if package.exists():
        say(f"{package.name} is there already: its card is of the night that made it first")
    else:
        with needed("the model's package cannot be written", registry.root):
            package = build.stage(
                registry,
                product.exported,
                product.point,
                training=training,
                now=now,
                familiarity=product.familiarity,
                learnt=marks_of(dataset.scans, since=start.weights and start.weights.parent),
            )
    return Made(dataset=dataset, films=films, product=product, training=training, package=package)


def _start(plan: Plan, dataset: Dataset, registry: Registry) -> Start:
    if plan.start != "champion":
        return from_scratch()
    return choose_start(
        registry,
        architecture=describe(Architecture.of(plan.side_pixels)),
        salt=plan.salt,
        test=dataset.side(Side.TEST),
        calibration=dataset.side(Side.CALIBRATION),
    )
