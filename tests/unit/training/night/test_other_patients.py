"""What a night knows of other patients: films it was given, else what its champion has learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import draw, jpeg
from packages import change_manifest, copy_package, replace_file

from training.night.options import Plan
from training.night.other_patients import find_other_films, read_films
from worker.errors import DataError
from worker.model.familiarity import FAMILIAR, OtherPatients, from_bytes
from worker.model.population import GUANGZHOU, Population
from worker.model.registry import Registry

SIDE = 32


def draw_adults(root: Path, count: int) -> Path:
    """Draw so many films, in two folders, and a file that is none."""
    for number in range(count):
        path = root / ("one", "other")[number % 2] / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(draw(number, width=160, height=128)))
    (root / "one" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "one" / "notes.txt").write_text("No film.", encoding="utf-8")
    return root


def a_plan(root: Path) -> Plan:
    """Return a night's plan with nothing in it."""
    return Plan(data=(), models=root / "models", cache=root / "cache", side_pixels=SIDE)


def test_films_are_read_by_name_across_folders(tmp_path: Path) -> None:
    """Those of one patient lie side by side; what is no film is left out, and source is noted."""
    folder = draw_adults(tmp_path / "adults", 52)
    plan = replace(a_plan(tmp_path), other_patients=folder, other_patients_source="drawn")
    found = find_other_films(plan, Registry(plan.models), GUANGZHOU)
    assert (len(found.films), found.towards, found.facts) == (52, None, {"source": "drawn"})
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "000.jpg").write_bytes((folder / "one/000.jpg").read_bytes())
    for number in range(1, 52):
        (tmp_path / "first" / f"{number:03}.jpg").write_bytes(
            (folder / ("one", "other")[number % 2] / f"{number:03}.jpg").read_bytes()
        )
    in_one = read_films(tmp_path / "first", side_pixels=SIDE)
    assert all(np.array_equal(*pair) for pair in zip(found.films, in_one, strict=True))


def test_too_few_films_or_no_folder_stop_the_night(tmp_path: Path) -> None:
    """In a line that says what is wrong."""
    with pytest.raises(DataError, match="at least 50"):
        read_films(draw_adults(tmp_path / "adults", 3), side_pixels=SIDE)
    with pytest.raises(DataError, match="cannot be read"):
        read_films(tmp_path / "nowhere", side_pixels=SIDE)


@pytest.mark.parametrize(
    ("population", "goes_on"), [(GUANGZHOU, True), (Population(source="Adults."), False)]
)
def test_a_night_goes_on_with_what_its_champion_has_learnt(
    shipped: Path,
    tmp_path: Path,
    population: Population,
    goes_on: bool,  # noqa: FBT001 - a case's answer
) -> None:
    """If it is for the same patients: to a model of adults, adults are no other patients."""
    plan = a_plan(tmp_path)
    plan.models.mkdir()
    package = copy_package(shipped, plan.models, version="drawn-1")
    (plan.models / "CHAMPION").write_text("drawn-1\n", encoding="ascii")
    registry = Registry(plan.models)
    familiar = replace(from_bytes((package / FAMILIAR).read_bytes()), others=None)
    replace_file(package, FAMILIAR, familiar.to_bytes())
    assert find_other_films(plan, registry, population).towards is None, "it knows of none yet"

    way = np.arange(64.0)
    known = OtherPatients(direction=way, weight=1.0, offset=0.0, most=1.1)
    replace_file(package, FAMILIAR, replace(familiar, others=known).to_bytes())
    training = registry.manifest("drawn-1").training | {"other_patients": {"source": "NIH"}}
    change_manifest(package, training=training)
    found = find_other_films(plan, registry, population)
    assert (found.towards is not None) == goes_on
    if found.towards is not None:
        assert np.array_equal(found.towards, way)
        assert found.facts == {"source": "NIH", "from": "drawn-1"}
