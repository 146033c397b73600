"""How often drift is cried without a change, and how soon seen with one, however many films come.

    python tests/benchmarks/simulate_drift.py [--years 150] [--seed 2000]

Prints the table in tests/README.md; some ten minutes on a core. What it assumes:

- The reference is 28 days of 60 films, Poisson; a year of 365 days follows in which nothing changes
  but how many films come, by the same reference for each volume.
- A day has a mood: its scores are normal about a mean that varies from day to day by 0.15 of their
  standard deviation, strangeness and contrast likewise. A decision follows from score and
  strangeness; one film in a hundred is refused.
- Films are of one size, but for one in fifty, which is cut to a size of its own. Three devices
  wrote them, 70, 29 and 1 %.
- A change is there on each day of one week of its own after the reference, and noticed if there is
  an alarm at the end of that week.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from worker.monitoring.drift import REFERENCE_DAYS, WINDOW_DAYS, Day, find_drift

FILMS = 60
YEAR = 365
VOLUMES = (0.15, 0.6, 1.0, 2.0)
MOOD = 0.15
CHANGES = {
    "scores by a third": {"shift": 1 / 3},
    "scores by half": {"shift": 0.5},
    "another export, 20 %": {"other": 0.2},
    "another size, 20 %": {"small": 0.2},
}


def day(
    generator: np.random.Generator,
    volume: float,
    *,
    shift: float = 0.0,
    other: float = 0.0,
    small: float = 0.0,
) -> Day:
    """Return the films of a day, one at least.

    Args:
        generator: of all that is drawn.
        volume: films to those of the reference.
        shift: of the scores, in standard deviations.
        other: share of films that a device wrote which the reference does not know.
        small: share of films of another size.
    """
    count = max(1, int(generator.poisson(FILMS * volume)))
    moods = generator.normal(0, MOOD, 3)
    score = generator.normal(moods[0] + shift, 1, count)
    strangeness = generator.normal(moods[1], 1, count)
    decision = np.where(np.abs(score) < 0.05, 2.0, np.where(score > 0, 1.0, 0.0))
    decision[strangeness > 2] = 2.0
    cut = generator.random(count) < 0.02
    megapixels = np.where(cut, generator.uniform(2, 4, count), 4.1)
    megapixels[generator.random(count) < small] = 1.0
    encoding = generator.choice([1.0, 2.0, 3.0], count, p=[0.70, 0.29, 0.01])
    encoding[generator.random(count) < other] = 9.0
    refused = generator.random(count) < 0.01
    read = {
        "score": score,
        "strangeness": strangeness,
        "megapixels": megapixels,
        "contrast": generator.normal(60 + 8 * moods[2], 8, count),
        "encoding": encoding,
    }
    values = {name: of_films[~refused] for name, of_films in read.items()}
    return Day(day="", values={"decision": np.where(refused, 3.0, decision), **values})


def live(seed: int) -> tuple[list[bool], list[list[bool]]]:
    """Return for each volume whether there was a false alarm, and which changes were noticed."""
    generator = np.random.default_rng(seed)
    reference = [day(generator, 1.0) for _ in range(REFERENCE_DAYS)]
    # One after the other, for the limits are drawn once then; windows across two are left out.
    stretches: list[Sequence[Day]] = []
    for volume in VOLUMES:
        stretches.append([day(generator, volume) for _ in range(YEAR)])
        stretches += [
            [day(generator, volume, **change) for _ in range(WINDOW_DAYS)]
            for change in CHANGES.values()
        ]
    findings = find_drift(reference, [one for days in stretches for one in days], seed=seed)
    alarms, begin = [], 0
    for days in stretches:
        end = begin + len(days) - WINDOW_DAYS + 1
        alarms.append(any(max(one.by_day[begin:end]) > 1 for one in findings))
        begin += len(days)
    each = len(CHANGES) + 1
    noticed = [alarms[first + 1 : first + each] for first in range(0, len(alarms), each)]
    return alarms[::each], noticed


def main() -> None:
    """Live the years and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=150)
    parser.add_argument("--seed", type=int, default=2000)
    chosen = parser.parse_args()
    years = [live(seed) for seed in range(chosen.seed, chosen.seed + chosen.years)]
    false, noticed = (np.sum([year[part] for year in years], axis=0) for part in (0, 1))
    print(f"| films, to the reference's | years with a false alarm | {' | '.join(CHANGES)} |")
    print(f"|---|---|{'---|' * len(CHANGES)}")
    for volume, years_of, changes in zip(VOLUMES, false, noticed, strict=True):
        cells = " | ".join(f"{count / len(years):.0%}" for count in changes)
        print(f"| {volume:g} times | {years_of} of {len(years)} | {cells} |")


if __name__ == "__main__":
    main()
