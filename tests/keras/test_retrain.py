"""Whole nights on drawn films: from a folder to a package that the worker serves, or a reason.

How else a night may end is shown by quick nights, in tests/unit/training/night/test_verdicts.py.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from databases import query
from driver import without_rights
from fake_nights import CHAMPION, copying, pretending
from films import draw, jpeg, truncated
from nights import ANY, NOW, draw_folder
from once import once
from packages import copy_package
from pixels import read_for

from training.card.card import write_card
from training.data.dataset import Side, read_dataset
from training.data.splits import SALT
from training.evaluate.scoring import score
from training.fit.network import Architecture, describe
from training.fit.warm_start import choose_start
from training.night.options import Plan
from training.night.state import LAST, LOCK, NightOutcome
from training.retrain import main, retrain, tune_tensorflow
from worker.db.engine import Database
from worker.db.training_runs import Ruling
from worker.errors import DataError
from worker.model.decision import REVIEW
from worker.model.evaluation import Confusion
from worker.model.manifest import POSITIVE
from worker.model.population import Population
from worker.model.registry import Registry
from worker.model.runtime import load

NOBODY = Population(from_years=1.0, under_years=6.0, hospital="Nowhere", source="drawn chests")


@dataclass(frozen=True, kw_only=True)
class Night:
    """A night that went by, and what was asked of it."""

    plan: Plan
    outcome: NightOutcome
    said: list[str]


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Run one night, with floors that anything clears and one damaged film among the rest."""
    return once(tmp_path_factory, "night", _run_first_night)


def _run_first_night(root: Path) -> Night:
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
        population=NOBODY,
        population_note="More on nobody.",
        test_note="Drawn last.",
        rules=ANY,
    )
    said: list[str] = []
    return Night(plan=plan, outcome=retrain(plan, now=NOW, say=said.append), said=said)


@pytest.fixture
def again(night: Night, tmp_path: Path) -> Plan:
    """Return the same night's plan, for a folder where a copy of its model is the champion."""
    models = tmp_path / "models"
    models.mkdir()
    copy_package(night.outcome.package, models, version=CHAMPION)
    Registry(models).promote(CHAMPION, who="a test", why="to be beaten")
    plan = replace(night.plan, models=models, start="scratch")
    shutil.copytree(night.plan.scratch, plan.scratch)
    return plan


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
    film = read_for(model.manifest, jpeg(draw(99)))
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
    verdicts = [
        model.screen(read_for(model.manifest, scan.path.read_bytes()).pixels) for scan in scans
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


@pytest.mark.slow
def test_the_operating_point_owes_nothing_to_the_test_films(night: Night, tmp_path: Path) -> None:
    """With every test label turned round, weights, temperature, threshold and band are the same."""
    data = tmp_path / "drawn"
    draw_folder(data)
    (data / "test/NORMAL").rename(data / "test/aside")
    (data / "test/PNEUMONIA").rename(data / "test/NORMAL")
    (data / "test/aside").rename(data / "test/PNEUMONIA")
    plan = replace(night.plan, data=(data,), models=tmp_path / "models", cache=tmp_path / "cache")
    quick = replace(pretending(), score=score)
    outcome = retrain(plan, now=NOW, say=lambda _: None, evaluator=quick)
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
    assert f"## Population\n\n{NOBODY.sentence}\n\nMore on nobody." in card
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
    shifts = evaluation["shifts"]
    assert shifts["framing_left_out"] == "the films' sizes are not known", "all are of one size"
    zoomed = min(one["auc"] for one in shifts["zoomed"].values())
    parts = [evaluation["auc"], shifts["swapped"]["auc"], zoomed]
    assert evaluation["robust_auc"] == pytest.approx(sum(parts) / 3)
    assert f"**Robust AUC {evaluation['robust_auc']:.4f} (" in card
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


def test_the_very_same_night_again_changes_nothing(night: Night, tmp_path: Path) -> None:
    """Nothing new: said so, without fitting again, and what serves is untouched."""
    plan = replace(night.plan, models=tmp_path / "models")
    shutil.copytree(night.plan.models, plan.models)
    package = plan.models / night.outcome.version
    before = sorted(package.iterdir())
    said: list[str] = []
    outcome = retrain(plan, now=NOW, say=said.append)
    assert outcome.ruling is Ruling.UNCHANGED
    assert outcome.version == night.outcome.version
    assert f"nothing new since the night that made {outcome.version}" in outcome.reasons[0]
    assert len(said) == 1
    assert sorted(package.iterdir()) == before
    assert Registry(plan.models).champion() == night.outcome.version


def test_a_night_uses_the_faster_kernels_unless_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow itself turns them on for processors with AVX-512 alone."""
    name = "TF_ENABLE_ONEDNN_OPTS"
    monkeypatch.setenv(name, "0")
    tune_tensorflow()
    assert os.environ[name] == "0"
    script = (
        "from training.retrain import main\n"
        f"main(['--data', {str(tmp_path / 'none')!r}, '--models', {str(tmp_path / 'models')!r},"
        " '--no-database'])\n"
        "from tensorflow.python.util import _pywrap_util_port\n"
        "print(_pywrap_util_port.IsMklEnabled())\n"
    )
    monkeypatch.delenv(name)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "True"


@dataclass(frozen=True, kw_only=True)
class Command:
    """The command, told to stop after its first epoch, and run again to its end."""

    models: Path
    priority: int  # of the first run
    code: int  # that it ended with
    left: set[str]  # in the models folder, by the first run
    scratch: int  # states that it left to go on from
    said: str  # by the second run


@pytest.fixture(scope="session")
def command(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run the command as a person would, on few films, and stop it once on the way."""
    return once(tmp_path_factory, "command", lambda root: _run_command(night, root))


def _run_command(night: Night, root: Path) -> Command:
    models, cache = root / "models", root / "cache"
    arguments = [
        *(sys.executable, "-m", "training.retrain", "--data", str(night.plan.data[0])),
        *("--models", str(models), "--cache", str(cache), "--no-database"),
        *("--side-pixels", "32", "--salt", "lungwatch", "--seed", "3", "--epochs", "4"),
    ]
    priority = 0
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 1/"):
                priority = os.getpriority(os.PRIO_PROCESS, process.pid)
                process.send_signal(signal.SIGTERM)
        code = process.wait()
    left = {path.name for path in models.iterdir()}
    scratch = len(list(cache.glob("nights-*/fit-*/epoch.json")))
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300)
    return Command(
        models=models, priority=priority, code=code, left=left, scratch=scratch, said=done.stdout
    )


@pytest.mark.slow
def test_a_model_below_the_floors_is_kept_and_does_not_serve(
    command: Command,
) -> None:
    """Eight films of a class are too few: exit 0, the reason said, a package but no CHAMPION."""
    said, models = command.said, command.models
    assert "HELD: 8 NORMAL test films, at least 50 needed" in said
    assert said.rstrip().splitlines()[-1].startswith("held: ")
    registry = Registry(models)
    assert registry.champion() is None
    (version,) = registry.versions()
    assert "HELD: 8 NORMAL test films" in (models / version / "card.md").read_text("utf-8")
    load(models / version)


@pytest.mark.slow
def test_a_card_without_a_population_says_so(command: Command) -> None:
    """Nobody's films are passed off as anybody's: what was not stated is not made up."""
    models = command.models
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
    assert "these films contradict one another" in said
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


@pytest.mark.slow
def test_the_next_night_starts_from_the_champion(night: Night, tmp_path: Path) -> None:
    """Its weights, where architecture and split are the same; and whose films it was tested on."""
    models = tmp_path / "models"
    shutil.copytree(night.plan.models, models)
    plan = replace(night.plan, models=models, seed=7, population=None)
    champion, said = night.outcome.version, list[str]()
    outcome = retrain(plan, now=NOW, say=said.append, evaluator=pretending())
    made = Registry(models).manifest(outcome.version)
    assert made.training["from"] == champion
    assert made.population == NOBODY
    assert [line for line in said if f"weights from the weights of {champion}" in line]
    larger = describe(Architecture.of(48))
    start = choose_start(Registry(night.plan.models), architecture=larger, salt=salt_of(night))
    assert (start.weights, start.why) == (
        None,
        f"from nothing: {champion} has another architecture",
    )


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_a_model_has_learnt_from_never_tests_it(night: Night, tmp_path: Path) -> None:
    """The same films without their test folder: a hash would put some that it knows on test."""
    flat, models = tmp_path / "flat", tmp_path / "models"
    for number, film in enumerate(sorted(night.plan.data[0].rglob("*.jpeg"))):
        place = flat / film.parent.name / f"{number}-{film.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, place)
    shutil.copytree(night.plan.models, models)
    (models / LAST).unlink()
    champion = night.outcome.version
    test = read_dataset([flat], salt=salt_of(night)).side(Side.TEST)
    registry = Registry(models)
    architecture = registry.manifest(champion).training["architecture"]
    start = choose_start(registry, architecture=architecture, salt=salt_of(night), test=test)
    assert start.why.startswith(f"from nothing: {champion} was made from ")

    plan = replace(night.plan, data=(flat,), models=models, seed=7)
    outcome = retrain(
        plan,
        now=NOW + timedelta(days=1),
        say=lambda _: None,
        maker=copying(night.outcome.package),
        evaluator=pretending(),
    )
    assert outcome.ruling is Ruling.HELD
    (reason,) = [reason for reason in outcome.reasons if reason.startswith("HELD")]
    assert f"could not be compared with the champion {champion}: {champion} was made from" in reason
    assert registry.champion() == champion


@pytest.mark.slow
def test_told_to_stop_a_night_leaves_nothing_and_goes_on_the_next(command: Command) -> None:
    """SIGTERM while fitting: not 0, no package, nothing staged; then no epoch is done twice."""
    assert command.code == 128 + signal.SIGTERM
    assert command.priority == 19, "it takes what the worker beside it leaves"
    assert command.left == {LOCK, SALT}
    assert command.scratch == 1
    epochs = [line for line in command.said.splitlines() if line.startswith("epoch ")]
    assert epochs
    assert not [line for line in epochs if line.startswith("epoch 1/")]
    assert len(Registry(command.models).versions()) == 1


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


def test_an_equal_challenger_is_held(night: Night, again: Plan) -> None:
    """The champion's very twin, measured for real, is no improvement: nothing changes.

    What was fitted already is not fitted again.
    """
    said: list[str] = []
    outcome = retrain(again, now=NOW, say=said.append)
    assert not [line for line in said if line.startswith("epoch ")]
    assert outcome.version == night.outcome.version
    assert outcome.ruling is Ruling.HELD
    assert outcome.evaluation is not None
    assert outcome.evaluation.comparison is not None
    assert outcome.evaluation.comparison.differences.auc.value == 0
    assert Registry(again.models).champion() == CHAMPION
    load(outcome.package)  # it is kept, and could be promoted by a person


@pytest.mark.slow
def test_a_night_of_other_code_fits_anew(
    night: Night, again: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an upgrade changed in training is not answered by the fit of the code before.

    Nor does a night sweep away what one of another folder left in the cache that both share.
    """
    for place in ("night.build", "retrain"):
        monkeypatch.setattr(f"training.{place}.code_digest", lambda: "other")
    said: list[str] = []
    retrain(again, now=NOW, say=said.append, evaluator=pretending())
    assert [line for line in said if "weights from nothing: as asked" in line]
    assert [line for line in said if line.startswith("epoch 1/1")]
    for plan in (night.plan, again):
        assert len(list(plan.scratch.glob("fit-*/epoch.json"))) == 1


def test_a_full_models_folder_ends_a_night_with_a_sentence(
    again: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the package is written: what is wrong in the first line, the path below it."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("training.package.build.np.savez_compressed", full)
    with pytest.raises(DataError) as ended:
        retrain(again, now=NOW, say=lambda _: None)
    matter, place = str(ended.value).split("\n")
    assert matter == "the model's package cannot be written (No space left on device):"
    assert place.startswith(f"  {again.models}")
    assert Registry(again.models).versions() == [CHAMPION]


def test_pictures_of_films_are_not_in_the_package(night: Night) -> None:
    """Figures of numbers are; what shows films lies beside the cache, under the version's name."""
    names = {path.name for path in night.outcome.package.iterdir()}
    figures = {"training.png", "roc.png", "calibration.png", "scores.png", "confusion.png"}
    assert {name for name in names if name.endswith(".png")} == figures
    shown = night.plan.cache.parent / "report" / night.outcome.version
    assert {path.suffix for path in shown.iterdir()} == {".png", ".txt"}
    card = (night.outcome.package / "card.md").read_text("utf-8")
    assert all(f"({name})" in card for name in figures)
    assert "They are not in this package" in card
    record = (night.outcome.package / "evaluation.json").read_text("utf-8")
    assert ".jpeg" not in record + card, "a film's name could tell whose it is"


def test_both_packages_are_scored_as_the_worker_scores(shipped: Path, night: Night) -> None:
    """From another process, film by film, whatever input size each model has."""
    films = sorted(night.plan.data[0].glob("test/*/*.jpeg"))
    packages = [shipped, night.outcome.package]
    for package, scored in zip(packages, score(packages, films), strict=True):
        model = load(package)
        for path, logit in zip(films, scored.scores, strict=True):
            film = read_for(model.manifest, path.read_bytes())
            assert logit == model.predict(film.pixels).logit
