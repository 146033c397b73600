"""What a model has learnt from, film by film: for what tests it, and what calibrates after it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packages import change_manifest, replace_file

from training.data.dataset import Dataset, read_dataset
from training.data.patients import Patients
from training.data.seen_films import LEARNT, Marks, marks_of, read, to_bytes, why_not
from training.data.splits import Side
from training.fit.warm_start import Start, choose_start
from worker.model.manifest import read_manifest, verify_files
from worker.model.registry import Registry

SALT = "s"
ARCHITECTURE = {"height": 32}
BY_NUMBER = Patients(pattern=re.compile(r"(\d+)"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Films of forty children in the Kaggle layout, two of each in a class."""
    for split, first, count in (("train", 0, 40), ("test", 100, 4)):
        for label in ("NORMAL", "PNEUMONIA"):
            folder = tmp_path / "tree" / split / label
            folder.mkdir(parents=True)
            for number in range(first, first + count):
                for view in "ab":
                    path = folder / f"chest {number}{label[0]}{view}.jpeg"
                    path.write_bytes(path.name.encode())
    return tmp_path / "tree"


def champion_of(root: Path, package: Path, learnt: bytes | None) -> Registry:
    """Return a registry whose champion keeps these marks, as a night of this salt left it."""
    shutil.copytree(package, root / package.name)
    folder = root / package.name
    if learnt is not None:
        replace_file(folder, LEARNT, learnt)
    else:
        (folder / LEARNT).unlink(missing_ok=True)
        files = read_manifest(folder).model_dump()["files"]
        change_manifest(folder, files={k: v for k, v in files.items() if k != LEARNT})
    change_manifest(folder, training={"salt": SALT, "architecture": ARCHITECTURE})
    (root / "CHAMPION").write_text(f"{package.name}\n", encoding="ascii")
    return Registry(root)


def start_of(registry: Registry, night: Dataset) -> Start:
    """Return where the fit of a night starts."""
    return choose_start(
        registry,
        architecture=ARCHITECTURE,
        salt=SALT,
        test=night.side(Side.TEST),
        calibration=night.side(Side.CALIBRATION),
    )


def marks(night: Dataset, since: Path | None = None) -> Marks:
    """Return what a model of this night has learnt from."""
    return marks_of(night.scans, since=since)


def old(marks: Marks) -> bytes:
    """Return the marks as an earlier release kept them."""
    return to_bytes(Marks(learnt=marks.learnt, trained=None))


def test_what_trained_the_champion_does_not_calibrate_what_goes_on_from_it(
    tree: Path, tmp_path: Path, shipped: Path
) -> None:
    """The first night that tells patients: some that trained calibrate now, so it starts anew."""
    before = read_dataset(tree, salt=SALT)
    tonight = read_dataset(tree, salt=SALT, patients=BY_NUMBER)
    trained = {scan.sha256 for scan in before.side(Side.TRAIN)}
    calibrating = [scan.sha256 for scan in tonight.side(Side.CALIBRATION)]
    known = sum(one in trained for one in calibrating)
    assert known

    registry = champion_of(tmp_path / "models", shipped, to_bytes(marks(before)))
    verify_files(registry.folder(shipped.name), registry.manifest(shipped.name))
    assert start_of(registry, before).version == shipped.name
    start = start_of(registry, tonight)
    assert (start.version, start.weights) == (None, None)
    assert start.why == (
        f"from nothing: {shipped.name} was trained on {known} of the {len(calibrating)} "
        "calibration films"
    )


def test_what_a_champion_goes_on_from_had_trained_on_counts_too(
    tree: Path, tmp_path: Path, shipped: Path
) -> None:
    """The second link of a chain never saw these films; the first did, and weights remember."""
    first = read_dataset(tree, salt=SALT)
    root = champion_of(tmp_path / "one", shipped, to_bytes(marks(first))).folder(shipped.name)
    gone = first.side(Side.TRAIN)[0]
    second = [scan for scan in first.scans if scan.sha256 != gone.sha256]
    chained = to_bytes(marks_of(second, since=root))
    registry = champion_of(tmp_path / "two", shipped, chained)
    assert start_of(registry, first).version == shipped.name

    moved: Any = [gone]
    start = choose_start(registry, architecture=ARCHITECTURE, salt=SALT, calibration=moved)
    assert start.why.endswith("was trained on 1 of the 1 calibration films")


@pytest.mark.parametrize("kept", ["of all films", "of none"])
def test_packages_that_do_not_tell_them_apart_are_gone_on_from(
    tree: Path, tmp_path: Path, shipped: Path, kept: str
) -> None:
    """As before; and from the first night on it is kept, as far as it can be known."""
    night = read_dataset(tree, salt=SALT)
    learnt = old(marks(night)) if kept == "of all films" else None
    registry = champion_of(tmp_path / "models", shipped, learnt)
    folder = registry.folder(shipped.name)
    verify_files(folder, registry.manifest(shipped.name))
    for patients in (Patients(), BY_NUMBER):
        tonight = read_dataset(tree, salt=SALT, patients=patients)
        assert start_of(registry, tonight).version == shipped.name

    following = champion_of(tmp_path / "next", shipped, to_bytes(marks(night, since=folder)))
    assert start_of(following, night).version == shipped.name
    told_otherwise = read_dataset(tree, salt=SALT, patients=BY_NUMBER)
    assert start_of(following, told_otherwise).version is None


def test_earlier_releases_read_what_is_kept_now(tree: Path, tmp_path: Path, shipped: Path) -> None:
    """They find all that a model has learnt from, the first of the file's arrays, as ever."""
    night = read_dataset(tree, salt=SALT)
    found = marks(night)
    registry = champion_of(tmp_path / "models", shipped, to_bytes(found))
    folder = registry.folder(shipped.name)
    ours = [scan.sha256 for scan in night.scans if scan.side is not Side.TEST]
    expected = np.unique(np.array([int(one[:16], 16) for one in ours], dtype=np.uint64))
    np.testing.assert_array_equal(np.load(folder / LEARNT, allow_pickle=False), expected)
    again = read(folder)
    assert again is not None
    assert again.trained is not None
    np.testing.assert_array_equal(again.trained, found.trained)
    assert why_not(folder, night.side(Side.TEST)) == ""
    assert why_not(folder, night.side(Side.TRAIN)[:3]).endswith("from 3 of the 3 test films")
    assert to_bytes(again) == to_bytes(found)
