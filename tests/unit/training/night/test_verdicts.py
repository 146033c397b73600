"""How nights end: promoted, proposed, held, unchanged, failed; each on record with its reasons.

A package is copied in place of fitting one, and scores are made up: see `fake_nights`. All else is
real, the databases and the screeners too. Whole nights are in tests/keras.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scans as rows
from databases import query
from fake_nights import CHAMPION, copying, pretending
from films import draw, jpeg
from nights import ANY, NOW, draw_folder
from once import once
from packages import change_manifest, copy_package, with_limits
from pixels import read_for

from training.console import Say
from training.data.native_sizes import Size
from training.evaluate.reframed import Kind
from training.evaluate.scoring import Evaluator, Scored, ScoredByKind
from training.night.build import Maker
from training.night.options import Plan
from training.night.state import NightOutcome, alone
from training.retrain import main, retrain
from worker.db.engine import Database
from worker.db.training_runs import Ruling, TrainingRuns
from worker.errors import DatabaseTrouble, DataError, ModelPackageError, ScreenerTrouble
from worker.imaging.preprocessing import FilmLimits
from worker.model.decision import Score
from worker.model.evaluation import read_evaluation
from worker.model.manifest import Manifest, verify_files
from worker.model.registry import Registry
from worker.model.runtime import load
from worker.reports.models import write_model
from worker.screening.rescreen import Means
from worker.settings import ScreenerOptions
from worker.system.folders import Folders
from worker.types import Changes


def say_nothing(_: str) -> None:
    """Take a line and drop it."""


@dataclass(kw_only=True)
class Nights:
    """Quick nights, whose challenger is better than the champion unless the test says otherwise."""

    maker: Maker
    evaluator: Evaluator

    def __call__(self, plan: Plan, *, now: datetime = NOW, say: Say = say_nothing) -> NightOutcome:
        """Let one go by."""
        return retrain(plan, now=now, say=say, maker=self.maker, evaluator=self.evaluator)


@pytest.fixture
def quick_night(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    """Return what runs a quick night. It draws no pictures: the card's tests do."""
    monkeypatch.setattr("training.night.review.draw_figures", lambda *_, **__: {})
    monkeypatch.setattr("training.night.review.write_sheets", lambda folder, **_: folder)
    return Nights(maker=copying(shipped), evaluator=pretending(champion=3))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of drawn films."""
    return once(tmp_path_factory, "drawn", lambda root: draw_folder(root, train=24, test=12))


@pytest.fixture
def plan(drawn: Path, shipped: Path, tmp_path: Path) -> Plan:
    """Return the plan of a night in a folder where a copy of the shipped model is the champion."""
    models = tmp_path / "models"
    models.mkdir()
    copy_package(shipped, models, version=CHAMPION)
    Registry(models).promote(CHAMPION, who="a test", why="to be beaten")
    return Plan(
        data=(drawn,),
        models=models,
        cache=drawn.parent / "drawn-cache",
        report=tmp_path / "report",
        side_pixels=32,
        salt="lungwatch",
        rules=ANY,
        database_url=f"sqlite:///{tmp_path / 'l.db'}",
    )


@pytest.fixture
def runs(plan: Plan, open_database: Callable[[str], Database]) -> TrainingRuns:
    """Return the training runs of that plan's database."""
    return TrainingRuns(open_database(plan.database_url or ""))


def test_a_better_challenger_is_promoted_and_on_record(
    plan: Plan, runs: TrainingRuns, quick_night: Nights
) -> None:
    """What serves changes; the row says what was trained on what, what was measured, and why."""
    outcome = quick_night(plan)
    registry = Registry(plan.models)
    assert outcome.ruling is Ruling.PROMOTED
    assert registry.champion() == outcome.version
    change = registry.history()[-1]
    assert (change.from_version, change.who) == (CHAMPION, "the night")
    assert change.why.startswith("robust AUC +")

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


def test_an_evaluation_has_robust_auc_of_both_models(plan: Plan, quick_night: Nights) -> None:
    """With AUC swapped and zoomed, each change in full, and their differences with intervals."""
    evaluation = read_evaluation(quick_night(plan).package)
    assert evaluation is not None
    assert evaluation.comparison is not None
    assert evaluation.comparison.champion_shifts is not None
    theirs = evaluation.comparison.champion_numbers
    for numbers, shifts in (
        (evaluation, evaluation.shifts),
        (theirs, evaluation.comparison.champion_shifts),
    ):
        assert shifts is not None
        assert shifts.toned is not None
        assert shifts.swapped is not None
        assert shifts.swapped.films == {"NORMAL": 12, "PNEUMONIA": 12}
        assert numbers.swapped_auc == pytest.approx(shifts.swapped.auc)
        zoomed = [one.auc or 0 for one in shifts.zoomed.values()]
        assert len(zoomed) == 2
        assert numbers.zoomed_auc == pytest.approx(min(zoomed))
        parts = [numbers.auc or 0, numbers.swapped_auc or 0, numbers.zoomed_auc or 0]
        assert numbers.robust_auc == pytest.approx(sum(parts) / 3)
        assert numbers.intervals["robust_auc"] is not None
    gained = evaluation.comparison.differences.robust_auc
    assert gained.value == pytest.approx((evaluation.robust_auc or 0) - (theirs.robust_auc or 0))
    assert gained.low is not None


def test_framing_is_swapped_by_native_sizes(plan: Plan, quick_night: Nights) -> None:
    """Of copies of one size nothing is known; a table of native sizes gives each class a crop."""
    outcome = quick_night(plan)
    assert outcome.ruling is Ruling.PROMOTED, "what is left out for such a reason is not missing"
    assert outcome.evaluation is not None
    assert outcome.evaluation.shifts is not None
    assert outcome.evaluation.shifts.framing_left_out == "the films' sizes are not known"
    assert outcome.evaluation.shifts.conflict is None
    sizes = {
        path.name: Size(120 if path.parent.name == "NORMAL" else 150, 100)
        for path in plan.data[0].rglob("*.jpeg")
    }
    evaluation = quick_night(replace(plan, native_sizes=sizes)).evaluation
    assert evaluation is not None
    assert evaluation.shifts is not None
    assert evaluation.shifts.crops == {"NORMAL": (0.8, 1.0), "PNEUMONIA": (1.0, 0.8)}
    assert not evaluation.shifts.framing_left_out
    assert evaluation.shifts.conflict is not None


def test_a_challenger_that_is_worse_on_swapped_films_is_held(
    plan: Plan, quick_night: Nights
) -> None:
    """Better on the films as they are by what marks a class, and not by disease."""
    quick_night.evaluator = pretending(champion=1, swapped=3)
    outcome = quick_night(plan)
    assert outcome.ruling is Ruling.HELD
    held = [reason for reason in outcome.reasons if reason.startswith("HELD")]
    assert [reason[:14] for reason in held] == ["HELD: robust A", "HELD: AUC on s"]


def test_a_challenger_that_gives_no_number_for_a_swapped_film_is_held(
    plan: Plan, quick_night: Nights
) -> None:
    """The number is missing then, and is not taken from the films that are left."""
    reframed = quick_night.evaluator.score_reframed

    def broken(*asked: Any) -> list[ScoredByKind]:
        found = reframed(*asked)
        found[0].scores[Kind.SWAPPED][0] = Score(logit=float("nan"), strangeness=0.5)
        return found

    quick_night.evaluator = replace(quick_night.evaluator, score_reframed=broken)
    outcome = quick_night(plan)
    assert outcome.ruling is Ruling.HELD
    assert outcome.evaluation is not None
    assert outcome.evaluation.robust_auc is None
    assert outcome.reasons[6] == "HELD: robust AUC nan, must be measured"


def test_a_night_tells_of_shortcuts(
    plan: Plan, quick_night: Nights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One class is wider: the night, its numbers, the card and `models show` say so."""
    folder = draw_folder(tmp_path / "films", train=60, test=12)
    sizes = {
        film.name: Size(1500 if film.parent.name == "PNEUMONIA" else 1200, 1000)
        for film in folder.rglob("*.jpeg")
    }
    said: list[str] = []
    plan = replace(plan, data=(folder,), cache=tmp_path / "cache", native_sizes=sizes)
    outcome = quick_night(plan, say=said.append)
    warning = (
        "The class of the training films can be told without the lungs (AUC 1.00): expect less of "
        "this model elsewhere."
    )
    assert warning in said
    evaluation = read_evaluation(outcome.package)
    assert evaluation is not None
    assert evaluation.shortcuts is not None
    assert evaluation.shortcuts.in_words() == warning
    assert evaluation.shortcuts.films == {"NORMAL": 60, "PNEUMONIA": 60}  # no test films
    assert evaluation.shortcuts.traces["size"].auc == pytest.approx(1.0)
    card = (outcome.package / "card.md").read_text(encoding="utf-8")
    assert f"**{warning}**" in card
    assert "| native width, height and aspect ratio | 60 | 60 | 1.0000 |" in card
    write_model(Registry(plan.models), outcome.version)
    shown = capsys.readouterr().out
    assert warning in shown
    assert "not measured: all files were written" in shown


def test_a_fault_in_the_audit_does_not_undo_a_night(
    plan: Plan, quick_night: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is judged as ever, and its card says that nothing was measured, and why."""

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room\nfor jane-doe.jpeg")

    monkeypatch.setattr("training.night.review.audit", fail)
    outcome = quick_night(plan)
    assert outcome.ruling is Ruling.PROMOTED
    assert outcome.evaluation is not None
    assert outcome.evaluation.shortcuts is not None
    assert outcome.evaluation.shortcuts.auc is None
    told = "was not measured: the audit failed (MemoryError: no room)."
    assert told in (outcome.package / "card.md").read_text(encoding="utf-8")


def test_a_version_can_be_explained_after_its_night(
    plan: Plan, runs: TrainingRuns, quick_night: Nights
) -> None:
    """Held or not, the version is known: manifest, night, numbers; and whom it was held against."""
    quick_night.evaluator = pretending(challenger=1)
    outcome = quick_night(plan)
    told = runs.explain(outcome.version)
    assert told["model"]["manifest"]["training"]["data_digest"]
    assert told["made_by"][0]["verdict"] == "held"
    assert runs.explain(CHAMPION)["defended_in"] == told["made_by"]


def test_under_propose_a_better_challenger_waits_for_a_person(
    plan: Plan, runs: TrainingRuns, quick_night: Nights
) -> None:
    """Nothing changes but the record; the next night finds nothing new until it is promoted."""
    plan = replace(plan, propose=True)
    registry = Registry(plan.models)
    outcome = quick_night(plan)
    assert outcome.ruling is Ruling.PROPOSED
    assert registry.champion() == CHAMPION
    assert quick_night(plan).ruling is Ruling.UNCHANGED
    registry.promote(outcome.version, who="a person", why="looks good")
    assert [night["verdict"] for night in runs.nights()] == ["unchanged", "proposed"]


@pytest.mark.parametrize("days", [0, 1])
def test_a_version_rolled_back_is_not_promoted_again(
    plan: Plan, quick_night: Nights, days: int
) -> None:
    """Rolled back from, made again and better by its numbers: held, and the reason is told.

    Made on another day it has another name, and is the same model.
    """
    outcome = quick_night(plan)
    registry = Registry(plan.models)
    later = NOW + timedelta(hours=8)
    registry.rollback(who="a person", why="missed an effusion", now=later)
    assert registry.champion() == CHAMPION
    again = quick_night(plan, now=NOW + timedelta(days=days))
    assert (again.version == outcome.version) is (days == 0)
    assert again.ruling is Ruling.HELD
    name = f"as {outcome.version} it" if days else "it"
    assert f"HELD: {name} was rolled back: missed an effusion" in again.reasons
    assert registry.champion() == CHAMPION


def test_what_was_held_by_a_rule_is_judged_again_by_another(
    plan: Plan, runs: TrainingRuns, quick_night: Nights
) -> None:
    """A person who changes the setting that a night was held for need not wait for a label."""
    many = replace(plan.rules, floors=replace(plan.rules.floors, films_of_each_class=10**6))
    strict = replace(plan, rules=many)
    assert quick_night(strict).ruling is Ruling.HELD
    assert quick_night(strict).ruling is Ruling.UNCHANGED
    again = quick_night(plan, now=NOW + timedelta(days=1))
    assert again.ruling is Ruling.PROMOTED
    assert [night["verdict"] for night in runs.nights()] == ["promoted", "unchanged", "held"]


def test_what_was_held_for_drift_is_judged_again_when_it_is_over(
    plan: Plan, quick_night: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it lasts nothing is made again; then the challenger gets its turn."""
    alarm = "arriving films have changed"
    monkeypatch.setattr("training.retrain.drifted", lambda *_: alarm)
    held = quick_night(plan)
    assert held.ruling is Ruling.HELD
    assert f"HELD: {alarm}" in held.reasons
    monkeypatch.setattr("training.retrain.drifted", lambda *_: f"{alarm} (by more)")
    assert quick_night(plan).ruling is Ruling.UNCHANGED
    monkeypatch.setattr("training.retrain.drifted", lambda *_: "")
    assert quick_night(plan).ruling is Ruling.PROMOTED


def test_where_nothing_is_new_the_table_of_films_is_not_read(
    plan: Plan, quick_night: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be long, and whoever reads it on SQLite keeps the worker from writing."""
    quick_night(plan)

    def read(*_: object) -> str:
        raise AssertionError("it was")

    monkeypatch.setattr("training.retrain.drifted", read)
    assert quick_night(plan).ruling is Ruling.UNCHANGED


def test_a_champion_that_cannot_be_measured_is_not_replaced(
    plan: Plan, quick_night: Nights
) -> None:
    """Damaged, or of another preprocessing: a person is told, and decides."""
    quick_night.evaluator = pretending(broken="its weights are damaged")
    outcome = quick_night(plan)
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
        folders=Folders(inbox=tmp_path / "inbox", archive=folder, refused=tmp_path / "refused"),
        screeners=ScreenerOptions(
            count=1, limits=FilmLimits(), screen_seconds=20, memory_mb=768, predict_seconds=5
        ),
    )
    return replace(plan, preview=means, preview_scans=5)


def test_before_a_promotion_it_is_told_which_decisions_would_change(
    archived: Plan, runs: TrainingRuns, quick_night: Nights
) -> None:
    """On the last films of the place itself; on record, on the card, and said."""
    change_manifest(archived.models / CHAMPION, review_band=[0.0, 1.0])
    said: list[str] = []
    outcome = quick_night(archived, say=said.append)
    assert outcome.ruling is Ruling.PROMOTED
    preview = runs.nights()[0]["details"]["evaluation"]["archive"]
    assert preview["screened"] == 5
    champion, challenger = load(archived.models / CHAMPION), load(outcome.package)
    expected = {}
    for number in range(1, 6):
        pixels = read_for(champion.manifest, jpeg(draw(number))).pixels
        before, after = champion.screen(pixels).decision, challenger.screen(pixels).decision
        if before != after:
            expected[number + 1] = after
    assert expected
    turned = {one["scan_id"]: one["challenger"][0] for one in preview["turned"]}
    assert turned == expected
    assert sum(preview["turns"].values()) == len(expected)
    (line,) = [line for line in said if "archived films" in line]
    assert line.startswith(f"of the last 5 archived films {len(expected)} would get a different")
    assert "Of the last 5 archived films" in (outcome.package / "card.md").read_text("utf-8")


def test_a_film_that_only_one_of_them_refuses_is_told_as_turned(
    archived: Plan, quick_night: Nights
) -> None:
    """No film passes the champion's limits of the familiar; those of the challenger some do."""
    registry = Registry(archived.models)
    source = registry.folder(CHAMPION)
    side = registry.manifest(CHAMPION).height
    films = np.stack([draw(number, width=side, height=side) for number in range(24)])
    nothing = {"review": 1e-9, "refuse": 1e-9}
    with_limits(source, archived.models, films, version="picky-0", familiar=nothing)
    registry.promote("picky-0", who="a test", why="to be beaten")
    said: list[str] = []
    evaluation = quick_night(archived, say=said.append).evaluation
    assert evaluation is not None
    assert evaluation.archive is not None
    taken = [one for one in evaluation.archive.turned if one.challenger[0] != "refused"]
    assert taken
    assert all(one.champion == ("refused", None) for one in taken)
    (line,) = [line for line in said if "archived films" in line]
    assert " from refused to " in line


def test_a_challenger_that_screeners_do_not_take_is_held(
    archived: Plan, quick_night: Nights
) -> None:
    """Better by its numbers, and too slow to serve: what would be refused is not promoted."""
    assert archived.preview is not None
    slow = replace(archived.preview.screeners, predict_seconds=1e-9)
    outcome = quick_night(replace(archived, preview=replace(archived.preview, screeners=slow)))
    assert outcome.ruling is Ruling.HELD
    assert outcome.reasons[-1].startswith("HELD: screeners refuse it: ")
    # A person who allows more need not wait for a label.
    assert quick_night(archived).ruling is Ruling.PROMOTED


def test_screeners_killed_as_they_come_up_say_nothing_of_a_challenger(
    archived: Plan, quick_night: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where memory is short: the night fails, and the next judges it."""
    with monkeypatch.context() as short:
        short.setattr("worker.screening.pool.sys", SimpleNamespace(executable="/bin/false"))
        with pytest.raises(ScreenerTrouble):
            quick_night(archived)
    assert quick_night(archived).ruling is Ruling.PROMOTED


def test_a_champion_that_was_damaged_for_a_night(plan: Plan, quick_night: Nights) -> None:
    """What could not be compared with it is, when it is whole again."""
    quick_night.evaluator = pretending(broken="damaged")
    assert quick_night(plan).ruling is Ruling.HELD
    quick_night.evaluator = pretending(champion=3)
    assert quick_night(plan).ruling is Ruling.PROMOTED


@pytest.mark.parametrize("hashing", [False, True])
def test_a_champion_changed_meanwhile_is_not_replaced(
    plan: Plan, quick_night: Nights, monkeypatch: pytest.MonkeyPatch, *, hashing: bool
) -> None:
    """Better than what served at midnight says nothing of what a person chose since.

    Also when that is after the night's last look at what serves, while it hashes its model.
    """
    registry = Registry(plan.models)
    copy_package(registry.folder(CHAMPION), plan.models, version="by-hand")
    registry.promote("by-hand", who="a person", why="")
    registry.promote(CHAMPION, who="a person", why="")

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

    outcome = quick_night(plan, say=meddle)
    assert outcome.ruling is Ruling.HELD
    assert outcome.reasons[-1] == (
        "HELD: the champion was changed by hand meanwhile: by-hand serves now"
    )
    assert registry.champion() == "by-hand"


def test_a_night_killed_before_its_verdict_is_made_good(
    plan: Plan, runs: TrainingRuns, quick_night: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package lies there, nobody promoted it: the next night judges it as it lies."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "promote", killed)
        with pytest.raises(KeyboardInterrupt):
            quick_night(plan)
    registry = Registry(plan.models)
    assert len(registry.versions()) == 2
    outcome = quick_night(plan)
    assert outcome.ruling is Ruling.PROMOTED
    assert registry.champion() == outcome.version
    assert [night["verdict"] for night in runs.nights()] == ["promoted", "interrupted"]
    assert runs.nights()[0]["details"]["looks"]["this_set"] == 2


def test_nothing_new_is_on_record_too(quick_night: Nights, plan: Plan, runs: TrainingRuns) -> None:
    """With its reason, no challenger, and no look at the test films."""
    quick_night(plan)
    outcome = quick_night(plan)
    night = runs.nights()[0]
    assert outcome.ruling is Ruling.UNCHANGED
    assert night["verdict"] == "unchanged"
    assert night["challenger"] is None
    assert "nothing new" in night["reasons"][0]
    assert "looks" not in night["details"]


def test_a_night_that_fails_is_on_record_with_the_whole_reason(
    plan: Plan, runs: TrainingRuns, quick_night: Nights
) -> None:
    """The champion stays, nothing half-made is left, and the row says what went wrong."""

    def fail(*_: object) -> list[Scored]:
        raise ModelPackageError("it does not load")

    quick_night.evaluator = Evaluator(score=fail)
    with pytest.raises(ModelPackageError):
        quick_night(plan)
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
        ("worker.model.registry.fsync_folder", "the model's package cannot be written"),
    ],
)
def test_a_full_models_folder_ends_a_night_with_a_sentence(
    plan: Plan, quick_night: Nights, monkeypatch: pytest.MonkeyPatch, where: str, what: str
) -> None:
    """What is wrong in its first line, for any log, and the path below it; the champion stays."""
    monkeypatch.setattr(where, full)
    with pytest.raises(DataError) as ended:
        quick_night(plan)
    matter, place = str(ended.value).split("\n")
    assert matter == f"{what} (No space left on device):"
    assert place.startswith(f"  {plan.models}")
    assert Registry(plan.models).champion() == CHAMPION
    assert Registry(plan.models).versions() == [CHAMPION]


def test_a_full_models_folder_is_told_of_before_anything_is_fitted(
    plan: Plan,
    shipped: Path,
    tmp_path: Path,
    quick_night: Nights,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A first night copies the shipped model in, to be beaten."""
    plan = replace(plan, models=tmp_path / "other", seed_models=shipped.parent)
    monkeypatch.setattr(shutil, "copyfile", full)
    said: list[str] = []
    with pytest.raises(DataError, match=r"copied in \(No space left on device\)"):
        quick_night(plan, say=said.append)
    assert said == []


def test_a_disk_that_is_full_after_a_promotion_undoes_nothing(
    plan: Plan, runs: TrainingRuns, quick_night: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves was promoted and is on record; the next night just does not know of this one."""
    monkeypatch.setattr("training.night.state.write_atomically", full)
    said: list[str] = []
    outcome = quick_night(plan, say=said.append)
    assert outcome.ruling is Ruling.PROMOTED
    assert Registry(plan.models).champion() == outcome.version
    assert runs.nights()[0]["verdict"] == "promoted"
    assert said[-1] == (
        "the next night will repeat this one: it cannot be remembered (No space left on device)"
    )


def test_a_second_night_says_so_and_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0, as it is no failure; and it does nothing, not even read the films."""
    with alone(tmp_path / "models"):
        arguments = ("--data", str(tmp_path / "none"), "--models", str(tmp_path / "models"))
        code = main([*arguments, "--no-database", "--cache", str(tmp_path / "cache")])
    assert code == 0
    assert "left: another night is running" in capsys.readouterr().out


def test_a_log_is_told_of_no_film_that_was_set_aside(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    quick_night: Nights,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Set aside as told to: a log says that there is something to say, and the row says it."""
    data = draw_folder(tmp_path / "drawn", train=40, test=3)
    film = draw(2000, width=160, height=128)
    (data / "train/NORMAL/again.jpeg").write_bytes(jpeg(film, quality=50))
    monkeypatch.setenv("LUNGWATCH_DATABASE_URL", f"sqlite:///{tmp_path}/nights.db")
    code = main(
        [
            *("--data", str(data), "--models", str(tmp_path / "m"), "--cache", str(tmp_path / "c")),
            *("--side-pixels", "32", "--drop-conflicts"),
        ],
        maker=quick_night.maker,
        evaluator=quick_night.evaluator,
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


@pytest.mark.parametrize("ends", ["away", "stopped"])
def test_what_was_promoted_serves_whatever_comes_between(
    plan: Plan,
    quick_night: Nights,
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
    monkeypatch.setenv("LUNGWATCH_DATABASE_URL", plan.database_url or "")
    for name in ("AUC", "SENSITIVITY", "SPECIFICITY"):
        monkeypatch.setenv(f"LUNGWATCH_MIN_{name}", "0")
    monkeypatch.setenv("LUNGWATCH_MIN_TEST_FILMS", "1")
    monkeypatch.setenv("LUNGWATCH_MAX_CALIBRATION_ERROR", "1")
    code = main(
        [
            *("--data", str(plan.data[0]), "--models", str(plan.models)),
            *("--cache", str(plan.cache), "--side-pixels", "32"),
        ],
        maker=quick_night.maker,
        evaluator=quick_night.evaluator,
    )
    said = capsys.readouterr().out
    version = Registry(plan.models).serving()
    assert code == 0, said
    assert f"promoted: {version}" in said
    assert "untouched" not in said
    serves = f"{version} serves, but the end of this night could not be recorded"
    assert (serves in said) == (ends == "away")
