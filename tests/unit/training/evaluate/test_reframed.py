"""Test films can be framed and exposed as films of the other class are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from films import draw, jpeg, stored

from training.data.reframing import Crop, cumulative_histogram
from training.data.splits import LabelledScan, Side
from training.evaluate.reframed import Framing, Kind, decode_grey, plan_reframings, reframe
from worker.errors import DataError

SIXTHS = Framing.fixed(normal_height=0.83, pneumonia_width=0.8)


def scans(*, each: int, side: Side) -> list[LabelledScan]:
    """Return films of both classes that lie nowhere."""
    return [
        LabelledScan(
            path=Path(f"{label}/{number}.jpeg"),
            name=f"{label}/{number}.jpeg",
            label=label,
            sha256=f"{side}{label}{number}",
            patient=f"{label}{number}",
            side=side,
        )
        for label in ("NORMAL", "PNEUMONIA")
        for number in range(each)
    ]


def test_each_class_is_cropped_to_the_other_ones_median_aspect_ratio() -> None:
    """The narrower class loses height and the wider one width, whichever is which."""
    narrow, wide = [1.0, 1.25, 1.3], [1.2, 1.5625, 2.0]
    framing = Framing.between({"NORMAL": narrow, "PNEUMONIA": wide})
    assert framing.crops == {"NORMAL": Crop(height=0.8), "PNEUMONIA": Crop(width=0.8)}
    assert not framing.left_out
    framing = Framing.between({"NORMAL": wide, "PNEUMONIA": narrow})
    assert framing.crops == {"NORMAL": Crop(width=0.8), "PNEUMONIA": Crop(height=0.8)}


@pytest.mark.parametrize(
    ("aspects", "why"),
    [
        ({}, "not known"),
        ({"NORMAL": [1.2], "PNEUMONIA": []}, "not known"),
        ({"NORMAL": [1.0], "PNEUMONIA": [1.0]}, "same median"),
        ({"NORMAL": [1.499], "PNEUMONIA": [1.5]}, "same median"),
    ],
)
def test_where_framing_tells_nothing_films_stay_whole_and_the_reason_is_given(
    aspects: dict[str, list[float]], why: str
) -> None:
    """Swapped is toned alone then."""
    framing = Framing.between(aspects)
    assert set(framing.crops.values()) == {Crop()}
    assert why in framing.left_out
    grey = draw(1, width=160, height=128)
    made = reframe(grey, draw(2, width=160, height=128), framing.crops["NORMAL"])
    assert made[Kind.SWAPPED] == made[Kind.TONED]


def test_donors_are_of_the_other_class_and_the_same_for_one_seed() -> None:
    """In whatever order films and donors come; another seed draws others."""
    films, donors = scans(each=40, side=Side.TEST), scans(each=30, side=Side.TRAIN)
    plan = plan_reframings(films, donors, SIXTHS, seed=3)
    assert all(one.donor.label != film.label for one, film in zip(plan, films, strict=True))
    assert all(one.crop == SIXTHS.crops[film.label] for one, film in zip(plan, films, strict=True))
    assert plan_reframings(films[::-1], donors[::-1], SIXTHS, seed=3) == plan[::-1]
    assert plan_reframings(films, donors, SIXTHS, seed=4) != plan
    assert len(Counter(one.donor.sha256 for one in plan)) > 30
    with pytest.raises(DataError, match="the train side has no film to tone NORMAL"):
        plan_reframings(films, scans(each=2, side=Side.TRAIN)[:2], SIXTHS)


def test_a_film_is_toned_first_and_cropped_then() -> None:
    """The histogram is that of the whole donor, so the crop must not come first."""
    grey, donor = draw(1, width=300, height=200), draw(2, width=150, height=120) // 2
    made = {kind: decode_grey(one) for kind, one in reframe(grey, donor, Crop(height=0.8)).items()}
    assert {kind: film.shape for kind, film in made.items()} == {
        Kind.CONFLICT: (160, 300),
        Kind.TONED: (200, 300),
        Kind.SWAPPED: (160, 300),
        Kind.ZOOMED: (160, 240),
    }
    assert np.abs(made[Kind.CONFLICT].astype(int) - grey[20:180]).mean() < 2
    toned = cumulative_histogram(made[Kind.TONED]) - cumulative_histogram(donor)
    assert np.abs(toned).mean() < 0.02
    assert np.abs(made[Kind.SWAPPED].astype(int) - made[Kind.TONED][20:180]).mean() < 2


def test_a_film_that_lies_on_its_side_is_cropped_upright() -> None:
    """Height and width are those of the upright film."""
    upright = draw(3, width=200, height=120)
    lying = jpeg(stored(upright, 6), orientation=6, quality=95)
    assert decode_grey(lying).shape == upright.shape
