"""How nights end: promoted, proposed, held, unchanged, failed; each on record with its reasons.

The night is a real one on drawn films. Where a test needs a challenger that is better or worse than
the champion, it puts logits in place of what the scoring process says; that process has its own
tests below.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scans as rows
from films import draw, jpeg, truncated
from nights import ANY, NOW, draw_folder
from packages import change_manifest, copy_package, replace_file, with_limits

from training.data.dataset import LabelledScan, Side
from training.evaluate.head_to_head import digest_of, judge
from training.evaluate.scoring import Scored, score
from training.night.options import Plan
from training.night.state import NightOutcome, alone
from training.retrain import main, retrain
from worker.db.engine import Database
from worker.db.training_runs import Ruling, TrainingRuns
from worker.errors import DataError, ModelPackageError, ScreenerTrouble
from worker.imaging.preprocessing import FilmLimits, read_film
from worker.model.evaluation import Estimate
from worker.model.manifest import SERVED, Manifest, verify_files
from worker.model.registry import Registry
from worker.model.runtime import load
from worker.screening.rescreen import Means
from worker.types import Changes

CHAMPION = "drawn-0"


@dataclass(frozen=True, kw_only=True)
class First:
    """A night from nothing, whose cache lets the next ones skip the fitting."""

    plan: Plan
    outcome: NightOutcome


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    """Run a first night."""
    root = tmp_path_factory.mktemp("first")
    data = draw_folder(root / "drawn", train=24, test=12)
    plan = Plan(
        data=(data,),
        models=root / "models",
        cache=root / "cache",
        start="scratch",
        epochs=1,
        side_pixels=32,
        salt="lungwatch",
        rules=ANY,
    )
    return First(plan=plan, outcome=retrain(plan, now=NOW, say=lambda _: None))


@pytest.fixture
def plan(first: First, tmp_path: Path) -> Plan:
    """Return the same night's plan, for a folder where a copy of its model is the champion."""
    models = tmp_path / "models"
    models.mkdir()
    copy_package(first.outcome.package, models, version=CHAMPION)
    Registry(models).promote(CHAMPION, who="a test", why="to be beaten")
    plan = replace(first.plan, models=models, database_url=f"sqlite:///{tmp_path / 'l.db'}")
    shutil.copytree(first.plan.scratch, plan.scratch)
    return plan


@pytest.fixture
def runs(plan: Plan, open_database: Callable[[str], Database]) -> TrainingRuns:
    """Return the training runs of that plan's database."""
    return TrainingRuns(open_database(plan.database_url or ""))


def say_nothing(_: str) -> None:
    """Take a line and drop it."""


def pretend(
    monkeypatch: pytest.MonkeyPatch, *, challenger: int = 0, champion: int = 0, broken: str = ""
) -> None:
    """Let each model be sure and right, but for so many films of each class."""

    def told(packages: Sequence[Path], films: Sequence[Path], **_: object) -> list[Scored]:
        truth = np.array([film.parent.name == "PNEUMONIA" for film in films])
        found = []
        for package, wrong in zip(packages, (challenger, champion), strict=False):
            logits = np.where(truth, 3.0, -3.0) + np.linspace(0, 0.1, len(truth))
            for side in (truth, ~truth):
                logits[np.flatnonzero(side)[:wrong]] *= -1
            ill = broken and package.name == CHAMPION
            found.append(Scored(error=broken) if ill else Scored(scores=logits.tolist()))
        return found

    monkeypatch.setattr("training.evaluate.head_to_head.score", told)


def test_a_better_challenger_is_promoted_and_on_record(
    plan: Plan, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves changes; the row says what was trained on what, what was measured, and why."""
    pretend(monkeypatch, champion=3)
    outcome = retrain(plan, now=NOW, say=say_nothing)
    registry = Registry(plan.models)
    assert outcome.ruling is Ruling.PROMOTED
    assert registry.champion() == outcome.version
    change = registry.history()[-1]
    assert (change.from_version, change.who) == (CHAMPION, "the night")
    assert change.why.startswith("AUC +")

    (night,) = runs.nights()
    assert night["verdict"] == "promoted"
    assert (night["champion"], night["challenger"]) == (CHAMPION, outcome.version)
    assert night["reasons"] == list(outcome.reasons)
    details = night["details"]
    manifest = registry.manifest(outcome.version)
    for name in ("data_digest", "counts", "salt", "seed", "code", "libraries", "training"):
        assert details[name], name
    assert details["data_digest"] == manifest.training["data_digest"]
    assert details["training"]["recipe"] == manifest.training["recipe"]
    theirs = details["evaluation"]["comparison"]["champion_numbers"]
    assert details["evaluation"]["auc"] == 1.0 > theirs["auc"]
    assert theirs["intervals"]["auc"][0] < theirs["auc"]
    assert details["looks"] == {"this_set": 1, "any_set": 1}


def test_a_version_can_be_explained_after_its_night(
    plan: Plan, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held or not, the version is known: manifest, night, numbers; and whom it was held against."""
    pretend(monkeypatch, challenger=1)
    outcome = retrain(plan, now=NOW, say=say_nothing)
    told = runs.explain(outcome.version)
    assert told["model"]["manifest"]["training"]["data_digest"]
    assert told["made_by"][0]["verdict"] == "held"
    assert runs.explain(CHAMPION)["defended_in"] == told["made_by"]


def test_an_equal_challenger_is_held(plan: Plan) -> None:
    """The champion's very twin, measured for real, is no improvement: nothing changes."""
    outcome = retrain(plan, now=NOW, say=say_nothing)
    assert outcome.ruling is Ruling.HELD
    assert outcome.evaluation is not None
    assert outcome.evaluation.comparison is not None
    assert outcome.evaluation.comparison.differences.auc.value == 0
    assert Registry(plan.models).champion() == CHAMPION
    load(outcome.package)  # it is kept, and could be promoted by a person


def test_under_propose_a_better_challenger_waits_for_a_person(
    plan: Plan, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing changes but the record; the next night finds nothing new until it is promoted."""
    pretend(monkeypatch, champion=3)
    plan = replace(plan, propose=True)
    registry = Registry(plan.models)
    outcome = retrain(plan, now=NOW, say=say_nothing)
    assert outcome.ruling is Ruling.PROPOSED
    assert registry.champion() == CHAMPION
    assert retrain(plan, now=NOW, say=say_nothing).ruling is Ruling.UNCHANGED
    registry.promote(outcome.version, who="a person", why="looks good")
    assert [night["verdict"] for night in runs.nights()] == ["unchanged", "proposed"]


@pytest.mark.parametrize("days", [0, 1])
def test_a_version_left_behind_is_not_promoted_again(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """Rolled back from, made again and better by its numbers: held, and the reason is told.

    Made on another day it has another name, and is the same model.
    """
    pretend(monkeypatch, champion=3)
    outcome = retrain(plan, now=NOW, say=say_nothing)
    registry = Registry(plan.models)
    later = NOW + timedelta(hours=8)
    registry.rollback(who="a person", why="missed an effusion", now=later)
    assert registry.champion() == CHAMPION
    again = retrain(plan, now=NOW + timedelta(days=days), say=say_nothing)
    assert (again.version == outcome.version) is (days == 0)
    assert again.ruling is Ruling.HELD
    name = f"as {outcome.version} it" if days else "it"
    assert f"HELD: {name} was left behind by a rollback: missed an effusion" in again.reasons
    assert registry.champion() == CHAMPION


def test_what_was_held_by_a_rule_is_judged_again_by_another(
    plan: Plan, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who changes the setting that a night was held for need not wait for a label."""
    pretend(monkeypatch, champion=3)
    many = replace(plan.rules, floors=replace(plan.rules.floors, films_of_each_class=10**6))
    strict = replace(plan, rules=many)
    assert retrain(strict, now=NOW, say=say_nothing).ruling is Ruling.HELD
    assert retrain(strict, now=NOW, say=say_nothing).ruling is Ruling.UNCHANGED
    again = retrain(plan, now=NOW + timedelta(days=1), say=say_nothing)
    assert again.ruling is Ruling.PROMOTED
    assert [night["verdict"] for night in runs.nights()] == ["promoted", "unchanged", "held"]


def test_what_was_held_for_drift_is_judged_again_when_it_is_over(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it lasts nothing is made again; then the challenger gets its turn."""
    pretend(monkeypatch, champion=3)
    alarm = "the films that arrive have changed"
    monkeypatch.setattr("training.retrain.drifted", lambda *_: alarm)
    held = retrain(plan, now=NOW, say=say_nothing)
    assert held.ruling is Ruling.HELD
    assert f"HELD: {alarm}" in held.reasons
    monkeypatch.setattr("training.retrain.drifted", lambda *_: f"{alarm} (by more)")
    assert retrain(plan, now=NOW, say=say_nothing).ruling is Ruling.UNCHANGED
    monkeypatch.setattr("training.retrain.drifted", lambda *_: "")
    assert retrain(plan, now=NOW, say=say_nothing).ruling is Ruling.PROMOTED


def test_where_nothing_is_new_the_table_of_films_is_not_read(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be long, and whoever reads it on SQLite keeps the worker from writing."""
    pretend(monkeypatch, champion=3)
    retrain(plan, now=NOW, say=say_nothing)

    def read(*_: object) -> str:
        raise AssertionError("it was")

    monkeypatch.setattr("training.retrain.drifted", read)
    assert retrain(plan, now=NOW, say=say_nothing).ruling is Ruling.UNCHANGED


def test_a_night_of_other_code_fits_anew(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an upgrade changed in training is not answered by the fit of the code before."""
    said: list[str] = []
    retrain(plan, now=NOW, say=said.append)
    assert not [line for line in said if line.startswith("epoch ")]
    for place in ("night.build", "retrain"):
        monkeypatch.setattr(f"training.{place}.code_digest", lambda: "other")
    retrain(plan, now=NOW, say=said.append)
    assert [line for line in said if line.startswith("epoch 1/1")]


def test_nights_of_two_folders_share_a_cache(first: First, plan: Plan) -> None:
    """Neither sweeps away what the other needs to go on."""
    other = replace(plan, models=plan.models.parent / "other", database_url=None)
    retrain(other, now=NOW, say=say_nothing)
    for one in (first.plan, plan, other):
        assert list(one.scratch.glob("fit-*/epoch.json"))


def test_a_champion_that_cannot_be_measured_is_not_replaced(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged, or of another preprocessing: a person is told, and decides."""
    pretend(monkeypatch, broken="its weights are damaged")
    outcome = retrain(plan, now=NOW, say=say_nothing)
    assert outcome.ruling is Ruling.HELD
    assert outcome.reasons[-1].endswith("its weights are damaged")
    assert outcome.evaluation is not None
    assert outcome.evaluation.comparison is None


@pytest.fixture
def archived(plan: Plan, tmp_path: Path, open_database: Callable[[str], Database]) -> Plan:
    """Return the plan for a place where six films were screened and archived."""
    database = open_database(plan.database_url or "")
    database.migrate()
    store = rows.worker(database)
    store.register_model(rows.manifest())
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(6):
        film = jpeg(draw(number))
        (folder / f"{number}.jpg").write_bytes(film)
        sighting = rows.sighting(f"{number}.jpg", inode=number)
        (claim,) = store.claim([sighting], lease_seconds=60).claims
        digest = hashlib.sha256(film).hexdigest()
        store.apply(Changes(outcomes=[rows.verdict(claim, sha256=digest)]))
        store.apply(Changes(filed=[(claim.scan_id, f"{number}.jpg")]))
    means = Means(
        archive=folder,
        inbox=tmp_path / "inbox",
        limits=FilmLimits(),
        count=1,
        screen_seconds=20,
        memory_mb=768,
        predict_seconds=5,
    )
    return replace(plan, preview=means, preview_scans=5)


def test_before_a_promotion_it_is_told_which_decisions_would_change(
    archived: Plan, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the last films of the place itself; on record, on the card, and said."""
    pretend(monkeypatch, champion=3)
    change_manifest(archived.models / CHAMPION, threshold=0.0, review_band=[0.0, 0.0])
    said: list[str] = []
    outcome = retrain(archived, now=NOW, say=said.append)
    assert outcome.ruling is Ruling.PROMOTED
    preview = runs.nights()[0]["details"]["evaluation"]["archive"]
    assert preview["screened"] == 5
    champion, challenger = load(archived.models / CHAMPION), load(outcome.package)
    expected = {}
    for number in range(1, 6):
        pixels = read_film(jpeg(draw(number)), height=32, width=32).pixels
        before, after = champion.screen(pixels).decision, challenger.screen(pixels).decision
        if before != after:
            expected[number + 1] = after
    assert expected
    turned = {one["scan_id"]: one["challenger"][0] for one in preview["turned"]}
    assert turned == expected
    assert sum(preview["turns"].values()) == len(expected)
    (line,) = [line for line in said if "archived films" in line]
    assert line.startswith(f"of the last 5 archived films {len(expected)} would get another")
    assert "Of the last 5 films archived" in (outcome.package / "card.md").read_text("utf-8")


def test_a_film_that_only_one_of_them_refuses_is_told_as_turned(
    archived: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No film passes the champion's limits of the familiar; those of the challenger some do."""
    pretend(monkeypatch, champion=3)
    registry = Registry(archived.models)
    films = np.stack([draw(number, width=32, height=32) for number in range(24)])
    nothing = {"review": 1e-9, "refuse": 1e-9}
    source = registry.folder(CHAMPION)
    with_limits(source, archived.models, films, version="picky-0", familiar=nothing)
    registry.promote("picky-0", who="a test", why="to be beaten")
    said: list[str] = []
    evaluation = retrain(archived, now=NOW, say=said.append).evaluation
    assert evaluation is not None
    assert evaluation.archive is not None
    taken = [one for one in evaluation.archive.turned if one.challenger[0] != "refused"]
    assert taken
    assert all(one.champion == ("refused", None) for one in taken)
    (line,) = [line for line in said if "archived films" in line]
    assert " from refused to " in line


def test_a_challenger_that_screeners_do_not_take_is_held(
    archived: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better by its numbers, and too slow to serve: what would be refused is not promoted."""
    pretend(monkeypatch, champion=3)
    assert archived.preview is not None
    slow = replace(archived.preview, predict_seconds=1e-9)
    outcome = retrain(replace(archived, preview=slow), now=NOW, say=say_nothing)
    assert outcome.ruling is Ruling.HELD
    assert outcome.reasons[-1].startswith("HELD: screeners do not take it: ")
    # A person who allows more need not wait for a label.
    assert retrain(archived, now=NOW, say=say_nothing).ruling is Ruling.PROMOTED


def test_screeners_killed_as_they_come_up_say_nothing_of_a_challenger(
    archived: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where memory is short: the night fails, and the next judges it."""
    pretend(monkeypatch, champion=3)
    with monkeypatch.context() as short:
        short.setattr("worker.screening.pool.sys", SimpleNamespace(executable="/bin/false"))
        with pytest.raises(ScreenerTrouble):
            retrain(archived, now=NOW, say=say_nothing)
    assert retrain(archived, now=NOW, say=say_nothing).ruling is Ruling.PROMOTED


def test_a_champion_that_was_damaged_for_a_night(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be compared with it is, when it is whole again."""
    pretend(monkeypatch, broken="damaged")
    assert retrain(plan, now=NOW, say=say_nothing).ruling is Ruling.HELD
    pretend(monkeypatch, champion=3)
    assert retrain(plan, now=NOW, say=say_nothing).ruling is Ruling.PROMOTED


@pytest.mark.parametrize("hashing", [False, True])
def test_a_champion_changed_meanwhile_is_not_replaced(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, *, hashing: bool
) -> None:
    """Better than what served at midnight says nothing of what a person chose since.

    Also when that is after the night's last look at what serves, while it hashes its model.
    """
    registry = Registry(plan.models)
    copy_package(registry.folder(CHAMPION), plan.models, version="by-hand")
    registry.promote("by-hand", who="a person", why="")
    registry.promote(CHAMPION, who="a person", why="")
    pretend(monkeypatch, champion=3)

    def roll_back() -> None:
        registry.rollback(who="a person", why="misses effusions")

    def while_hashing(folder: Path, manifest: Manifest) -> None:
        monkeypatch.setattr("worker.model.registry.verify_files", verify_files)
        roll_back()
        verify_files(folder, manifest)

    def meddle(line: str) -> None:
        if line.startswith("pictures of films"):  # the last that is said
            if hashing:
                monkeypatch.setattr("worker.model.registry.verify_files", while_hashing)
            else:
                roll_back()

    outcome = retrain(plan, now=NOW, say=meddle)
    assert outcome.ruling is Ruling.HELD
    assert outcome.reasons[-1] == (
        "HELD: what serves was changed by hand meanwhile: by-hand serves now"
    )
    assert registry.champion() == "by-hand"


def test_a_night_killed_before_its_verdict_is_made_good(
    plan: Plan, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package lies there, nobody promoted it: the next night judges it as it lies."""
    pretend(monkeypatch, champion=3)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "promote", killed)
        with pytest.raises(KeyboardInterrupt):
            retrain(plan, now=NOW, say=say_nothing)
    registry = Registry(plan.models)
    assert len(registry.versions()) == 2
    outcome = retrain(plan, now=NOW, say=say_nothing)
    assert outcome.ruling is Ruling.PROMOTED
    assert registry.champion() == outcome.version
    assert [night["verdict"] for night in runs.nights()] == ["promoted", "interrupted"]
    assert runs.nights()[0]["details"]["looks"]["this_set"] == 2


def test_nothing_new_is_on_record_too(plan: Plan, runs: TrainingRuns) -> None:
    """With its reason, no challenger, and no look at the test films."""
    retrain(plan, now=NOW, say=say_nothing)
    outcome = retrain(plan, now=NOW, say=say_nothing)
    night = runs.nights()[0]
    assert outcome.ruling is Ruling.UNCHANGED
    assert night["verdict"] == "unchanged"
    assert night["challenger"] is None
    assert "nothing new" in night["reasons"][0]
    assert "looks" not in night["details"]


def test_a_night_that_fails_is_on_record_with_the_whole_reason(
    plan: Plan, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion stays, nothing half-made is left, and the row says what went wrong."""

    def fail(*_: object, **__: object) -> None:
        raise ModelPackageError("it does not load")

    monkeypatch.setattr("training.evaluate.head_to_head.score", fail)
    with pytest.raises(ModelPackageError):
        retrain(plan, now=NOW, say=say_nothing)
    night = runs.nights()[0]
    assert night["verdict"] == "failed"
    assert night["reasons"] == ["ModelPackageError: it does not load"]
    assert Registry(plan.models).versions() == [CHAMPION]
    assert not list(plan.models.glob(".staging-*"))


def full(*_: object, **__: object) -> None:
    """Be a disk on which there is no room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("training.data.splits.write_atomically", "the salt that splits patients cannot be kept"),
        ("training.package.build.np.savez_compressed", "the model's package cannot be written"),
        ("worker.model.registry.fsync_folder", "the model's package cannot be written"),
    ],
)
def test_a_full_models_folder_ends_a_night_with_a_sentence(
    plan: Plan, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch, where: str, what: str
) -> None:
    """What is wrong in its first line, for any log, and the path below it; the champion stays."""
    monkeypatch.setattr(where, full)
    with pytest.raises(DataError) as ended:
        retrain(plan, now=NOW, say=say_nothing)
    matter, place = str(ended.value).split("\n")
    assert matter == f"{what} (No space left on device):"
    assert place.startswith(f"  {plan.models}")
    (night,) = runs.nights()
    assert night["verdict"] == "failed"
    assert matter in night["reasons"][0]
    assert Registry(plan.models).champion() == CHAMPION
    assert Registry(plan.models).versions() == [CHAMPION]


def test_a_full_models_folder_is_told_of_before_anything_is_fitted(
    first: First, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first night copies the shipped model in, to be beaten."""
    plan = replace(first.plan, models=tmp_path / "models", seed_models=shipped.parent)
    monkeypatch.setattr(shutil, "copyfile", full)
    said: list[str] = []
    with pytest.raises(DataError, match=r"copied in \(No space left on device\)"):
        retrain(plan, now=NOW, say=said.append)
    assert said == []


def test_a_disk_that_is_full_after_a_promotion_undoes_nothing(
    plan: Plan, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves was promoted and is on record; the next night just does not know of this one."""
    pretend(monkeypatch, champion=3)
    monkeypatch.setattr("training.night.state.write_atomically", full)
    said: list[str] = []
    outcome = retrain(plan, now=NOW, say=said.append)
    assert outcome.ruling is Ruling.PROMOTED
    assert Registry(plan.models).champion() == outcome.version
    assert runs.nights()[0]["verdict"] == "promoted"
    assert said[-1] == (
        "the next night will not know of this one: it cannot be written (No space left on device)"
    )


def test_a_second_night_says_so_and_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0, as it is no failure; and it does nothing, not even read the films."""
    with alone(tmp_path / "models"):
        arguments = ("--data", str(tmp_path / "none"), "--models", str(tmp_path / "models"))
        code = main([*arguments, "--no-database", "--cache", str(tmp_path / "cache")])
    assert code == 0
    assert "left: another night is under way" in capsys.readouterr().out


def test_pictures_of_films_are_not_in_the_package(first: First) -> None:
    """Figures of numbers are; what shows films lies beside the cache, under the version's name."""
    names = {path.name for path in first.outcome.package.iterdir()}
    figures = {"training.png", "roc.png", "calibration.png", "scores.png", "confusion.png"}
    assert {name for name in names if name.endswith(".png")} == figures
    shown = first.plan.cache.parent / "report" / first.outcome.version
    assert {path.suffix for path in shown.iterdir()} == {".png", ".txt"}
    card = (first.outcome.package / "card.md").read_text("utf-8")
    assert all(f"({name})" in card for name in figures)
    assert "They are not in this package" in card
    record = (first.outcome.package / "evaluation.json").read_text("utf-8")
    assert ".jpeg" not in record + card, "a film's name could tell whose it is"


@pytest.fixture
def scans(tmp_path: Path) -> list[LabelledScan]:
    """Return drawn test films of both classes, two of each patient."""
    found = []
    for number in range(12):
        data = jpeg(draw(number, opacity=number % 2))
        path = tmp_path / f"{number}.jpeg"
        path.write_bytes(data)
        found.append(
            LabelledScan(
                path=path,
                name=path.name,
                label=("NORMAL", "PNEUMONIA")[number % 2],
                sha256=hashlib.sha256(data).hexdigest(),
                patient=f"p{number // 2}",
                side=Side.TEST,
            )
        )
    return found


def test_both_packages_are_scored_as_the_worker_scores(
    shipped: Path, first: First, scans: list[LabelledScan]
) -> None:
    """From another process, film by film, whatever input size each model has."""
    packages = [shipped, first.outcome.package]
    for package, scored in zip(packages, score(packages, [s.path for s in scans]), strict=True):
        model = load(package)
        height, width = model.manifest.height, model.manifest.width
        for scan, got in zip(scans, scored.scores, strict=True):
            film = read_film(scan.path.read_bytes(), height=height, width=width)
            assert got == model.predict(film.pixels).logit


def test_each_model_is_read_at_its_own_operating_point(
    shipped: Path, tmp_path: Path, scans: list[LabelledScan]
) -> None:
    """One network under two thresholds: the same AUC, other decisions, and the films lost named."""
    for version, threshold in (("lax", 0.0), ("strict", 1.0)):
        copy_package(
            shipped, tmp_path, version=version, threshold=threshold, review_band=[0.0, 1.0]
        )
    found = judge(tmp_path / "strict", tmp_path / "lax", scans)
    comparison = found.comparison
    assert comparison is not None
    assert comparison.champion == "lax"
    assert comparison.differences.auc == Estimate(value=0.0, low=0.0, high=0.0)
    assert comparison.differences.sensitivity.value == -1.0
    assert comparison.differences.specificity.value == 1.0
    assert comparison.patients == 6
    ill = [scan.sha256 for scan in scans if scan.label == "PNEUMONIA"]
    assert [film.sha256 for film in comparison.lost_films] == ill
    assert [scans[row].sha256 for row in found.lost] == ill
    assert found.numbers.sensitivity == 0.0
    json.dumps(comparison.model_dump(), allow_nan=False)


def test_a_damaged_champion_leaves_the_challengers_numbers(
    shipped: Path, tmp_path: Path, scans: list[LabelledScan]
) -> None:
    """They are measured all the same; that there is no comparison is told with its reason."""
    champion = copy_package(shipped, tmp_path, version="damaged")
    replace_file(champion, SERVED, b"no network")
    found = judge(shipped, champion, scans)
    assert found.comparison is None
    assert "cannot be loaded" in found.trouble
    assert found.numbers.films == {"NORMAL": 6, "PNEUMONIA": 6}


def test_a_damaged_challenger_stops(
    shipped: Path, tmp_path: Path, scans: list[LabelledScan]
) -> None:
    """What could not serve is not measured."""
    challenger = copy_package(shipped, tmp_path, version="damaged")
    (challenger / SERVED).write_bytes(b"changed")
    with pytest.raises(ModelPackageError, match="not the file the manifest names"):
        judge(challenger, shipped, scans)


def test_a_refused_test_film_stops_and_is_named_by_its_hash(
    shipped: Path, scans: list[LabelledScan]
) -> None:
    """It was readable for the cache: something is amiss. Its name could tell whose it is."""
    scans[3].path.write_bytes(truncated(jpeg(draw(3)), 50))
    digest = hashlib.sha256(scans[3].path.read_bytes()).hexdigest()
    scans[3] = replace(scans[3], sha256=digest)
    with pytest.raises(ModelPackageError, match=f"1 test films were refused, {digest[:12]} first"):
        judge(shipped, None, scans)


def test_a_test_film_that_was_replaced_stops(shipped: Path, scans: list[LabelledScan]) -> None:
    """Its label is another film's: no number is made of the two."""
    scans[3].path.write_bytes(scans[4].path.read_bytes())
    with pytest.raises(ModelPackageError, match="a film was replaced since it was found"):
        judge(shipped, None, scans)


def test_test_films_have_one_name_in_any_order(scans: list[LabelledScan]) -> None:
    """A look at the same films is counted as such; another label is another set."""
    assert digest_of(scans) == digest_of(scans[::-1])
    assert digest_of(scans) != digest_of(scans[1:])
    assert digest_of([replace(scans[0], label="PNEUMONIA"), *scans[1:]]) != digest_of(scans)
