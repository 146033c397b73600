"""Teachers speak of films they have not seen, softly, and leave the pupil its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_fit import SIDE, examples

import training.teaching
from training.batches import Examples, balance
from training.fit import Fitted, Limits, Recipe, fit
from training.network import Architecture
from training.teaching import Lessons, heeding, teach

TINY = Architecture(
    height=SIDE, width=SIDE, margin=0, stem=4, stages=(8,), strides=(2,), dropout=0.1
)
PATIENTS = [f"patient-{number // 2}" for number in range(24)]  # two films each
LESSONS = Lessons(teachers=3, epochs=2)
RECIPE = Recipe(epochs=4, batch=8)


def lesson(scratch: Path, films: Examples, **options: Any) -> Any:
    """Have three tiny teachers speak of films."""
    settled: dict[str, Any] = {"say": lambda _: None, "limits": Limits(), **options}
    return teach(
        films,
        examples(12, first=40),
        PATIENTS,
        LESSONS,
        architecture=TINY,
        recipe=RECIPE,
        salt="salt",
        scratch=scratch,
        **settled,
    )


def test_no_teacher_has_seen_a_film_it_speaks_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patient's films are all kept from the teacher that is asked about one of them."""
    films, seen = examples(), list[set[int]]()

    def watched(network: Any, train: Examples, *rest: Any, **options: Any) -> Fitted:
        seen.append(set(train.rows.tolist()))
        return fit(network, train, *rest, **options)

    monkeypatch.setattr(training.teaching, "fit", watched)
    said = lesson(tmp_path, films)
    assert len(seen) == LESSONS.teachers
    assert ((said > 0) & (said < 1)).all()
    for row, patient in enumerate(PATIENTS):
        asked = [rows for rows in seen if row not in rows]
        assert len(asked) == 1, "one teacher speaks of each film"
        same = {other for other, name in enumerate(PATIENTS) if name == patient}
        assert not same & asked[0]


def test_readers_are_not_outvoted() -> None:
    """However wrong a teacher is, a film stays on its reader's side, and weighs as that side."""
    labels = np.array([1, 1, 0, 0, 0], dtype=np.float32)
    said = np.array([0.001, 0.9, 0.999, 0.2, 0.1], dtype=np.float32)
    mixed = heeding(labels, said, LESSONS)
    assert ((mixed > 0.5) == (labels > 0.5)).all()
    np.testing.assert_array_equal(balance(mixed), balance(labels))
    assert mixed[1] == pytest.approx(0.95)


def test_a_killed_lesson_goes_on(tmp_path: Path) -> None:
    """Teachers that had ended are not fitted again, and the end is the same to the last bit."""
    films, said = examples(), list[str]()

    def stop_at_the_second(line: str) -> None:
        if line.startswith("teacher 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lesson(tmp_path / "killed", films, say=stop_at_the_second)
    resumed = lesson(tmp_path / "killed", films, say=said.append)
    assert sum(line.startswith("epoch") for line in said) == 2 * LESSONS.epochs
    np.testing.assert_array_equal(resumed, lesson(tmp_path / "whole", films))


def test_teachers_leave_the_pupil_its_part_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten hours for three teachers and a pupil of twice their length: two hours for each."""
    until: list[float] = []

    def timed(*rest: Any, limits: Limits, **options: Any) -> Fitted:
        until.append(limits.stop_at)
        return fit(*rest, **options)

    monkeypatch.setattr(training.teaching, "fit", timed)
    lesson(tmp_path, examples(), limits=Limits(stop_at=10.0, clock=lambda: 0.0))
    assert until[0] == pytest.approx(10 / 5)
    assert max(until) <= 10 / 3
