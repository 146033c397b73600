"""Two packages measured beside one another, by the worker's code in a process of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from films import draw, jpeg, truncated
from packages import copy_package, replace_file

from training.data.dataset import LabelledScan, Side
from training.evaluate.head_to_head import digest_of, judge
from worker.errors import ModelPackageError
from worker.model.evaluation import Estimate
from worker.model.manifest import SERVED


@pytest.fixture
def scans(tmp_path: Path) -> list[LabelledScan]:
    """Return drawn test films of both classes, two of each patient."""
    found = []
    for number in range(12):
        data = jpeg(draw(number, opacity=number % 2))
        path = tmp_path / f"{number}.jpeg"
        path.write_bytes(data)
        found.append(
            LabelledScan(
                path=path,
                name=path.name,
                label=("NORMAL", "PNEUMONIA")[number % 2],
                sha256=hashlib.sha256(data).hexdigest(),
                patient=f"p{number // 2}",
                side=Side.TEST,
            )
        )
    return found


def test_each_model_is_read_at_its_own_operating_point(
    shipped: Path, tmp_path: Path, scans: list[LabelledScan]
) -> None:
    """One network under two thresholds: the same AUC, other decisions, and the films lost named."""
    for version, threshold in (("lax", 0.0), ("strict", 1.0)):
        copy_package(
            shipped, tmp_path, version=version, threshold=threshold, review_band=[0.0, 1.0]
        )
    found = judge(tmp_path / "strict", tmp_path / "lax", scans)
    comparison = found.comparison
    assert comparison is not None
    assert comparison.champion == "lax"
    assert comparison.differences.auc == Estimate(value=0.0, low=0.0, high=0.0)
    assert comparison.differences.sensitivity.value == -1.0
    assert comparison.differences.specificity.value == 1.0
    assert comparison.patients == 6
    ill = [scan.sha256 for scan in scans if scan.label == "PNEUMONIA"]
    assert [film.sha256 for film in comparison.lost_films] == ill
    assert [scans[row].sha256 for row in found.lost] == ill
    assert found.numbers.sensitivity == 0.0
    json.dumps(comparison.model_dump(), allow_nan=False)


def test_a_damaged_champion_leaves_the_challengers_numbers(
    shipped: Path, tmp_path: Path, scans: list[LabelledScan]
) -> None:
    """They are measured all the same; that there is no comparison is told with its reason."""
    champion = copy_package(shipped, tmp_path, version="damaged")
    replace_file(champion, SERVED, b"no network")
    found = judge(shipped, champion, scans)
    assert found.comparison is None
    assert "cannot be loaded" in found.trouble
    assert found.numbers.films == {"NORMAL": 6, "PNEUMONIA": 6}


def test_a_damaged_challenger_stops(
    shipped: Path, tmp_path: Path, scans: list[LabelledScan]
) -> None:
    """What could not serve is not measured."""
    challenger = copy_package(shipped, tmp_path, version="damaged")
    (challenger / SERVED).write_bytes(b"changed")
    with pytest.raises(ModelPackageError, match="not the file named in the manifest"):
        judge(challenger, shipped, scans)


def test_a_refused_test_film_stops_and_is_named_by_its_hash(
    shipped: Path, scans: list[LabelledScan]
) -> None:
    """It was readable for the cache: something is amiss. Its name could tell whose it is."""
    scans[3].path.write_bytes(truncated(jpeg(draw(3)), 50))
    digest = hashlib.sha256(scans[3].path.read_bytes()).hexdigest()
    scans[3] = replace(scans[3], sha256=digest)
    with pytest.raises(ModelPackageError, match=f"1 test films were refused, first {digest[:12]}"):
        judge(shipped, None, scans)


def test_a_test_film_that_was_replaced_stops(shipped: Path, scans: list[LabelledScan]) -> None:
    """Its label is another film's: no number is made of the two."""
    scans[3].path.write_bytes(scans[4].path.read_bytes())
    with pytest.raises(ModelPackageError, match="a film was replaced since it was found"):
        judge(shipped, None, scans)


def test_test_films_have_one_name_in_any_order(scans: list[LabelledScan]) -> None:
    """A look at the same films is counted as such; another label is another set."""
    assert digest_of(scans) == digest_of(scans[::-1])
    assert digest_of(scans) != digest_of(scans[1:])
    assert digest_of([replace(scans[0], label="PNEUMONIA"), *scans[1:]]) != digest_of(scans)
