"""How a package stands disturbed films, and how originals and their copies agree."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkout import REPOSITORY
from films import draw, jpeg, stored
from nights import draw_folder
from packages import copy_package
from pixels import pixels_of, read_for

from training.data.sources import find_films
from training.data.splits import LabelledScan, Shares, Side, split
from training.evaluate.corruptions import DISTURBANCES, disturb
from training.evaluate.reframed import Framing, Kind, decode_grey, plan_reframings, reframe
from training.evaluate.scoring import UNTOUCHED, score_disturbed, score_reframed
from training.evaluate.shifts import measure_shifts
from training.robustness import Agreement, agree, choose, main, measure
from worker.errors import DataError, FilmRefused, ModelPackageError, RefusalCode
from worker.model.decision import Score
from worker.model.manifest import SERVED
from worker.model.registry import Registry
from worker.model.runtime import load


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Drawn films in the Kaggle layout, six of each class to test with."""
    return draw_folder(tmp_path / "drawn", train=2, test=6)


def films_of(tree: Path) -> list[LabelledScan]:
    """Return the test films."""
    scans = split(find_films([tree]).films, salt="x", shares=Shares())
    return [scan for scan in scans if scan.side is Side.TEST]


def test_films_are_scored_as_the_worker_would_after_each_disturbance(
    tree: Path, shipped: Path
) -> None:
    """Untouched as the bytes lie there; disturbed as `disturb` leaves them; refusals stand."""
    paths = [scan.path for scan in films_of(tree)][:3]
    lying = tree / "lying.jpeg"
    lying.write_bytes(jpeg(stored(draw(3, width=400, height=300), 6), orientation=6, quality=95))
    upright = tree / "upright.jpeg"
    upright.write_bytes(jpeg(draw(3, width=400, height=300), quality=95))
    text = tree / "text.jpeg"
    text.write_bytes(b"hello")
    found = score_disturbed(shipped, [*paths, lying, upright, text])
    assert list(found) == [UNTOUCHED, *DISTURBANCES]
    model = load(shipped)
    for number, path in enumerate(paths):
        data = path.read_bytes()
        film = read_for(model.manifest, data)
        assert found[UNTOUCHED][number] == model.score(film.pixels)
        grey = pixels_of(data, height=film.height, width=film.width)
        again = read_for(model.manifest, disturb("gamma 1.4", grey, 0)).pixels
        assert found["gamma 1.4"][number] == model.score(again)
    for scores in found.values():
        assert scores[-1] == "not_a_jpeg"
        if scores[3] != "blank":
            assert np.isfinite([logit(scores[3]), logit(scores[4])]).all()
    for name in ("gamma 0.7", "turned 5 degrees left", "resampled by half"):
        assert logit(found[name][3]) == pytest.approx(logit(found[name][4]), abs=0.15)


def logit(score: Score | str) -> float:
    """Return the logit of a film that was read."""
    assert isinstance(score, Score)
    return score.logit


def test_what_the_worker_would_leave_to_a_person_is_counted(tree: Path) -> None:
    """Each film, disturbed and screened: as many REVIEW and refused as in the table."""
    registry = Registry(REPOSITORY / "models")
    package = registry.folder(registry.serving())  # with its limits, which drawn films lie about
    scans = films_of(tree)
    found = measure(package, scans)
    model = load(package)
    ends: Counter[tuple[str, str]] = Counter()
    for data in (scan.path.read_bytes() for scan in scans):
        film = read_for(model.manifest, data)
        grey = pixels_of(data, height=film.height, width=film.width)
        seed = int(hashlib.sha256(data).hexdigest()[:8], 16)
        for name in DISTURBANCES:
            again = disturb(name, grey, seed)
            try:
                read = read_for(model.manifest, again)
                ends[name, model.screen(read.pixels).decision] += 1
            except FilmRefused as refusal:
                ends[name, "refused"] += 1
                ends["any", refusal.code] += 1
    for name, one in found.disturbed.items():
        assert (one.review, one.refused) == (ends[name, "REVIEW"], ends[name, "refused"])
    assert ends["any", RefusalCode.NOT_A_CHEST_XRAY]
    assert found.untouched.review


def test_the_table_compares_with_the_same_films_untouched(tree: Path, shipped: Path) -> None:
    """Numbers of each disturbance; a film that is refused after one is counted and left out."""
    scans = films_of(tree)
    small = tree / "test/NORMAL/IM-9000-0001.jpeg"
    small.write_bytes(jpeg(draw(77, width=120, height=110)))
    scans = films_of(tree)
    found = measure(shipped, scans)
    assert found.films == found.of == {"NORMAL": 7, "PNEUMONIA": 6}
    assert found.disturbed.keys() == DISTURBANCES.keys()
    halved = found.disturbed["resampled by half"]
    assert halved.refused == 13, "films of 160 x 128 are too small by half"
    assert (halved.auc, halved.difference, halved.sensitivity) == (None, None, None)
    for name, one in found.disturbed.items():
        if name != "resampled by half" and not one.refused:
            assert one.auc is not None
            assert one.difference is not None
            assert found.untouched.auc is not None
            assert one.difference.value == pytest.approx(one.auc - found.untouched.auc)


def test_a_night_takes_some_films_of_each_class_and_the_same_ones(tree: Path) -> None:
    """By content: not by name or order; all where there are no more."""
    scans = films_of(tree)
    few = choose(scans, most=4)
    assert [scan.label for scan in few].count("NORMAL") == 4
    assert len(few) == 8
    assert choose(scans[::-1], most=4) == few
    assert len(choose(scans, most=None)) == len(choose(scans, most=150)) == len(scans)


def test_a_package_that_must_not_serve_is_not_measured(
    tree: Path, tmp_path: Path, shipped: Path
) -> None:
    """It says which file is wrong."""
    broken = copy_package(shipped, tmp_path, version="broken")
    (broken / SERVED).write_bytes(b"x")
    with pytest.raises(ModelPackageError, match=SERVED):
        measure(broken, films_of(tree))


def test_originals_are_matched_with_their_copies_by_name(
    tmp_path: Path, tree: Path, shipped: Path
) -> None:
    """Of those that have one: same bytes agree wholly, another film's bytes do not."""
    copies = [scan.path for scan in films_of(tree)]
    originals = tmp_path / "originals" / "NORMAL"
    originals.mkdir(parents=True)
    for path in copies[:4]:
        (originals / path.name).write_bytes(path.read_bytes())
    (originals / "stranger.jpeg").write_bytes(copies[0].read_bytes())
    found = agree(shipped, originals.parent, copies)
    assert found == Agreement(
        pairs=4,
        refused=0,
        same_decision=1.0,
        same_label=1.0,
        median_difference=0.0,
        largest_difference=0.0,
    )
    (originals / copies[0].name).write_bytes(b"hello")
    (originals / copies[1].name).write_bytes(jpeg(draw(99, opacity=1.0)[::-1]))
    found = agree(shipped, originals.parent, copies)
    assert (found.pairs, found.refused) == (3, 1)
    assert (found.largest_difference or 0) > 0
    with pytest.raises(DataError, match="has the name"):
        agree(shipped, originals.parent, copies[6:])


def test_the_command_prints_the_table(
    tree: Path, shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each disturbance, the films counted, the agreement; trouble is one line."""
    assert main([str(shipped), str(tree), "--originals", str(tree / "test")]) == 0
    told = capsys.readouterr().out
    for name in ("none", *DISTURBANCES):
        assert f"| {name} | " in told
    assert "6 NORMAL and 6 PNEUMONIA films, all." in told
    assert "Of 12 originals and their copies, 100.0% get the same decision" in told
    assert main([str(shipped), str(tree / "nowhere")]) == 1
    assert capsys.readouterr().out.startswith("error: no films under")


def test_films_are_scored_reframed_as_the_worker_would(tree: Path, shipped: Path) -> None:
    """Untouched as the bytes lie there; changed by crop and donor; refusals stand, in order."""
    test, train = films_of(tree), train_films_of(tree)
    text = replace(test[0], path=tree / "text.jpeg", sha256=hashlib.sha256(b"hello").hexdigest())
    text.path.write_bytes(b"hello")
    films = [*test, text]
    framing = Framing.fixed(normal_height=0.9, pneumonia_width=0.8)
    plan = plan_reframings(films, train, framing)
    whole = copy_package(shipped, tree, version="again")
    (whole / SERVED).write_bytes(b"x")
    found, broken = score_reframed([shipped, whole], films, plan)
    assert SERVED in broken.error
    assert broken.scores == {}
    assert list(found.scores) == [UNTOUCHED, *Kind]
    assert {scores[-1] for scores in found.scores.values()} == {"not_a_jpeg"}
    model = load(shipped)
    for number, (film, one) in enumerate(zip(test, plan, strict=False)):
        data, donor = film.path.read_bytes(), one.donor.path.read_bytes()
        changed = reframe(decode_grey(data), decode_grey(donor), one.crop)
        for name, again in ((UNTOUCHED, data), *changed.items()):
            pixels = read_for(model.manifest, again).pixels
            assert found.scores[name][number] == model.score(pixels)


def train_films_of(tree: Path) -> list[LabelledScan]:
    """Return the films that are not there to test with."""
    scans = split(find_films([tree]).films, salt="x", shares=Shares())
    return [scan for scan in scans if scan.side is not Side.TEST]


def test_the_command_prints_the_table_under_shift(
    tree: Path, shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For each package; by given crops, by native sizes, or by what the files show."""
    swapped = [str(shipped), str(tree), "--swapped"]
    assert main([str(shipped), *swapped, "--crops", "0.83,0.8"]) == 0
    told = capsys.readouterr().out
    assert told.count("**Robust AUC ") == 2
    for name in ("as they are", "conflict: ", "toned: ", "swapped: both", "zoomed: NORMAL"):
        assert told.count(f"| {name}") == 2, name
    assert "NORMAL films to 0.83 of the height and PNEUMONIA films to 0.80 of the width" in told
    assert "6 NORMAL and 6 PNEUMONIA films" in told

    assert main(swapped) == 0
    assert "swapped: only toned" in (told := capsys.readouterr().out)
    assert "Framing was not swapped: the films' sizes are not known." in told

    sizes = tmp_path / "sizes.csv"
    rows = [
        f"{film.path.name},{120 if film.label == 'NORMAL' else 150},100\n"
        for film in train_films_of(tree)
    ]
    sizes.write_text("file_name,width,height\n" + "".join(rows), encoding="utf-8")
    assert main([*swapped, "--native-sizes", str(sizes)]) == 0
    assert "NORMAL films to 0.80 of the height" in capsys.readouterr().out

    for wrong in ("1", "0.8,0", "0.8,1.2", "a,b"):
        with pytest.raises(SystemExit):
            main([*swapped, "--crops", wrong])


# AUC of packages in `models`, measured once by another program on the same films.
SWAPPED_AND_ZOOMED = {"20261126-a43a897a": (0.829, 0.934)}


@pytest.mark.slow
@pytest.mark.parametrize("version", SWAPPED_AND_ZOOMED)
def test_a_model_on_real_films_under_shift(data: Path, version: str) -> None:
    """As another program makes these films: the draw of donors is the same, and so is the crop."""
    registry = Registry(REPOSITORY / "models")
    films = find_films([data / "chest_xray"]).films
    scans = split(films, salt="x", shares=Shares())
    (under,), _ = measure_shifts(
        [registry.folder(version)],
        [scan for scan in scans if scan.side is Side.TEST],
        [scan for scan in scans if scan.path.parent.parent.name == "train"],
        Framing.fixed(normal_height=0.83, pneumonia_width=0.8),
        draws=20,
    )
    swapped, zoomed = SWAPPED_AND_ZOOMED[version]
    assert under.areas["swapped_auc"].value == pytest.approx(swapped, abs=0.005)
    assert under.areas["zoomed_auc"].value == pytest.approx(zoomed, abs=0.005)
