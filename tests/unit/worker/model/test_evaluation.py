"""What was measured of a model, read from packages of every age."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from checkout import REPOSITORY

from worker.model.evaluation import EVALUATION, Evaluation, Metrics, Shortcuts, read_evaluation
from worker.model.registry import Registry


@pytest.fixture
def shipped_file() -> Path:
    """Return the evaluation of the shipped model, which an earlier release has written."""
    registry = Registry(REPOSITORY / "models")
    return registry.folder(registry.serving()) / EVALUATION


def test_the_shipped_models_evaluation_is_read_whole(shipped_file: Path) -> None:
    """Every number under its name, and nothing that the file has not."""
    facts = json.loads(shipped_file.read_bytes())
    assert Evaluation(**facts).model_dump(mode="json", exclude_unset=True) == facts


def test_the_share_marked_review_is_of_all_films_whatever_release_measured_it(
    shipped_file: Path,
) -> None:
    """Earlier ones left out what is unfamiliar: what is left to a person, less what is refused."""
    facts = json.loads(shipped_file.read_bytes())
    evaluation = read_evaluation(shipped_file.parent)
    assert evaluation is not None
    share = facts["undecided"] - facts["unfamiliar"]["refused"]
    assert evaluation.review_share == pytest.approx(share)
    low, high = evaluation.intervals["review_share"] or (math.nan, math.nan)
    assert low < share < high
    assert evaluation.auc == facts["auc"]


@pytest.mark.parametrize("missing", ["undecided", "unfamiliar", "comparison", "films", "intervals"])
def test_an_evaluation_without_a_field_is_read(
    shipped_file: Path, tmp_path: Path, missing: str
) -> None:
    """As earlier releases wrote them: the rest of it stands."""
    facts = json.loads(shipped_file.read_bytes())
    del facts[missing]
    (tmp_path / EVALUATION).write_text(json.dumps(facts), encoding="utf-8")
    evaluation = read_evaluation(tmp_path)
    assert evaluation is not None
    assert missing not in evaluation.model_fields_set or missing == "intervals"
    assert evaluation.auc == facts["auc"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff"])
def test_what_is_no_evaluation_is_none(tmp_path: Path, content: bytes) -> None:
    """A damaged file, or none, costs a person the numbers and nothing else."""
    assert read_evaluation(tmp_path) is None
    (tmp_path / EVALUATION).write_bytes(content)
    assert read_evaluation(tmp_path) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.99", True, [], {}])
def test_what_is_no_number_is_missing(value: Any) -> None:
    """In the fields of numbers and in the tables; its neighbours stay."""
    metrics = Metrics(auc=value, films=value, sensitivity=0.5)
    assert (metrics.auc, metrics.films, metrics.sensitivity) == (None, {}, 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.99", []])
def test_a_shortcut_that_is_no_number_is_not_measured(value: Any) -> None:
    """A trace that was measured speaks for itself; whole films' grey levels see disease, too."""
    traces = {"size": {"auc": value}, "rim": {"auc": 0.66}, "grey_levels": {"auc": 0.99}}
    facts: dict[str, Any] = {"traces": traces}
    shortcuts = Shortcuts(**facts)
    assert shortcuts.traces["size"].auc is None
    assert shortcuts.auc == 0.66
    assert "hard to tell without the lungs (AUC 0.66)" in shortcuts.in_words()
    facts = {"traces": {"size": {"auc": value}}, "patients": value}
    none = Shortcuts(**facts)
    assert (none.auc, none.patients) == (None, 0)
    assert none.in_words().endswith("without the lungs was not measured.")


def test_what_a_later_release_adds_stays() -> None:
    """It is shown with the rest, though nobody here knows what it means."""
    later: dict[str, Any] = {"auc": 0.9, "fairness": {"age": 0.1}}
    assert Evaluation(**later).model_dump(exclude_unset=True) == later
