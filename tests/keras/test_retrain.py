"""A whole night on drawn films: from a folder to a package that the worker serves, or a reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from databases import query
from driver import without_rights
from films import draw, jpeg, truncated
from nights import ANY, NOW, draw_folder

from training.card.card import write_card
from training.data.dataset import Side, read_dataset
from training.data.patients import Patients
from training.data.splits import SALT
from training.fit.warm_start import choose_start
from training.night.options import Plan
from training.night.state import LAST, LOCK, NightOutcome
from training.retrain import main, retrain
from worker.db.engine import Database
from worker.db.training_runs import Ruling, TrainingRuns
from worker.errors import DatabaseTrouble, ModelPackageError
from worker.imaging.preprocessing import read_film
from worker.model.decision import REVIEW
from worker.model.evaluation import Confusion
from worker.model.manifest import POSITIVE
from worker.model.registry import Registry
from worker.model.runtime import load


@dataclass(frozen=True, kw_only=True)
class Night:
    """A night that went by, and what was asked of it."""

    plan: Plan
    outcome: NightOutcome
    said: list[str]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Run one night, with floors that anything clears and one damaged film among the rest."""
    root = tmp_path_factory.mktemp("night")
    data = draw_folder(root / "drawn")
    spoilt = data / "train/NORMAL/IM-0500-0001.jpeg"
    spoilt.write_bytes(truncated(jpeg(draw(1)), 50))
    plan = Plan(
        data=(data,),
        salt="lungwatch",
        models=root / "models",
        cache=root / "cache",
        epochs=1,
        side_pixels=32,
        population="Drawn chests of nobody.",
        test_note="Drawn last.",
        rules=ANY,
    )
    said: list[str] = []
    return Night(plan=plan, outcome=retrain(plan, now=NOW, say=said.append), said=said)


def auc_of(outcome: NightOutcome) -> float:
    """Return the AUC that a night has measured."""
    assert outcome.evaluation is not None
    assert outcome.evaluation.auc is not None
    return outcome.evaluation.auc


def salt_of(night: Night) -> str:
    """Return the salt that the night keeps with its models."""
    return (night.plan.models / SALT).read_text(encoding="ascii").strip()


def test_the_worker_loads_what_the_night_made(night: Night) -> None:
    """The package passes every check of serving, and answers on a film it has never seen."""
    model = load(night.outcome.package)
    film = read_film(jpeg(draw(99)), height=model.manifest.height, width=model.manifest.width)
    verdict = model.screen(film.pixels)
    assert 0 <= verdict.probability <= 1
    assert model.manifest.version == night.outcome.version


def test_a_first_model_above_the_floors_serves(night: Night) -> None:
    """CHAMPION names it, and nothing half-made lies beside it."""
    registry = Registry(night.plan.models)
    assert night.outcome.ruling is Ruling.PROMOTED
    assert registry.champion() == night.outcome.version
    there = {path.name for path in night.plan.models.iterdir()}
    assert there == {"CHAMPION", "HISTORY", LOCK, LAST, SALT, night.outcome.version}


def test_what_is_recorded_is_what_the_package_does(night: Night) -> None:
    """evaluation.json agrees to the last digit with screening the test films one by one."""
    from sklearn.metrics import roc_auc_score

    model = load(night.outcome.package)
    recorded = json.loads((night.outcome.package / "evaluation.json").read_bytes())
    scans = read_dataset(night.plan.data, salt=salt_of(night)).side(Side.TEST)
    assert len(scans) == 16
    side = night.plan.side_pixels
    verdicts = [
        model.screen(read_film(scan.path.read_bytes(), height=side, width=side).pixels)
        for scan in scans
    ]
    truth = np.array([scan.label == POSITIVE for scan in scans])
    probability = [verdict.probability for verdict in verdicts]
    called = np.array([verdict.label == POSITIVE for verdict in verdicts])
    assert recorded["auc"] == roc_auc_score(truth, probability)
    assert recorded["sensitivity"] == called[truth].mean()
    assert recorded["specificity"] == (~called[~truth]).mean()
    review = np.array([verdict.decision == REVIEW for verdict in verdicts])
    assert recorded["review_share"] == review.mean()
    assert recorded["films"] == {"NORMAL": 8, "PNEUMONIA": 8}
    assert recorded["data"] == "drawn/test"
    assert recorded["version"] == night.outcome.version


def test_the_manifest_says_what_was_trained_on_what(night: Night) -> None:
    """Data digest, counts, seed and split are in the package, for the night that comes after."""
    dataset = read_dataset(night.plan.data, salt=salt_of(night))
    training = load(night.outcome.package).manifest.training
    assert training["recipe"]["seed"] == night.plan.seed
    assert training["salt"] == salt_of(night)
    assert training["counts"]["test"] == dataset.counts()["test"]
    damaged = 1  # which was found, and is on one of these sides
    sides = ("train", "calibration")
    assert sum(training["counts"][side]["NORMAL"] for side in sides) == 40
    assert sum(dataset.counts()[side]["NORMAL"] for side in sides) == 40 + damaged


def test_the_operating_point_owes_nothing_to_the_test_films(night: Night, tmp_path: Path) -> None:
    """With every test label turned round, weights, temperature, threshold and band are the same."""
    data = tmp_path / "drawn"
    draw_folder(data)
    (data / "test/NORMAL").rename(data / "test/aside")
    (data / "test/PNEUMONIA").rename(data / "test/NORMAL")
    (data / "test/aside").rename(data / "test/PNEUMONIA")
    plan = replace(night.plan, data=(data,), models=tmp_path / "models", cache=tmp_path / "cache")
    outcome = retrain(plan, now=NOW, say=lambda _: None)
    one, other = (load(package).manifest for package in (night.outcome.package, outcome.package))
    assert outcome.version == night.outcome.version
    assert other.temperature == one.temperature
    assert (other.threshold, other.review_band) == (one.threshold, one.review_band)
    assert auc_of(outcome) == pytest.approx(1 - auc_of(night.outcome))


def test_a_damaged_film_is_set_aside_and_named(night: Night) -> None:
    """It costs the night nothing, and a person is told which it is and why."""
    assert "set aside: train/NORMAL/IM-0500-0001.jpeg is refused as truncated" in night.said


def test_the_card_says_whom_it_is_of_and_what_it_is_not(night: Night) -> None:
    """Population, test data, numbers and limits are there for a person to read."""
    card = (night.outcome.package / "card.md").read_text(encoding="utf-8")
    assert "Not a medical device" in card
    assert "Drawn chests of nobody." in card
    assert f"| AUC | {auc_of(night.outcome):.4f} |" in card
    assert "8 NORMAL and 8 PNEUMONIA films" in card
    assert "Drawn last." in card
    assert "| class | precision | recall | F1 | films |" in card


def test_the_card_says_how_far_its_numbers_reach(night: Night) -> None:
    """Elsewhere, other prevalences, by series, on disturbed films, and where the evidence lies."""
    card = (night.outcome.package / "card.md").read_text(encoding="utf-8")
    assert "0.54" in card
    assert "| 1% | " in card
    assert re.search(r"^\| virus \| 0 \| 8 \|  \| [01]\.\d{4} \(", card, re.MULTILINE)
    assert re.search(r"^\| gamma 0\.7 \| [01]\.\d{4} \| ", card, re.MULTILINE)
    assert "8 NORMAL and 8 PNEUMONIA films, all." in card
    assert "43.8%" in card
    evaluation = json.loads((night.outcome.package / "evaluation.json").read_bytes())
    assert evaluation["robustness"]["untouched"]["auc"] == pytest.approx(evaluation["auc"])
    assert 0 < evaluation["evidence_outside"]["mean"] < 1
    assert evaluation["groups"]["size"] == {}, "all were drawn of one size"


def test_the_cards_table_of_classes_agrees_with_scikit_learn(night: Night) -> None:
    """Precision, recall and F1 of both classes, from a confusion matrix that is not symmetrical."""
    from sklearn.metrics import precision_recall_fscore_support

    truth = [0] * 30 + [1] * 70
    called = [0] * 25 + [1] * 5 + [0] * 2 + [1] * 68
    expected = precision_recall_fscore_support(truth, called)
    assert night.outcome.evaluation is not None
    confusion = Confusion(true_negative=25, false_positive=5, false_negative=2, true_positive=68)
    evaluation = night.outcome.evaluation.model_copy(update={"confusion": confusion})
    training = load(night.outcome.package).manifest.training
    card = write_card("drawn", evaluation, training, [])
    for row, label in enumerate(("NORMAL", "PNEUMONIA")):
        numbers = " | ".join(f"{column[row]:.4f}" for column in expected[:3])
        assert f"| {label} | {numbers} | {expected[3][row]} |" in card


def test_the_very_same_night_again_changes_nothing(night: Night) -> None:
    """Nothing new: said so, without fitting again, and what serves is untouched."""
    before = sorted(night.outcome.package.iterdir())
    said: list[str] = []
    outcome = retrain(night.plan, now=NOW, say=said.append)
    assert outcome.ruling is Ruling.UNCHANGED
    assert outcome.version == night.outcome.version
    assert f"nothing new since the night that made {outcome.version}" in outcome.reasons[0]
    assert len(said) == 1
    assert sorted(night.outcome.package.iterdir()) == before
    assert Registry(night.plan.models).champion() == night.outcome.version


def test_a_failure_while_measuring_leaves_nothing_behind(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that could not be measured is no package, and nothing of it is left staged."""

    def fail(*_: object, **__: object) -> list[float]:
        raise ModelPackageError("it does not load")

    monkeypatch.setattr("training.evaluate.head_to_head.score", fail)
    with pytest.raises(ModelPackageError, match="does not load"):
        retrain(replace(night.plan, models=tmp_path / "models"), now=NOW, say=lambda _: None)
    assert {path.name for path in (tmp_path / "models").iterdir()} == {LOCK, SALT}


@pytest.mark.parametrize(("setting", "used"), [(None, "True"), ("0", "False")])
def test_a_night_uses_the_faster_kernels_unless_told_not_to(
    setting: str | None, used: str, tmp_path: Path
) -> None:
    """TensorFlow itself turns them on for processors with AVX-512 alone."""
    name = "TF_ENABLE_ONEDNN_OPTS"
    inherited = {key: value for key, value in os.environ.items() if key != name}
    script = (
        "from training.retrain import main\n"
        f"main(['--data', {str(tmp_path / 'none')!r}, '--models', {str(tmp_path / 'models')!r},"
        " '--no-database'])\n"
        "from tensorflow.python.util import _pywrap_util_port\n"
        "print(_pywrap_util_port.IsMklEnabled())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=inherited | ({name: setting} if setting else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == used


@pytest.fixture(scope="module")
def held(night: Night, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Run the command as a person would, on few films: return its words and its models."""
    models = tmp_path_factory.mktemp("held") / "models"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "training.retrain"),
            *("--data", str(night.plan.data[0]), "--models", str(models)),
            *("--cache", str(night.plan.cache), "--epochs", "1", "--side-pixels", "32"),
            "--no-database",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout, models


def test_a_model_below_the_floors_is_kept_and_does_not_serve(
    held: tuple[str, Path],
) -> None:
    """Eight films of a class are too few: exit 0, the reason said, a package but no CHAMPION."""
    said, models = held
    assert "HELD: 8 NORMAL test films, at least 50 needed" in said
    assert said.rstrip().splitlines()[-1].startswith("held: ")
    registry = Registry(models)
    assert registry.champion() is None
    (version,) = registry.versions()
    assert "HELD: 8 NORMAL test films" in (models / version / "card.md").read_text("utf-8")
    load(models / version)


def test_a_card_without_a_population_says_so(held: tuple[str, Path]) -> None:
    """Nobody's films are passed off as anybody's: what was not stated is not made up."""
    _, models = held
    (version,) = Registry(models).versions()
    assert "## Population\n\nNot stated" in (models / version / "card.md").read_text("utf-8")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_near_copy_stops_the_command_before_anything_is_fitted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,  # noqa: FBT001
) -> None:
    """A test film saved again into train: both names, to a person or in the row, and no model."""
    data = draw_folder(tmp_path / "drawn", train=40, test=3)
    film = draw(2000, width=160, height=128)
    (data / "train/NORMAL/again.jpeg").write_bytes(jpeg(film, quality=50))
    monkeypatch.setenv("LUNGWATCH_DATABASE_URL", f"sqlite:///{tmp_path}/nights.db")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    code = main(
        [
            *("--data", str(data), "--models", str(tmp_path / "m"), "--cache", str(tmp_path / "c")),
            *("--side-pixels", "32"),
        ]
    )
    said = capsys.readouterr().out
    names = "test/NORMAL/IM-1000-0001.jpeg, train/NORMAL/again.jpeg"
    assert code == 1
    assert "these films cannot be trained on as they are" in said
    assert (names in said) == terminal
    assert ("again" in said) == terminal
    assert terminal or str(tmp_path) not in said
    assert ("row of training_runs" in said) != terminal
    assert "fitting" not in said
    assert Registry(tmp_path / "m").versions() == []
    database = Database(f"sqlite:///{tmp_path}/nights.db")
    (row,) = query(database, "SELECT reasons FROM training_runs")
    assert names in row["reasons"]
    database.close()


def test_a_log_is_told_of_no_film_that_was_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set aside as told to: a log says that there is something to say, and the row says it."""
    data = draw_folder(tmp_path / "drawn", train=40, test=3)
    film = draw(2000, width=160, height=128)
    (data / "train/NORMAL/again.jpeg").write_bytes(jpeg(film, quality=50))
    monkeypatch.setenv("LUNGWATCH_DATABASE_URL", f"sqlite:///{tmp_path}/nights.db")
    code = main(
        [
            *("--data", str(data), "--models", str(tmp_path / "m"), "--cache", str(tmp_path / "c")),
            *("--side-pixels", "32", "--epochs", "1", "--drop-conflicts"),
        ]
    )
    said = capsys.readouterr().out
    assert code == 0, said
    assert "again" not in said
    assert str(tmp_path) not in said
    assert said.count("row of training_runs") == 1
    database = Database(f"sqlite:///{tmp_path}/nights.db")
    (row,) = query(database, "SELECT details FROM training_runs")
    assert any("train/NORMAL/again.jpeg" in one for one in json.loads(row["details"])["remarks"])
    database.close()


def test_the_next_night_starts_from_the_champion(night: Night, tmp_path: Path) -> None:
    """Its weights, where architecture and split are the same; else, or if told to, from nothing."""
    models = tmp_path / "models"
    shutil.copytree(night.plan.models, models)
    again = replace(night.plan, models=models, seed=7)
    for plan, start, words in (
        (again, night.outcome.version, f"weights from the weights of {night.outcome.version}"),
        (replace(again, start="scratch"), None, "weights from nothing: as asked"),
        (replace(again, side_pixels=48), None, "has another architecture"),
    ):
        said: list[str] = []
        outcome = retrain(plan, now=NOW, say=said.append)
        training = load(outcome.package).manifest.training
        assert training["from"] == start
        assert [line for line in said if words in line]
        if outcome.champion != night.outcome.version:
            Registry(models).promote(night.outcome.version, who="test", why="test", now=NOW)


def test_a_champion_of_another_split_is_not_started_from(night: Night, tmp_path: Path) -> None:
    """It may have learnt from the films that are to calibrate and to test tonight."""
    package = tmp_path / night.outcome.version
    shutil.copytree(night.outcome.package, package)
    (tmp_path / "CHAMPION").write_text(f"{package.name}\n", encoding="ascii")
    manifest = Registry(tmp_path).manifest(package.name)
    architecture = manifest.training["architecture"]
    registry = Registry(tmp_path)
    same = choose_start(registry, architecture=architecture, salt=salt_of(night))
    assert same.weights == package / "model.keras"
    other = choose_start(registry, architecture=architecture, salt="another")
    assert (other.weights, other.why) == (
        None,
        f"from nothing: {package.name} was trained on another split",
    )
    (package / "model.keras").write_bytes(b"damaged")
    damaged = choose_start(registry, architecture=architecture, salt=salt_of(night))
    assert damaged.weights is None
    assert "model.keras" in damaged.why


def test_what_a_model_has_learnt_from_never_tests_it(night: Night, tmp_path: Path) -> None:
    """The same films without their test folder: a hash would put some that it knows on test."""
    flat, models = tmp_path / "flat", tmp_path / "models"
    for number, film in enumerate(sorted(night.plan.data[0].rglob("*.jpeg"))):
        place = flat / film.parent.name / f"{number}-{film.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, place)
    shutil.copytree(night.plan.models, models)
    (models / LAST).unlink()
    said: list[str] = []
    plan = replace(night.plan, data=(flat,), models=models, patients=Patients())
    outcome = retrain(plan, now=NOW, say=said.append)
    champion = night.outcome.version
    assert [line for line in said if f"from nothing: {champion} has learnt from " in line]
    assert outcome.ruling is Ruling.HELD
    (reason,) = [reason for reason in outcome.reasons if reason.startswith("HELD")]
    assert f"could not be compared with {champion}, which serves: {champion} has learnt" in reason
    assert Registry(models).champion() == champion


@pytest.mark.parametrize("ends", ["away", "stopped"])
def test_what_was_promoted_serves_whatever_comes_between(
    night: Night,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ends: str,
) -> None:
    """A database away at the very end, or a signal there: nobody is told that nothing changed."""
    close = TrainingRuns.close

    def closing(runs: TrainingRuns, run: int, **how: Any) -> None:
        if ends == "away":
            raise DatabaseTrouble("the database cannot be reached")
        signal.raise_signal(signal.SIGTERM)
        close(runs, run, **how)

    monkeypatch.setattr(TrainingRuns, "close", closing)
    monkeypatch.setenv("LUNGWATCH_DATABASE_URL", f"sqlite:///{tmp_path}/nights.db")
    for name in ("AUC", "SENSITIVITY", "SPECIFICITY"):
        monkeypatch.setenv(f"LUNGWATCH_MIN_{name}", "0")
    monkeypatch.setenv("LUNGWATCH_MIN_TEST_FILMS", "1")
    monkeypatch.setenv("LUNGWATCH_MAX_CALIBRATION_ERROR", "1")
    code = main(
        [
            *("--data", str(night.plan.data[0]), "--models", str(tmp_path / "models")),
            *("--cache", str(night.plan.cache), "--side-pixels", "32", "--epochs", "1"),
        ]
    )
    said = capsys.readouterr().out
    version = Registry(tmp_path / "models").serving()
    assert code == 0, said
    assert f"promoted: {version}" in said
    assert "untouched" not in said
    serves = f"{version} serves, but this night's end could not be recorded"
    assert (serves in said) == (ends == "away")


def test_told_to_stop_a_night_leaves_nothing_and_goes_on_the_next(
    night: Night, tmp_path: Path
) -> None:
    """SIGTERM while fitting: not 0, no package, nothing staged; then no epoch is done twice."""
    command = [
        *(sys.executable, "-m", "training.retrain", "--data", str(night.plan.data[0])),
        *("--models", str(tmp_path / "models"), "--cache", str(tmp_path / "cache")),
        *("--no-database", "--side-pixels", "32", "--salt", "lungwatch", "--seed", "3"),
    ]
    with subprocess.Popen(
        [*command, "--epochs", "4"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 1/"):
                # It takes what the worker beside it leaves.
                assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
                process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert {path.name for path in (tmp_path / "models").iterdir()} == {LOCK, SALT}
    assert len(list((tmp_path / "cache").glob("nights-*/fit-*/epoch.json"))) == 1
    done = subprocess.run([*command, "--epochs", "4"], capture_output=True, text=True, check=True)
    epochs = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert epochs
    assert not [line for line in epochs if line.startswith("epoch 1/")]
    assert len(Registry(tmp_path / "models").versions()) == 1


@pytest.mark.parametrize(
    ("locked", "rights", "why"),
    [
        ("drawn", 0o000, "a folder of films cannot be read (Permission denied):"),
        ("drawn/train/NORMAL", 0o000, "a folder of films cannot be read (Permission denied):"),
        ("drawn/train/NORMAL", 0o444, "a folder of films cannot be read (Permission denied):"),
        ("models", 0o500, "the models folder cannot be written (Permission denied):"),
    ],
)
def test_a_folder_without_the_rights_ends_a_night_with_a_sentence(
    tmp_path: Path, locked: str, rights: int, why: str
) -> None:
    """No traceback, and in a log no path."""
    draw_folder(tmp_path / "drawn", train=1, test=1)
    (tmp_path / "models").mkdir()
    (tmp_path / locked).chmod(rights)
    run = subprocess.run(
        [
            *(*without_rights(), sys.executable, "-m", "training.retrain", "--no-database"),
            *("--data", str(tmp_path / "drawn"), "--models", str(tmp_path / "models")),
            *("--cache", str(tmp_path / "cache")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    (tmp_path / locked).chmod(0o755)
    assert (run.returncode, run.stderr) == (1, "")
    assert run.stdout.splitlines()[0] == f"error: {why}"
    assert str(tmp_path) not in run.stdout


def test_a_leak_stops_the_command_with_a_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test film copied into train: exit 1, both names to a person, and no model."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    data = draw_folder(tmp_path / "drawn", train=3, test=3)
    film = (data / "test/NORMAL/IM-1000-0001.jpeg").read_bytes()
    (data / "train/NORMAL/copy.jpeg").write_bytes(film)
    code = main(
        [
            *("--data", str(data), "--models", str(tmp_path / "m"), "--cache", str(tmp_path)),
            "--no-database",
        ]
    )
    said = capsys.readouterr().out
    assert code == 1
    assert "test/NORMAL/IM-1000-0001.jpeg, train/NORMAL/copy.jpeg" in said
    assert Registry(tmp_path / "m").versions() == []
