"""Whose films a model has been tested on: facts that are written, read and told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from checkout import REPOSITORY
from scans import manifest

from worker.model.manifest import MANIFEST, read_manifest
from worker.model.population import GUANGZHOU, Population, read_population
from worker.settings import Settings

CITY = Population(from_years=0.5, under_years=16.0, hospital="City Hospital", source="its archive")


@pytest.mark.parametrize(
    ("line", "population"),
    [
        ("0.5 to under 16.0 years; City Hospital; its archive", CITY),
        ("  0.5 to under 16 years ;City Hospital;its archive ", CITY),
        (
            "18 to under 120 years; Klinikum Köln; films of 2025; wards 3 and 4",
            Population(
                from_years=18.0,
                under_years=120.0,
                hospital="Klinikum Köln",
                source="films of 2025; wards 3 and 4",
            ),
        ),
    ],
)
def test_a_line_is_read(line: str, population: Population) -> None:
    """Ages, hospital and source, with semicolons between."""
    assert read_population(line) == population


@pytest.mark.parametrize(
    "line",
    [
        "children of one to five",
        "1.0 to under 6.0 years; City Hospital",
        "1.0 to under 6.0 years; ; its archive",
        "6.0 to under 1.0 years; City Hospital; its archive",
        "1.0 to under 600 years; City Hospital; its archive",
        "nan to under 6.0 years; City Hospital; its archive",
    ],
)
def test_what_is_no_population_is_refused(line: str) -> None:
    """A sentence, a part left out, or ages that nobody has."""
    with pytest.raises(ValueError, match="years"):
        read_population(line)


@pytest.mark.parametrize(
    ("population", "sentence"),
    [
        (
            GUANGZHOU,
            "This model has been tested on children from 1.0 to under 6.0 years at Guangzhou Women "
            "and Children's Medical Center (Kermany et al., doi 10.17632/rscbjbr9sj) only.",
        ),
        (CITY.model_copy(update={"under_years": 90.0}), "patients from 0.5 to under 90.0 years"),
        (
            CITY.model_copy(update={"from_years": 18.0, "under_years": 90.0, "source": ""}),
            "adults from 18.0 to under 90.0 years at City Hospital only.",
        ),
        (Population(source="Drawn chests."), "tested on these patients only: Drawn chests."),
        (Population(), "It is not stated which patients this model has been tested on."),
    ],
)
def test_a_person_is_told_in_one_line(population: Population, sentence: str) -> None:
    """Who they are by their ages, and where; what was not stated is not made up."""
    assert sentence in population.sentence
    assert "\n" not in population.sentence


def test_ages_without_a_hospital_are_refused() -> None:
    """Half of the facts would read like all of them."""
    with pytest.raises(ValueError, match="stated together"):
        Population(from_years=1.0, under_years=6.0)


@pytest.mark.parametrize(
    ("training", "population"),
    [
        ({}, GUANGZHOU),
        ({"population": ""}, GUANGZHOU),
        ({"population": "Children in Köln."}, Population(source="Children in Köln.")),
    ],
)
def test_a_package_from_before_there_were_facts(
    training: dict[str, str], population: Population, tmp_path: Path
) -> None:
    """It counts as the first model's, unless a sentence of its maker says whose films they are."""
    facts = manifest(training=training).model_dump(mode="json")
    del facts["population"]
    (tmp_path / MANIFEST).write_text(json.dumps(facts), encoding="utf-8")
    assert read_manifest(tmp_path).tested_on == population


def test_the_shipped_package_is_of_children_in_guangzhou(shipped: Path) -> None:
    """Whether its manifest has the facts or a sentence."""
    assert read_manifest(shipped).tested_on == GUANGZHOU


def test_facts_come_back_from_a_manifest_as_they_were_written(tmp_path: Path) -> None:
    """And go before the sentence that may stand beside them."""
    written = manifest(population=CITY, training={"population": "Some children."})
    (tmp_path / MANIFEST).write_text(written.model_dump_json(), encoding="utf-8")
    assert read_manifest(tmp_path).tested_on == CITY


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("systemd/lungwatch-retrain.service", r'^Environment="LUNGWATCH_POPULATION=(.*)"$'),
        ("Makefile", r"^POPULATION = (.*)$"),
    ],
)
def test_the_unit_and_make_model_give_it(
    path: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both give the population of the shipped model, in a form that the settings take."""
    (found,) = re.findall(line, (REPOSITORY / path).read_text(encoding="utf-8"), re.MULTILINE)
    monkeypatch.setenv("LUNGWATCH_POPULATION", found)
    assert Settings().population == GUANGZHOU
