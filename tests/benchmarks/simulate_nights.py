"""What a year of nights does under each level of evidence: a simulation with the real gate.

    python tests/benchmarks/simulate_nights.py [--years 10] [--seed 0]

Prints the table in tests/README.md; minutes on a free core. What it assumes:

- One test side for the whole year: 224 NORMAL films of 200 patients and 360 PNEUMONIA films of 171.
- A model's score of a film is normal around -d or d, by the film's class. True AUC is known from d,
  which is another one on the film swapped and on the film zoomed. Robust AUC is the mean of three.
- Two models trained on the same films agree: within a class their scores correlate by 0.8. Films
  of one patient correlate by 0.3. A model's own part of a score is half the same on a changed film.
- Every night there are new labels, so every night trains from nothing. How good the model is varies
  with the seed: a standard deviation of 0.0015 around an AUC of 0.990, which is 0.015 lower on
  swapped films and 0.020 lower on zoomed ones, which are scored once here, not for each class.
- Thresholds are chosen for a sensitivity of 0.97 on 549 other films, and scores are calibrated
  there, so both vary from model to model.
- `alike`: no night is better than another but by luck. `learning`: over the year labels lift the
  AUC of what is trained from 0.985 to 0.992. `spoilt`: as `learning`, but every tenth night trained
  on labels that cost it 0.02 of AUC. `blunted`: as `learning`, but every tenth night chose its
  threshold for a sensitivity of 0.94, its AUC being as good as any. `shortcut`: as `learning`, but
  every tenth night learnt what marks the films and not the disease: its AUC is 0.004 higher, and
  0.06 lower on swapped and zoomed films.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from training.evaluate.metrics import OperatingPoint, Scores, Truth, evaluate
from training.evaluate.paired import Reading, compare, half_pairs
from training.evaluate.shifts import estimate_areas
from training.gate import Evidence, Rules, judge_promotion

NIGHTS = 365
FILMS, PATIENTS = (224, 360), (200, 171)  # NORMAL, PNEUMONIA
AGREEMENT, OF_PATIENT = 0.8, 0.3
CALIBRATION_FILMS = 549
DRAWS = 400
NORMAL = NormalDist()


def to_distance(true_auc: float) -> float:
    """Return d for a true AUC: scores of unit variance around -d and d."""
    return NORMAL.inv_cdf(true_auc) / math.sqrt(2)


@dataclass(frozen=True)
class Quality:
    """True AUC on films as they are, swapped and zoomed."""

    auc: float
    swapped: float
    zoomed: float

    @classmethod
    def of(cls, level: float, *, lost: float = 0.0) -> Quality:
        """Return that of a model of this AUC, which loses so much more than others under shift."""
        values = np.clip([level, level - 0.015 - lost, level - 0.020 - lost], 0.55, 0.9995)
        return cls(*map(float, values))

    @property
    def robust(self) -> float:
        """The mean."""
        return (self.auc + self.swapped + self.zoomed) / 3


@dataclass(frozen=True)
class Model:
    """A model: how good it is in truth, and what it makes of the test films."""

    true_auc: float  # robust
    true_sensitivity: float  # at its own threshold, of films as they are
    logits: Scores
    shifted: tuple[Scores, Scores]  # of the films swapped and zoomed
    point: OperatingPoint

    @property
    def reading(self) -> Reading:
        """What it makes of the test films."""
        return Reading.of(self.logits, self.point)

    @property
    def views(self) -> list[Scores]:
        """What it makes of the films as they are, swapped, and zoomed in either class."""
        return [self.logits, *self.shifted, self.shifted[1]]


class World:
    """A year's test films, and models trained night after night."""

    def __init__(self, seed: int) -> None:
        """Draw the test films and how hard each is."""
        self.rng = np.random.default_rng(seed)
        self.truth: Truth = np.repeat([False, True], FILMS)
        owner = [
            np.append(np.arange(n), self.rng.integers(0, n, films - n))
            for films, n in zip(FILMS, PATIENTS, strict=True)
        ]
        patient = np.append(owner[0], owner[1] + PATIENTS[0])
        self.patients = [str(number) for number in patient]
        of_patient = self.rng.normal(size=sum(PATIENTS))[patient]
        of_film = self.rng.normal(size=len(patient))
        hardness = math.sqrt(OF_PATIENT) * of_patient + math.sqrt(1 - OF_PATIENT) * of_film
        self.hardness = math.sqrt(AGREEMENT) * hardness

    def train(self, true: Quality, *, aim: float = 0.97) -> Model:
        """Return a model of these true AUCs, its threshold chosen for a sensitivity of `aim`."""
        rng = self.rng
        distance, *others = (to_distance(value) for value in (true.auc, true.swapped, true.zoomed))
        own = [math.sqrt(1 - AGREEMENT) * rng.normal(size=len(self.truth)) for _ in range(3)]
        scores = self._scores(distance, own[0])
        # The honest log-odds at equal frequency are 2 d z; calibrating is done with some error.
        slope = 2 * distance * math.exp(rng.normal(0, 0.1))
        shift = rng.normal(0, 0.2)
        elsewhere = np.sort(rng.normal(distance, 1, CALIBRATION_FILMS))
        cut = float(elsewhere[math.floor((1 - aim) * CALIBRATION_FILMS)])
        threshold = 1 / (1 + math.exp(-(cut * slope + shift)))
        point = OperatingPoint(
            temperature=1.0, threshold=threshold, review_band=(threshold, threshold)
        )
        swapped, zoomed = (
            self._scores(other, (own[0] + fresh) / math.sqrt(2)) * slope + shift
            for other, fresh in zip(others, own[1:], strict=True)
        )
        return Model(
            true.robust,
            NORMAL.cdf(distance - cut),
            scores * slope + shift,
            (swapped, zoomed),
            point,
        )

    def _scores(self, distance: float, own: Scores) -> Scores:
        return np.where(self.truth, distance, -distance) + self.hardness + own

    def robust(self, model: Model) -> float:
        """Return the mean of a model's AUCs."""
        views = (model.logits, *model.shifted)
        pairs = 2 * math.prod(FILMS)
        return sum(half_pairs(self.truth, view) for view in views) / (3 * pairs)

    def promotes(self, champion: Model, challenger: Model, evidence: Evidence) -> bool:
        """Ask the real gate, unless the robust AUC alone already decides."""
        robust = self.robust(challenger)
        if robust <= self.robust(champion):
            return False
        comparison = compare(
            self.truth, self.patients, champion.reading, challenger.reading, draws=DRAWS
        )
        areas = estimate_areas(
            self.truth, self.patients, challenger.views, champion.views, draws=DRAWS
        )
        numbers = evaluate(self.truth, challenger.logits, challenger.point)
        return judge_promotion(
            numbers.model_copy(update={"robust_auc": robust}),
            champion="champion",
            comparison=comparison.model_copy(
                update={"differences": comparison.differences.model_copy(update=areas)}
            ),
            rules=Rules(evidence=evidence),
        ).promote


def is_bad(night: int) -> bool:
    """Whether this is one of the nights on which something is wrong, where something is."""
    return night % 10 == 9


def quality(scenario: str, night: int, rng: np.random.Generator) -> Quality:
    """Return the true AUCs of what a night trains."""
    level = 0.990 if scenario == "alike" else 0.985 + 0.007 * night / NIGHTS
    level += rng.normal(0, 0.0015)
    if scenario == "spoilt" and is_bad(night):
        level -= 0.02
    if scenario == "shortcut" and is_bad(night):
        return Quality.of(level + 0.004, lost=0.064)
    return Quality.of(level)


@dataclass
class Year:
    """What became of a year."""

    promotions: int = 0
    worse: int = 0  # of them, to a model that is worse in truth
    bad: int = 0  # of them, to a model of a night on which something was wrong
    gain: float = 0.0  # in true robust AUC, from the first champion to the last
    sensitivity: float = 0.0  # the last champion's, in truth
    flattery: float = (
        0.0  # of the last champion's robust AUC, above what as good a model gets unchosen
    )


def live(scenario: str, evidence: Evidence | None, seed: int) -> Year:
    """Return a year of nights; without evidence, the newest always serves."""
    world, luck = World(seed), np.random.default_rng((seed, 1))
    start = Quality.of(0.990 if scenario == "alike" else 0.985)
    first = champion = world.train(start)
    served = start
    year = Year()
    for night in range(NIGHTS):
        wrong = scenario in ("spoilt", "blunted", "shortcut") and is_bad(night)
        aim = 0.94 if scenario == "blunted" and wrong else 0.97
        true = quality(scenario, night, luck)
        challenger = world.train(true, aim=aim)
        if evidence is None or world.promotes(champion, challenger, evidence):
            year.promotions += 1
            year.worse += challenger.true_auc < champion.true_auc
            year.bad += wrong
            champion, served = challenger, true
    year.gain = champion.true_auc - first.true_auc
    year.sensitivity = champion.true_sensitivity
    # How easy these test films happen to be is no flattery: models that were not chosen tell it.
    usual = np.mean([world.robust(world.train(served)) for _ in range(30)])
    year.flattery = world.robust(champion) - float(usual)
    return year


def main() -> None:
    """Live the years and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print(
        "| nights | evidence | promotions | of them to a worse model | of a bad night "
        "| true robust AUC gained | true sensitivity in the end | robust AUC flattered by |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for scenario in ("alike", "learning", "spoilt", "blunted", "shortcut"):
        for evidence in (None, "point", "paired95"):
            seeds = range(chosen.seed, chosen.seed + chosen.years)
            years = [live(scenario, evidence, seed) for seed in seeds]
            total = sum(year.promotions for year in years)
            cells = (
                *(scenario, evidence or "none: the newest serves", f"{total / len(years):.1f}"),
                f"{sum(year.worse for year in years) / max(1, total):.0%}",
                f"{sum(year.bad for year in years) / len(years):.2f}",
                f"{np.mean([year.gain for year in years]):+.4f}",
                f"{np.mean([year.sensitivity for year in years]):.3f}",
                f"{np.mean([year.flattery for year in years]):+.4f}",
            )
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
