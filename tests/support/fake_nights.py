"""Nights of a second: a package that is copied in place of a fit, and scores that are made up.

A real night fits, exports and scores for half a minute. All else of a night is as it is.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from packages import change_manifest

from training.evaluate.corruptions import DISTURBANCES
from training.evaluate.scoring import UNTOUCHED, Evaluator, Scored
from training.io import needed
from training.night.build import Made, Maker
from training.night.state import Night
from worker.model.decision import Score
from worker.model.evaluation import Metrics
from worker.model.familiarity import FAMILIAR
from worker.model.manifest import GOLDEN, MANIFEST, SERVED, read_manifest

CHAMPION = "drawn-0"


def copying(package: Path) -> Maker:
    """Return a maker that fits nothing: what it makes is this package under the night's name."""

    def make(night: Night) -> Made:
        manifest = read_manifest(package)
        served = (package / SERVED).read_bytes()
        version = f"{night.now:%Y%m%d}-{hashlib.sha256(served).hexdigest()[:8]}"
        training = manifest.training | {
            "data_digest": night.dataset.digest,
            "counts": night.dataset.counts(),
            "salt": night.plan.salt,
        }
        night.record.note(training=training, challenger=version)
        kept = [name for name in (SERVED, GOLDEN, FAMILIAR) if name in manifest.files]
        place = night.registry.folder(version)
        if not place.exists():
            with needed("the model's package cannot be written", night.registry.root):
                place = night.registry.stage(version)
                for name in [MANIFEST, *kept]:
                    shutil.copy(package / name, place / name)
                files = {name: manifest.files[name].model_dump() for name in kept}
                change_manifest(place, version=version, training=training, files=files)
        return Made(version=version, package=place, training=training, calibration_side=Metrics())

    return make


def pretending(*, challenger: int = 0, champion: int = 0, broken: str = "") -> Evaluator:
    """Return what lets each model be sure and right, but for so many films of each class."""

    def logits_of(films: Sequence[Path], wrong: int) -> npt.NDArray[np.float64]:
        truth = np.array([film.parent.name == "PNEUMONIA" for film in films])
        logits = np.where(truth, 3.0, -3.0) + np.linspace(0, 0.1, len(truth))
        for side in (truth, ~truth):
            logits[np.flatnonzero(side)[:wrong]] *= -1
        return logits

    def score(packages: Sequence[Path], films: Sequence[Path], _: object = None) -> list[Scored]:
        return [
            Scored(error=broken)
            if broken and package.name == CHAMPION
            else Scored(scores=logits_of(films, wrong).tolist())
            for package, wrong in zip(packages, (challenger, champion), strict=False)
        ]

    def disturbed(
        _: Path, films: Sequence[Path], __: object = None
    ) -> dict[str, list[Score | str]]:
        logits = logits_of(films, challenger)
        return {
            name: [Score(logit=float(logit), strangeness=0.5) for logit in logits]
            for name in (UNTOUCHED, *DISTURBANCES)
        }

    return Evaluator(score=score, score_disturbed=disturbed)
