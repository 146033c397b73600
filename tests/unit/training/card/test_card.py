"""The figures and the card, and the pictures that show films."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import draw
from PIL import Image

from training.card.card import write_card
from training.card.figures import draw_figures
from training.card.sheets import augment, draw_batch, worst_mistakes, write_sheets
from training.data.cache import Films
from training.data.dataset import LabelledScan, Side
from training.evaluate.head_to_head import Judged
from training.evaluate.metrics import OperatingPoint, evaluate
from training.evaluate.paired import Reading, compare
from worker.model.evaluation import (
    Evaluation,
    Groups,
    Looks,
    LostFilm,
    PairedComparison,
    Shifted,
    Shifts,
    Unfamiliar,
)
from worker.model.population import GUANGZHOU, Population

POINT = OperatingPoint(temperature=1.0, threshold=0.4, review_band=(0.2, 0.7))
CURVE = [
    {"epoch": 1.0, "loss": 0.6, "val_loss": 0.7, "val_auc": 0.6, "seconds": 1.0},
    {"epoch": 2.0, "loss": 0.5, "val_loss": 0.5, "val_auc": 0.8, "seconds": 1.0},
]
TRAINING: dict[str, Any] = {
    "population": "",
    "aims": {"sensitivity": 0.97, "coverage": 0.99},
    "counts": {"train": {"NORMAL": 3, "PNEUMONIA": 4, "patients": 7}},
    "recipe": {"epochs": 2, "seed": 20},
    "minutes": 0.1,
    "data_digest": "aa",
    "curve": CURVE,
}


def scan(number: int, label: str, side: Side = Side.TEST) -> LabelledScan:
    """Return a scan with no file behind it."""
    digest = f"{number:064x}"
    name = f"jane-doe-{number}.jpeg"
    return LabelledScan(
        path=Path(name), name=name, label=label, sha256=digest, patient=f"p{number}", side=side
    )


def judged(logits: list[float], truth: list[bool], *, lost: list[int] | None = None) -> Judged:
    """Return what a model with these logits makes of films."""
    labels = ["PNEUMONIA" if one else "NORMAL" for one in truth]
    array, scores = np.array(truth), np.array(logits)
    return Judged(
        scans=[scan(number, label) for number, label in enumerate(labels)],
        truth=array,
        challenger=Reading.of(scores, POINT),
        point=POINT,
        numbers=evaluate(array, scores, POINT),
        groups=Groups(),
        evidence_outside=None,
        unfamiliar=None,
        comparison=None,
        lost=lost or [],
        trouble="",
        settled=True,
    )


def films(count: int) -> Films:
    """Return drawn films by number."""
    pixels = np.stack([draw(number, width=32, height=32) for number in range(count)])
    return Films(
        pixels=pixels, rows={f"{number:064x}": number for number in range(count)}, refused={}
    )


@pytest.mark.parametrize("count", [4, 400])
def test_every_figure_is_a_picture(count: int) -> None:
    """All five can be opened and have something on them, of few films too and of one epoch."""
    rng = np.random.default_rng(0)
    truth = np.arange(count) % 2 == 0
    logits = rng.normal(np.where(truth, 1, -1), 2)
    found = draw_figures(
        truth,
        Reading.of(logits, POINT),
        POINT,
        curve=CURVE[: 1 if count == 4 else 2],
        numbers=evaluate(truth, logits, POINT),
    )
    assert found.keys() == {
        *("training.png", "roc.png", "calibration.png", "scores.png", "confusion.png"),
    }
    for name, data in found.items():
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        assert min(picture.shape) > 300, name
        assert (picture < 128).mean() > 0.002, name


def test_figures_of_a_perfect_model_can_be_drawn() -> None:
    """Every film at 0 or 1, and nothing called wrongly."""
    truth = np.repeat([False, True], 60)
    logits = np.where(truth, 900.0, -900.0)
    numbers = evaluate(truth, logits, POINT)
    reading = Reading.of(logits, POINT)
    assert len(draw_figures(truth, reading, POINT, curve=CURVE, numbers=numbers)) == 5


def test_the_same_night_draws_the_same_figures() -> None:
    """Byte for byte: a package's digest does not hang on when it was drawn."""
    one = judged([1.0, -1.0, 2.0, -2.0], [True, False, True, False])
    drawn = [
        draw_figures(one.truth, one.challenger, POINT, curve=CURVE, numbers=one.numbers)
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


def test_the_card_tells_what_changed_from_the_champion() -> None:
    """Both numbers, the difference with its interval, films lost by hash and not by name."""
    truth = np.tile([False, True], 40)
    rng = np.random.default_rng(1)
    theirs = rng.normal(np.where(truth, 1.5, -1.5), 1)
    ours = rng.normal(np.where(truth, 1.5, -1.5), 1)
    one, two = Reading.of(theirs, POINT), Reading.of(ours, POINT)
    lost = LostFilm(sha256="ab" * 32, label="NORMAL", champion=0.1, challenger=0.9)
    comparison = compare(truth, [str(number // 2) for number in range(80)], one, two).model_copy(
        update={
            "champion": "drawn-0",
            "champion_numbers": evaluate(truth, theirs, POINT),
            "lost_films": [lost],
        }
    )
    evaluation = Evaluation(
        data="drawn/test",
        looks=Looks(this_set=3, any_set=9),
        calibration_side=evaluate(truth, ours, POINT),
        comparison=comparison,
        **dict(evaluate(truth, ours, POINT)),
    )
    card = write_card("drawn-1", evaluation, TRAINING, ["ok: yes"], ["roc.png"])
    auc = comparison.differences.auc
    assert (
        f"| AUC (paired DeLong) | {comparison.champion_numbers.auc:.4f} | "
        f"{auc.value:+.4f} | {auc.low:+.4f} to {auc.high:+.4f} |"
    ) in card
    assert "Version drawn-0, on the same films of 40 patients" in card
    assert "- `abababababab`, NORMAL: 0.1000 by the champion, 0.9000 by this model" in card
    assert "measured 3 times on exactly these films and 9 times on any recorded" in card
    assert "(roc.png)" in card
    assert "(scores.png)" not in card, "a picture that is not there is not linked to"


@pytest.mark.parametrize(
    ("population", "note", "section"),
    [
        (GUANGZHOU, "", GUANGZHOU.sentence),
        (GUANGZHOU, "More on them.", f"{GUANGZHOU.sentence}\n\nMore on them."),
        (Population(source="Some."), "Some.", Population(source="Some.").sentence),
        (Population(), "", "Not stated: this model was trained without"),
    ],
)
def test_the_card_says_on_whom_it_was_tested(
    population: Population, note: str, section: str
) -> None:
    """In one plain line; a sentence of the night's stands below it, once."""
    training = TRAINING | {"population": note}
    card = write_card("drawn-1", Evaluation(), training, [], population=population)
    found = card.split("## Population\n\n")[1].split("\n\n## ")[0]
    assert found == section if section.endswith(".") else found.startswith(section)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({}, ""),
        ({"other_patients": {}}, "No films of other patients were given"),
        (
            {
                "other_patients": {"source": "NIH, unrestricted"},
                "familiar": {"others": {"films": 485, "beyond_review": 0.979}},
            },
            "NIH, unrestricted. Of those 485 films, 97.9% are REVIEW or refused",
        ),
        (
            {"other_patients": {"source": "NIH", "from": "drawn-0"}, "familiar": {}},
            "these films: NIH. The fit is that of drawn-0.",
        ),
    ],
)
def test_the_card_names_the_films_of_other_patients(training: dict[str, Any], words: str) -> None:
    """With source and licence; an earlier package says nothing of them."""
    card = write_card("drawn-1", Evaluation(), TRAINING | training, [])
    assert words in card
    assert ("ilms of other patients" in card) == bool(words)


def test_a_card_of_which_every_number_is_missing_can_be_written() -> None:
    """As the gate holds for each of them, a person reads that there is none."""
    card = write_card("drawn-1", Evaluation(comparison=PairedComparison()), TRAINING, ["HELD: no"])
    assert "| AUC | none | |" in card
    assert "| robust AUC | none | none | none to none |" in card
    assert "| AUC (paired DeLong) | none | none | none to none |" in card
    assert "nan" not in card


def test_the_card_begins_with_robust_auc() -> None:
    """Before the numbers of films as they are, with a row for each change and what was cropped."""
    one = {"auc": 0.83, "sensitivity": 0.95, "specificity": 0.35, "unreadable": 2}
    shifts = {
        "crops": {"NORMAL": (0.83, 1.0), "PNEUMONIA": (1.0, 0.8)},
        "swapped": one | {"intervals": {"auc": (0.8, 0.86)}},
        "zoomed": {"NORMAL": {"auc": 0.93}},
    }
    evaluation = Evaluation(
        auc=0.999,
        robust_auc=0.921,
        zoomed_auc=0.93,
        intervals={"robust_auc": (0.9, 0.94)},
        shifts=Shifts(**shifts),
    )
    card = write_card("drawn-1", evaluation, TRAINING, [])
    head, rest = card.split("## How good on the films as they are")
    assert "0.9990" in rest
    assert "**Robust AUC 0.9210 (0.9000 to 0.9400)**" in head
    assert "| swapped: both | 0.8300 (0.8000 to 0.8600) | 0.950 | 0.350 |" in head
    assert "zoomed: NORMAL films cropped to 0.8 x 0.8, the others as they are | 0.9300 |" in head
    assert "zoomed: PNEUMONIA films cropped to 0.8 x 0.8, the others as they are | none |" in head
    assert "NORMAL films to 0.83 of the height and PNEUMONIA films to 0.80 of the width." in head
    assert "Up to 2 films could not be read" in head


def test_the_card_says_why_framing_was_not_swapped() -> None:
    """A reader sees that swapped is less than the word says."""
    shifts = Shifts(framing_left_out="the films' sizes are not known", swapped=Shifted(auc=0.9))
    card = write_card("drawn-1", Evaluation(shifts=shifts), TRAINING, [])
    assert "| swapped: only toned | 0.9000 |" in card
    assert "Framing was not swapped: the films' sizes are not known." in card
    assert "conflict" not in card


def test_the_worst_mistakes_come_first() -> None:
    """Called wrongly, the most confident first; what was called rightly is not among them."""
    found = judged([-3.0, -0.5, 3.0, 9.0, 1.0], [True, True, True, False, False])
    assert worst_mistakes(found, most=9) == [3, 0, 4, 1]
    assert worst_mistakes(found, most=2) == [3, 0]


def test_a_batch_shows_both_classes() -> None:
    """Half of each, also where there are few of one, and the same again for the same seed."""
    train = [scan(number, "NORMAL" if number < 5 else "PNEUMONIA") for number in range(60)]
    batch = draw_batch(train, seed=1)
    assert [one.label for one in batch].count("NORMAL") == 5
    assert len(batch) == 5 + 12
    assert batch == draw_batch(train, seed=1)
    assert batch != draw_batch(train, seed=2)


def test_augmented_films_are_what_training_makes_of_them() -> None:
    """Grey levels like the film's own, none left as it was; half mixed, with mixed labels."""
    pixels = films(24).pixels
    before = pixels.copy()
    labels = np.tile([0.0, 1.0], 12).astype(np.float32)
    changed, shares = augment(pixels, labels, seed=3)
    assert changed.shape == pixels.shape
    assert changed.dtype == np.uint8
    assert all((one != other).mean() > 0.5 for one, other in zip(changed, pixels, strict=True))
    assert set(shares[:12]) == {0.0, 1.0}
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (pixels == before).all()


def test_pictures_of_films_lie_apart_and_the_oldest_go(tmp_path: Path) -> None:
    """Sheets and lists for whoever may see films; thirty versions are kept, this one among them."""
    for number in range(40):
        (tmp_path / f"20260101-{number:08}").mkdir()
    (tmp_path / "2026-annual-report").mkdir()
    one = judged([2.0, 2.0, -2.0, -2.0], [True, False, True, False], lost=[1])
    train = [scan(number, ("NORMAL", "PNEUMONIA")[number % 2], Side.TRAIN) for number in range(4)]
    folder = write_sheets(
        tmp_path, version="20250101-00000000", train=train, films=films(4), judged=one, seed=0
    )
    assert {path.name for path in folder.iterdir()} == {
        *("batch-preprocessed.png", "batch-augmented.png", "worst-mistakes.png"),
        *("worst-mistakes.txt", "films-lost.txt"),
    }
    assert (folder / "films-lost.txt").read_text("utf-8").startswith("jane-doe-1.jpeg\tp 0.881")
    assert len(list(tmp_path.glob("20*-0*"))) == 31
    assert (tmp_path / "2026-annual-report").exists()


def test_films_are_listed_whatever_they_are_called(tmp_path: Path) -> None:
    """In bytes that are no UTF-8, or with a line's end within: the lists keep a line a film."""
    one = judged([2.0, 2.0, -2.0, -2.0], [True, False, True, False], lost=[1])
    names = ("a.jpeg", "M\udcfcller\n2.jpeg", "Müller.jpeg", "d.jpeg")
    named = [replace(film, name=name) for film, name in zip(one.scans, names, strict=True)]
    train = [scan(0, "NORMAL", Side.TRAIN), scan(1, "PNEUMONIA", Side.TRAIN)]
    shown = replace(one, scans=named)
    folder = write_sheets(
        tmp_path, version="drawn", train=train, films=films(4), judged=shown, seed=0
    )
    lost = (folder / "films-lost.txt").read_text("utf-8")
    assert lost == "M\\udcfcller\\n2.jpeg\tp 0.881\n"
    worst = (folder / "worst-mistakes.txt").read_text("utf-8").splitlines()
    assert {line.split("\t")[0] for line in worst} == {"M\\udcfcller\\n2.jpeg", "Müller.jpeg"}


def test_a_model_without_mistakes_has_an_empty_sheet(tmp_path: Path) -> None:
    """Nothing to show is no trouble."""
    one = judged([2.0, -2.0], [True, False])
    train = [scan(0, "NORMAL", Side.TRAIN), scan(1, "PNEUMONIA", Side.TRAIN)]
    folder = write_sheets(
        tmp_path, version="drawn", train=train, films=films(2), judged=one, seed=0
    )
    assert (folder / "worst-mistakes.txt").read_text("utf-8") == ""
    with Image.open(folder / "worst-mistakes.png") as sheet:
        assert sheet.size[0] > 300


def test_the_card_says_how_many_test_films_are_unfamiliar() -> None:
    """A reader sees how many films the limits would have kept from being decided."""
    truth = np.tile([False, True], 40)
    numbers = evaluate(truth, np.linspace(-1, 1, 80), POINT)
    evaluation = Evaluation(data="drawn/test", calibration_side=numbers, **dict(numbers))
    without = write_card("drawn-1", evaluation, TRAINING, [])
    shares = {"unfamiliar": Unfamiliar(refused=0.0, review=0.0123)}
    card = write_card("drawn-1", evaluation.model_copy(update=shares), TRAINING, [])
    assert "0.0% of them would be refused, and 1.2% would be REVIEW" in card
    assert "would be refused" not in without
