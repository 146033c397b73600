"""What a night is asked to do: what cannot be done is refused before a film is looked at."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from training.fit.sizes import CELL, is_whole
from training.night.options import read_plan
from worker.settings import Settings


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (
            "--side-pixels 150",
            "150 pixels a side do not suit the network's strides: use 144 or 160",
        ),
        (
            "--side-pixels 250",
            "250 pixels a side do not suit the network's strides: use 240 or 256",
        ),
        ("--side-pixels 0", "0 pixels a side do not suit the network's strides: use 16"),
        ("--side-pixels -160", "-160 pixels a side do not suit the network's strides: use 16"),
        ("--side-pixels wide", "'wide' is not a whole number"),
        ("--seed -1", "-1 is not between 0 and 4294967295"),
        ("--seed 4294967296", "4294967296 is not between 0 and 4294967295"),
        ("--epochs 0", "0 epochs: at least 1 is needed"),
        ("--epochs -3", "-3 epochs: at least 1 is needed"),
        ("--max-minutes nan", "nan minutes: a positive number is needed"),
        ("--max-minutes inf", "inf minutes: a positive number is needed"),
        ("--max-minutes 0", "0 minutes: a positive number is needed"),
        ("--max-minutes soon", "'soon' is not a number"),
        ("--population H\udcf4pital", r"'H\udcf4pital' is not UTF-8"),
        ("--test-note H\udcf4pital", r"'H\udcf4pital' is not UTF-8"),
        ("--salt H\udcf4pital", r"'H\udcf4pital' is not UTF-8"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    asked: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a line that names the option and says what would do."""
    option, value = asked.split()
    with pytest.raises(SystemExit) as ended:
        read_plan([f"{option}={value}"], Settings(), description="")
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: " in last
    assert why in last


@pytest.mark.parametrize("side", [32, 128, 160, 200, 224, 256, 300, 320])
def test_sizes_that_the_network_takes_are_taken(side: int) -> None:
    """As is a seed of 0, and a single epoch."""
    asked = ["--side-pixels", str(side), "--seed", "0", "--epochs", "1", "--no-database"]
    plan = read_plan(asked, Settings(), description="")
    assert (plan.side_pixels, plan.seed, plan.epochs) == (side, 0, 1)


def test_sentences_and_half_minutes_are_taken() -> None:
    """Sentences with their letters and spaces, as they are."""
    asked = ["--population", "Köln, kids ≤ 5", "--test-note", "drawn last", "--max-minutes", "0.5"]
    plan = read_plan(asked, Settings(), description="")
    assert (plan.population_note, plan.test_note, plan.max_minutes) == (
        "Köln, kids ≤ 5",
        "drawn last",
        0.5,
    )


def test_whose_films_they_are_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As facts; without the setting it is left to the champion."""
    assert read_plan([], Settings(), description="").population is None
    monkeypatch.setenv("LUNGWATCH_POPULATION", "1.0 to under 6.0 years; City Hospital; its archive")
    plan = read_plan([], Settings(), description="")
    assert plan.population is not None
    assert (plan.population.from_years, plan.population.hospital) == (1.0, "City Hospital")


def test_films_of_other_patients_come_with_their_source(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without it they are refused: the card names source and licence. Given, they decide."""
    asked = ["--other-patients", str(tmp_path)]
    with pytest.raises(SystemExit):
        read_plan(asked, Settings(), description="")
    assert "--other-patients-source" in capsys.readouterr().err
    plan = read_plan([*asked, "--other-patients-source", "NIH"], Settings(), description="")
    assert (plan.other_patients, plan.other_patients_source) == (tmp_path, "NIH")
    assert plan.work() != read_plan([], Settings(), description="").work()


def test_the_command_line_knows_the_networks_strides() -> None:
    """A size is taken where the architecture's own strides divide what it looks at."""
    from training.fit.network import Architecture

    assert math.prod((2, *Architecture().strides)) == CELL
    for side in range(16, 400):
        one = Architecture.of(side)
        assert is_whole(side) == ((one.height - 2 * one.margin) % CELL == 0)
