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

from training.data.splits import LabelledScan
from training.evaluate.corruptions import DISTURBANCES
from training.evaluate.reframed import Kind
from training.evaluate.scoring import UNTOUCHED, Evaluator, Scored, ScoredByKind
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


def pretending(
    *, challenger: int = 0, champion: int = 0, swapped: int = 0, broken: str = ""
) -> Evaluator:
    """Return what lets each model be sure and right, but for so many films of each class.

    On swapped films the challenger has `swapped` more of each class wrong.
    """

    def logits_of(films: Sequence[Path], wrong: int) -> npt.NDArray[np.float64]:
        truth = np.array([film.parent.name == "PNEUMONIA" for film in films])
        logits = np.where(truth, 3.0, -3.0) + np.linspace(0, 0.1, len(truth))
        for side in (truth, ~truth):
            logits[np.flatnonzero(side)[:wrong]] *= -1
        return logits

    def sure(logits: Sequence[float | str]) -> list[Score | str]:
        return [Score(logit=float(logit), strangeness=0.5) for logit in logits]

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
        scores = sure(logits_of(films, challenger).tolist())
        return dict.fromkeys((UNTOUCHED, *DISTURBANCES), scores)

    def reframed(
        packages: Sequence[Path], films: Sequence[LabelledScan], _: object = None
    ) -> list[ScoredByKind]:
        paths = [film.path for film in films]
        found = []
        for number, one in enumerate(score(packages, paths)):
            wrong = (challenger + swapped, champion)[number]
            by_kind = {
                name: sure(logits_of(paths, wrong).tolist() if name == Kind.SWAPPED else one.scores)
                for name in (UNTOUCHED, *Kind)
                if not one.error
            }
            found.append(ScoredByKind(scores=by_kind, error=one.error))
        return found

    return Evaluator(score=score, score_disturbed=disturbed, score_reframed=reframed)
