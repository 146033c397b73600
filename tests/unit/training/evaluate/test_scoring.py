"""The process that scores films: what goes wrong in it is told without a film's name in a log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from films import draw, jpeg, odd_but_sound
from packages import copy_package
from pixels import read_for

from training.evaluate.scoring import UNTOUCHED, score, score_disturbed
from worker.errors import ModelPackageError
from worker.imaging.preprocessing import PREPROCESSING_VERSIONS
from worker.model.runtime import load


def test_packages_of_either_preprocessing_are_scored_side_by_side(
    tmp_path: Path, shipped: Path
) -> None:
    """Each by the pixels that it serves with, as a champion and a challenger may differ."""
    film = tmp_path / "film.jpeg"
    film.write_bytes(odd_but_sound(4)["plain"])  # 1280 x 1088
    packages = [
        copy_package(shipped, tmp_path, version=f"of-{one}", preprocessing_version=one)
        for one in PREPROCESSING_VERSIONS
    ]
    expected = []
    for package in packages:
        model = load(package)
        by_hand = model.score(read_for(model.manifest, film.read_bytes()).pixels)
        expected.append(by_hand.logit)
        assert score_disturbed(package, [film])[UNTOUCHED] == [by_hand]
    assert [scored.scores for scored in score(packages, [film])] == [[one] for one in expected]
    assert expected[0] != expected[1]


@pytest.mark.parametrize("how", [lambda p, f: score([p], f), score_disturbed])
def test_a_film_that_went_away_is_told_of(
    tmp_path: Path, shipped: Path, how: Callable[[Path, list[Path]], Any]
) -> None:
    """What is wrong in the first line, which a log may have; whose film it is below it."""
    films = [tmp_path / "there.jpeg", tmp_path / "O'Brien, Anna.jpeg"]
    films[0].write_bytes(jpeg(draw(1, width=160, height=128)))
    with pytest.raises(ModelPackageError) as caught:
        how(shipped, films)
    matter, where = str(caught.value).split("\n")
    assert matter == (
        "the films cannot be scored: a film cannot be read (No such file or directory):"
    )
    assert where == f"  {films[1]}"


@pytest.mark.parametrize("how", [lambda p, *f, **d: score([p], *f, **d), score_disturbed])
def test_a_film_that_was_replaced_is_not_measured(
    tmp_path: Path, shipped: Path, how: Callable[..., Any]
) -> None:
    """Fitting takes hours: what lies there by then may be another film, with another label."""
    films = [tmp_path / "there.jpeg", tmp_path / "O'Brien, Anna.jpeg"]
    for seed, film in enumerate(films):
        film.write_bytes(jpeg(draw(seed, width=160, height=128)))
    digests = [hashlib.sha256(film.read_bytes()).hexdigest() for film in films]
    how(shipped, films, digests=digests)
    films[1].write_bytes(films[0].read_bytes())
    with pytest.raises(ModelPackageError) as caught:
        how(shipped, films, digests=digests)
    matter, where = str(caught.value).split("\n")
    assert matter == "the films cannot be scored: a film was replaced since it was found:"
    assert where == f"  {films[1]}"
