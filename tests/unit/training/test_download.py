"""`make model`: the public download laid out as it was for the model that is shipped."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from training.download import lay_out, main
from training.fit.trainer import Recipe
from training.night.options import read_plan
from worker.errors import DataError
from worker.model.registry import Registry
from worker.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[3]
NAMES = ("IM-0115-0001", "IM-0222-0001", "NORMAL2-IM-0595-0001", "NORMAL2-IM-0596-0001")
ILL = ("person1_bacteria_1", "person327_bacteria_9", "person80_virus_1", "person280_virus_1")


def a_download(folder: Path) -> Path:
    """Make a folder like the public download, with one film on each side of each limit."""
    for split in ("train", "val", "test"):
        for label, names in (("NORMAL", NAMES), ("PNEUMONIA", ILL)):
            (folder / split / label).mkdir(parents=True)
            for name in names:
                (folder / split / label / f"{name}.jpeg").write_bytes(f"{split} {name}".encode())
    return folder


def laid(tree: Path, split: str) -> dict[str, str]:
    """Return what a film's name holds, for the films of a folder."""
    return {film.stem: film.read_text() for film in (tree / split).glob("*/*.jpeg")}


def test_the_lowest_numbers_of_train_are_tested_by_and_the_public_test_stays_out(
    tmp_path: Path,
) -> None:
    """Each series by its own numbers; what is in `val` is learnt from whatever its number is."""
    download, tree = a_download(tmp_path / "download"), tmp_path / "tree"
    assert lay_out(download, tree) == {"train": 4, "val": 8, "test": 4}
    low = {"IM-0115-0001", "NORMAL2-IM-0595-0001", "person327_bacteria_9", "person80_virus_1"}
    assert laid(tree, "test") == {name: f"train {name}" for name in low}
    assert laid(tree, "train") == {name: f"train {name}" for name in {*NAMES, *ILL} - low}
    assert laid(tree, "val") == {name: f"val {name}" for name in (*NAMES, *ILL)}
    assert lay_out(download, tree)["test"] == 4, "a killed run can be run again"


def test_another_download_or_another_tree_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is mixed, nothing is replaced, and a part of the download is no download."""
    download, tree = a_download(tmp_path / "download"), tmp_path / "tree"
    assert main([str(download), str(tree)]) == 1
    assert "the download is incomplete" in capsys.readouterr().out
    with pytest.raises(DataError, match="another download"):
        lay_out(a_download(tmp_path / "other"), tree)
    own = tree / "test" / "NORMAL" / "IM-0115-0001.jpeg"
    own.unlink()
    own.write_bytes(b"mine")
    with pytest.raises(DataError, match="not a link to a film"):
        lay_out(download, tree)
    assert own.read_bytes() == b"mine"
    assert main([str(tmp_path / "nowhere"), str(tree)]) == 1
    assert "no films under" in capsys.readouterr().out


def test_it_is_what_the_shipped_model_was_measured_on(data: Path, tmp_path: Path) -> None:
    """From one `train` of all films, as published, come the folders it was made from."""
    for label in ("NORMAL", "PNEUMONIA"):
        for split in ("train", "val", "test"):
            place = tmp_path / "download" / ("val" if split == "val" else "train") / label
            place.mkdir(parents=True, exist_ok=True)
            for film in (data / "chest_xray" / split / label).glob("*.jpeg"):
                (place / film.name).symlink_to(film)
    assert main([str(tmp_path / "download"), str(tmp_path / "tree")]) == 0
    for split in ("train", "val", "test"):
        assert {film.resolve() for film in (tmp_path / "tree" / split).glob("*/*")} == {
            film.resolve() for film in (data / "chest_xray" / split).glob("*/*")
        }, split


def _made(*variables: str) -> list[list[str]]:
    """Return the two commands that `make model` would run: each one's module and its arguments."""
    said = subprocess.run(
        ["make", "--dry-run", "model", *variables],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("\\\n", "")
    lines = [shlex.split(line) for line in said.splitlines() if "-m training." in line]
    return [words[words.index("-m") + 1 :] for words in lines[-2:]]


def test_make_model_hands_on_a_table_of_sizes() -> None:
    """The night is told where it lies."""
    _, training = _made("DATA=chest_xray", "SIZES=FILE.csv")
    assert training[-2:] == ["--native-sizes", "FILE.csv"]


def test_make_model_asks_for_the_recipe_of_the_shipped_model() -> None:
    """Epochs, seed, salt and start are those of its manifest; the films are those just laid out."""
    laying, training = _made("DATA=chest_xray")
    assert laying == ["training.download", "chest_xray", "var/model/chest_xray"]
    plan = read_plan(training[1:], Settings(), description="")
    registry = Registry(REPOSITORY / "models")
    made = json.loads((registry.folder(registry.serving()) / "manifest.json").read_text())
    recipe = made["training"]["recipe"]
    if recipe.keys() != asdict(Recipe()).keys():
        pytest.skip("the shipped package was made by an earlier recipe")
    assert (plan.epochs, plan.seed, plan.salt) == (
        recipe["epochs"],
        recipe["seed"],
        made["training"]["salt"],
    )
    assert (plan.start, made["training"]["from"]) == ("scratch", None)
    assert plan.side_pixels == made["training"]["architecture"]["height"]
    assert plan.data == (Path("var/model/chest_xray"),)
