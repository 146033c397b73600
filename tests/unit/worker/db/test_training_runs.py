"""What is on record of the nights and of each version, in both databases."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pytest
import scans
from databases import query
from sqlalchemy import update

from worker.db.engine import Database
from worker.db.schema import training_runs
from worker.db.training_runs import Ruling, TrainingRuns
from worker.model.evaluation import Looks
from worker.types import Changes


@pytest.fixture
def runs(database: Database) -> TrainingRuns:
    """Return the training runs of a fresh database: none yet."""
    return TrainingRuns(database)


def test_a_night_has_its_row_from_the_start(runs: TrainingRuns, database: Database) -> None:
    """While it runs, the row says since when and on what; it has no verdict yet."""
    run = runs.open("ward:models", {"seed": 20})
    (row,) = query(database, "SELECT * FROM training_runs")
    assert row["id"] == run
    assert row["verdict"] is None
    assert row["finished_at"] is None
    (night,) = runs.nights()
    assert night["details"] == {"seed": 20, "place": "ward:models"}
    assert isinstance(night["started_at"], datetime)


def test_a_closed_night_tells_everything(runs: TrainingRuns) -> None:
    """Verdict, reasons, champion, challenger, and the details of every step together."""
    run = runs.open("ward:models", {"seed": 20})
    runs.note(run, {"counts": {"train": 7}})
    runs.close(
        run,
        ruling=Ruling.HELD,
        reasons=["ok: one", "HELD: other"],
        champion="old-1",
        challenger="new-1",
        details={"auc": 0.9},
    )
    (night,) = runs.nights()
    assert night["verdict"] == "held"
    assert night["reasons"] == ["ok: one", "HELD: other"]
    assert (night["champion"], night["challenger"]) == ("old-1", "new-1")
    assert night["details"] == {
        "seed": 20,
        "place": "ward:models",
        "counts": {"train": 7},
        "auc": 0.9,
    }
    assert night["finished_at"] >= night["started_at"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_null_on_record(runs: TrainingRuns, value: float) -> None:
    """Postgres takes no NaN in JSON: the record of a bad night must not fail on it."""
    run = runs.open("ward:models", {"loss": value, "curve": ({"auc": value},)})
    runs.close(run, ruling=Ruling.FAILED, reasons=["the loss is not a number"])
    details = runs.nights()[0]["details"]
    assert details["loss"] is None
    assert details["curve"] == [{"auc": None}]


def test_a_killed_night_is_closed_by_the_next_one(runs: TrainingRuns) -> None:
    """A row left open is of a night that was killed, since only one runs at a time in a place."""
    runs.open("ward:models", {"seed": 20})
    runs.open("ward:models", {"seed": 20})
    following, killed = runs.nights()
    assert killed["verdict"] == "interrupted"
    assert "killed" in killed["reasons"][0]
    assert killed["finished_at"] is not None
    assert following["finished_at"] is None


def test_a_night_elsewhere_is_left_alone(runs: TrainingRuns) -> None:
    """Another models folder's night may be under way on the same database."""
    runs.open("ward:other", {})
    runs.open("ward:models", {})
    assert [night["finished_at"] for night in runs.nights()] == [None, None]


def test_a_night_with_its_verdict_is_never_closed_again(runs: TrainingRuns) -> None:
    """What ended keeps its verdict, whatever nights follow."""
    run = runs.open("ward:models", {})
    runs.close(run, ruling=Ruling.PROMOTED, reasons=[])
    runs.open("ward:models", {})
    assert runs.nights()[1]["verdict"] == "promoted"


def test_every_look_at_test_films_is_counted(runs: TrainingRuns) -> None:
    """On these films and on any, this look included; a night that did not look does not count."""
    said = []
    for digest in ("aa", None, "bb", "aa"):
        run = runs.open("ward:models", {})
        if digest is not None:
            said.append(runs.look(run, digest))
        runs.close(run, ruling=Ruling.HELD, reasons=[])
    assert said == [
        Looks(this_set=1, any_set=1),
        Looks(this_set=1, any_set=2),
        Looks(this_set=2, any_set=3),
    ]
    assert runs.nights()[0]["details"]["looks"] == {"this_set": 2, "any_set": 3}


def test_a_look_counts_though_the_night_was_killed_after_it(runs: TrainingRuns) -> None:
    """It is on record before the films are looked at."""
    runs.look(runs.open("ward:models", {}), "aa")
    assert runs.look(runs.open("ward:models", {}), "aa").this_set == 2


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_film_whose_name_is_not_utf8_ends_no_night(
    runs: TrainingRuns, database: Database, *, spoilt: bool
) -> None:
    """It is told of in letters that any client reads; nor does a row of before end later nights."""
    named = "train/m\udcfcller.jpeg"
    run = runs.open("ward:models", {"remarks": [f"set aside: {named}"], "groups": {named: 1}})
    runs.look(run, "aa")
    runs.close(run, ruling=Ruling.FAILED, reasons=[f"with two labels: {named}"])
    if spoilt:  # as they were written once
        with database.writing() as connection:
            remarks = {"looked_at": "aa", "remarks": [named]}
            connection.execute(update(training_runs).values(details=remarks))
    else:
        remark = "SELECT details ->> 'remarks' AS one, reasons ->> 0 AS other FROM training_runs"
        (row,) = query(database, remark)
        assert "train/m\\\\udcfcller.jpeg" in row["one"]
        assert row["other"] == "with two labels: train/m\\udcfcller.jpeg"
    assert runs.look(runs.open("ward:models", {}), "aa") == Looks(this_set=2, any_set=2)
    assert runs.look(runs.open("ward:models", {}), "a_") == Looks(this_set=1, any_set=3)


def test_a_version_is_explained_whole(runs: TrainingRuns, database: Database) -> None:
    """Its manifest, the night that made it, those it defended itself in, and what it predicted."""
    run = runs.open("ward:models", {"counts": {"train": 7}})
    runs.close(run, ruling=Ruling.PROMOTED, reasons=["ok: yes"], challenger="drawn-1")
    later = runs.open("ward:models", {})
    runs.close(
        later, ruling=Ruling.HELD, reasons=["HELD: no"], champion="drawn-1", challenger="drawn-2"
    )
    runs.register(scans.manifest("drawn-1"))
    store = scans.worker(database)
    claims = store.claim(scans.sightings(3), lease_seconds=60).claims
    logits = (9.0, 9.0, -9.0)
    store.register_model(scans.manifest("drawn-1"))
    outcomes = [scans.verdict(c, logit=logit) for c, logit in zip(claims, logits, strict=True)]
    store.apply(Changes(outcomes=outcomes))

    told = runs.explain("drawn-1")
    assert told["version"] == "drawn-1"
    assert told["model"]["manifest"] == scans.manifest("drawn-1").model_dump(mode="json")
    assert [night["id"] for night in told["made_by"]] == [run]
    assert told["made_by"][0]["details"]["counts"] == {"train": 7}
    assert [night["id"] for night in told["defended_in"]] == [later]
    assert told["predictions"]["counts"] == [
        {"origin": "screening", "decision": "NORMAL", "count": 1},
        {"origin": "screening", "decision": "PNEUMONIA", "count": 2},
    ]
    assert told["predictions"]["first_at"] <= told["predictions"]["last_at"]


def test_an_unknown_version_is_explained_as_unknown(runs: TrainingRuns) -> None:
    """Nothing is made up of a version that no row names."""
    told: dict[str, Any] = runs.explain("never-1")
    assert told["model"] is None
    assert told["made_by"] == told["defended_in"] == told["predictions"]["counts"] == []


def test_a_night_that_made_nothing_is_no_defence(runs: TrainingRuns) -> None:
    """Unchanged nights name the champion too, and say nothing of it."""
    run = runs.open("ward:models", {})
    runs.close(run, ruling=Ruling.UNCHANGED, reasons=["nothing new"], champion="drawn-1")
    assert runs.explain("drawn-1")["defended_in"] == []


def test_registering_twice_keeps_the_first(runs: TrainingRuns, database: Database) -> None:
    """A version never changes, and a worker may have known it first."""
    runs.register(scans.manifest("drawn-1"))
    scans.worker(database).register_model(scans.manifest("drawn-1", threshold=0.55))
    (row,) = query(database, "SELECT threshold FROM model_versions")
    assert row["threshold"] == scans.manifest().threshold
