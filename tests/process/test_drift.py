"""Drift: seldom cried without reason, seen soon with one, and no hand on screening."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import films
import numpy as np
import pytest
from driver import Site
from scans import manifest
from sqlalchemy import insert

from training.night.state import drifted
from worker.db.engine import Database
from worker.db.scans import register_model
from worker.db.schema import labels, predictions, scans
from worker.monitoring.drift import BUDGET, WINDOW_DAYS, Day, find_drift, psi
from worker.monitoring.drift_data import agreement, look_for_drift

pytestmark = pytest.mark.slow

VERSION = manifest().version
DEVICES = {float(0x2D0851A8): 0.7, float(0x9B8BCD08): 0.29, float(0x1B176856): 0.01}
CUT = np.linspace(5, 6, 12)  # megapixels
BEGIN = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday


def stream(
    days: int, generator: np.random.Generator, *, shift: float = 0.0, films: float = 60
) -> list[Day]:
    """Return days of some sixty films, each with a mood of its own, as days have."""
    found = []
    device = np.random.default_rng(days)  # of its own, so that it moves nothing else
    for day in range(days):
        count = 1 + int(generator.poisson(films - 1))
        mood = generator.normal(0, 0.15)
        values = {
            "decision": generator.choice([0.0, 1.0, 2.0, 3.0], count, p=[0.6, 0.25, 0.1, 0.05]),
            "score": generator.normal(mood + shift, 1, count),
            "megapixels": generator.choice([1.0, 1.5, 2.0], count, p=[0.5, 0.3, 0.2]),
            "encoding": device.choice(list(DEVICES), count, p=list(DEVICES.values())),
        }
        found.append(Day(day=str(day), values=values))
    return found


@pytest.mark.slow
def test_false_alarms_keep_to_their_budget() -> None:
    """Of years in which nothing changes about so many have an alarm as is said, and not more."""
    years, alarms = 30, 0
    for seed in range(years):
        generator = np.random.default_rng(seed)
        findings = find_drift(stream(28, generator), stream(365, generator))
        alarms += any(max(one.by_day) > 1 for one in findings)
    assert alarms <= 2 * BUDGET * years


def test_fewer_films_are_no_other_films() -> None:
    """A quiet summer is no drift: as few years have an alarm with a part of the films as with all.

    After a reference of 60 films a day a year of 36, and one of nine.
    """
    years, alarms = 8, []
    for seed in range(years):
        generator = np.random.default_rng(seed)
        reference = stream(28, generator)
        since = stream(365, generator, films=36) + stream(365, generator, films=9)
        findings = find_drift(reference, since)
        alarms += [(seed, one.measure) for one in findings if max(one.by_day) > 1]
    assert len({seed for seed, _ in alarms}) <= 2 * 2 * BUDGET * years, alarms


@pytest.mark.parametrize("seed", range(5))
def test_a_change_is_seen_within_the_week(seed: int) -> None:
    """Of the scores by four fifths of their spread; and it is the scores that are told."""
    generator = np.random.default_rng(seed)
    findings = find_drift(stream(28, generator), stream(WINDOW_DAYS, generator, shift=0.8))
    assert [one.measure for one in findings if one.alarm] == ["score"]


def one_device(days: int, *, other: float = 0.0) -> list[Day]:
    """Return days of 50 films of one device, but for a share of them."""
    devices = np.full(50, float(0x2D0851A8))
    devices[: round(50 * other)] = float(0x9B8BCD08)
    return [Day(day=str(day), values={"encoding": devices}) for day in range(days)]


@pytest.mark.parametrize(("other", "alarm"), [(0.0, False), (0.02, False), (0.2, True), (1, True)])
def test_another_device_is_noticed(other: float, *, alarm: bool) -> None:
    """Where there was one, a stray film of another is no alarm; a fifth of the films is."""
    (finding,) = find_drift(one_device(28), one_device(WINDOW_DAYS, other=other))
    assert finding.alarm is alarm


def sized(days: int, per_day: int, *sizes: float) -> list[Day]:
    """Return days of so many films, which have these sizes in turn."""
    values = np.resize(np.array(sizes), per_day)
    return [Day(day=str(day), values={"megapixels": values}) for day in range(days)]


@pytest.mark.parametrize(
    ("before", "since"),
    [
        ([4.1], [0.05]),
        ([4.1], [9.0]),
        # A fifth of those of the usual size; and what is cut out of a larger one as ever.
        ([*[4.1] * 188, *CUT], [*[0.05] * 40, *[4.1] * 148, *CUT]),
        ([3.0, 4.1], [3.5]),
    ],
)
def test_another_size_is_noticed(before: list[float], since: list[float]) -> None:
    """Also where films had one size, or nearly all of them, so that there are no tenths of them."""
    (finding,) = find_drift(sized(28, 200, *before), sized(WINDOW_DAYS, 200, *since))
    assert finding.alarm


@pytest.mark.parametrize("per_day", [2, 15, 60, 200])
def test_one_size_is_no_drift_however_many_films_come(per_day: int) -> None:
    """Where all films have the size that all had, nothing has changed."""
    (finding,) = find_drift(sized(28, 100, 4.1), sized(WINDOW_DAYS, per_day, 4.1))
    assert (finding.psi, finding.alarm) == (0.0, False)


@pytest.mark.parametrize("per_day", [2, 100])
def test_a_stray_film_is_no_drift(per_day: int) -> None:
    """One film of a size that never came before, in a week."""
    week = sized(WINDOW_DAYS - 1, per_day, 4.1) + sized(1, per_day, 0.05, *[4.1] * (per_day - 1))
    (finding,) = find_drift(sized(28, 100, 4.1), week)
    assert not finding.alarm


def test_rows_of_before_a_release_are_no_other_device() -> None:
    """Where the reference was screened before encodings were noted, there is nothing to tell."""
    unknown = [
        replace(day, values={"encoding": np.full(50, np.nan), "score": np.arange(50.0)})
        for day in one_device(28)
    ]
    since = [
        replace(day, values={**day.values, "score": np.arange(50.0)})
        for day in one_device(WINDOW_DAYS)
    ]
    assert [one.measure for one in find_drift(unknown, since)] == ["score"]


def test_the_index_itself() -> None:
    """Nothing for the same shares; symmetric; and finite where a bin is empty."""
    counts, other = np.array([1000.0, 2000.0, 0.0]), np.array([2000.0, 1000.0, 500.0])
    assert psi(counts, 2 * counts) == pytest.approx(0, abs=1e-4)
    assert psi(counts, other) == pytest.approx(psi(other, counts))
    assert np.isfinite(psi(counts, other))
    few = np.array([1.0, 2.0])
    assert psi(counts, np.append(few, 0)) == pytest.approx(psi(counts[:2], few))


def fill(
    database: Database, *, days: int, shift_from: int | None = None, per_day: int = 40
) -> None:
    """Make rows of so many days, whose scores shift from a day on."""
    generator = np.random.default_rng(1)
    register_model(database, manifest())
    rows, said = [], []
    for day in range(days):
        shift = 2.0 if shift_from is not None and day >= shift_from else 0.0
        for film in range(per_day):
            number = 1 + day * per_day + film
            moment = BEGIN + timedelta(days=day, seconds=film)
            rows.append(a_scan(number, moment))
            said.append(a_prediction(number, moment, float(generator.normal(shift, 1))))
    with database.writing() as connection:
        connection.execute(insert(scans), rows)
        connection.execute(insert(predictions), said)


def a_scan(number: int, moment: datetime) -> Mapping[str, Any]:
    """Return a scan's row."""
    return {
        "id": number,
        "file_name": f"{number}.jpg",
        "size_bytes": 1,
        "mtime_ns": 1,
        "inode": number,
        "state": "filed",
        "worker": "ward",
        "lease_until": moment,
        "attempt": 1,
        "received_at": moment,
        "screened_at": moment,
        "sha256": f"{number:064x}",
        "width": 1000,
        "height": 1000,
        "contrast": 50.0,
        "encoding": "2d0851a8",
    }


def a_prediction(number: int, moment: datetime, logit: float) -> Mapping[str, Any]:
    """Return a prediction's row."""
    label = "PNEUMONIA" if logit > 1 else "NORMAL"
    return {
        "scan_id": number,
        "model_version": VERSION,
        "preprocessing_version": "1",
        "origin": "screening",
        "reused": False,
        "logit": logit,
        "probability": 0.5,
        "label": label,
        "confidence": 0.5,
        "decision": label,
        "threshold": 0.5,
        "predicted_at": moment,
        "prevalence": 0.5,
    }


def test_from_the_rows(database: Database) -> None:
    """Quiet while nothing changes, an alarm a week after the scores moved."""
    fill(database, days=42)
    findings, why = look_for_drift(database, VERSION)
    assert why == ""
    assert {one.measure for one in findings} == {
        *("decision", "score", "strangeness", "megapixels", "contrast", "encoding"),
    }
    assert not any(one.alarm for one in findings)


def refuse(database: Database, days: range, *, but: int = 0) -> None:
    """Make rows of days on which 40 films came, and all but so many were refused."""
    rows, said = [], []
    for number, day in enumerate((day for day in days for _ in range(40)), start=50_000):
        moment = BEGIN + timedelta(days=day, seconds=number)
        met = number % 40 < but
        code = None if met else "not_a_chest_xray"
        rows.append({**a_scan(number, moment), "refusal_code": code})
        said += [a_prediction(number, moment, 0.0)] if met else []
    with database.writing() as connection:
        connection.execute(insert(scans), rows)
        if said:
            connection.execute(insert(predictions), said)


@pytest.mark.parametrize("but", [20, 0])
def test_refusals_are_noticed(database: Database, but: int) -> None:
    """A fortnight in which half of the films are refused is an alarm, and so is one of all."""
    fill(database, days=42)
    refuse(database, range(42, 56), but=but)
    alarms = {one.measure for one in look_for_drift(database, VERSION)[0] if one.alarm}
    assert "decision" in alarms


def test_refusals_are_of_the_model_that_served(database: Database) -> None:
    """What is refused after another model came into service says nothing of the one before."""
    fill(database, days=42)
    before = look_for_drift(database, VERSION)
    later = manifest().model_copy(update={"version": "drawn-2"})
    register_model(database, later)
    moment = BEGIN + timedelta(days=42)
    with database.writing() as connection:
        connection.execute(insert(scans), [a_scan(40_000, moment)])
        said = {**a_prediction(40_000, moment, 0.0), "model_version": later.version}
        connection.execute(insert(predictions), [said])
    refuse(database, range(43, 56))
    assert look_for_drift(database, VERSION) == before


def test_a_day_counts_when_it_is_over(database: Database) -> None:
    """In the morning today has had few films, and perhaps odd ones: they are told tomorrow."""
    fill(database, days=42)
    yesterday = look_for_drift(database, VERSION)
    refuse(database, range(42, 43))
    morning = BEGIN + timedelta(days=42, hours=12)
    assert look_for_drift(database, VERSION, now=morning) == yesterday
    assert look_for_drift(database, VERSION, now=morning + timedelta(days=1)) != yesterday


@pytest.mark.parametrize("day", [0, 41])
def test_an_archive_says_nothing_of_what_arrives(database: Database, day: int) -> None:
    """Thousands of old films, screened on the first day or the last, change no number."""
    fill(database, days=42)
    before = look_for_drift(database, VERSION)
    moment, numbers = BEGIN + timedelta(days=day, hours=1), range(10_000, 12_000)
    other = {"width": 300, "height": 300, "encoding": "9b8bcd08"}
    old = [{**a_scan(one, moment), **other, "file_name": f"/old/{one}.jpg"} for one in numbers]
    refused = [one | {"id": one["id"] * 10, "refusal_code": "truncated"} for one in old]
    with database.writing() as connection:
        connection.execute(insert(scans), old)
        connection.execute(insert(scans), refused)
        connection.execute(insert(predictions), [a_prediction(n, moment, 3.0) for n in numbers])
    assert look_for_drift(database, VERSION) == before


def test_an_alarm_holds_promotions(database: Database) -> None:
    """A night is told why, until somebody looked; with no database or champion it is free."""
    fill(database, days=42, shift_from=35)
    findings, _ = look_for_drift(database, VERSION)
    assert {"score", "decision"} <= {one.measure for one in findings if one.alarm}
    url = database.url.render_as_string(hide_password=False)
    assert "score" in drifted(url, VERSION)
    assert drifted(url, None) == ""
    assert drifted(None, VERSION) == ""


@pytest.mark.parametrize(("days", "why"), [(10, "has screened"), (30, "7 are needed")])
def test_too_little_to_tell(database: Database, days: int, why: str) -> None:
    """It says so, and from when on there is something."""
    fill(database, days=days)
    assert why in look_for_drift(database, VERSION)[1]


def test_agreement_by_week(database: Database) -> None:
    """Readers' latest labels against what the model said, week by week."""
    fill(database, days=10, per_day=4)
    with database.writing() as connection:
        given = [(1, "NORMAL"), (2, "PNEUMONIA"), (29, "NORMAL"), (1, "PNEUMONIA")]
        for number, label in given:
            row = {"scan_id": number, "label": label, "reader": "r", "said_at": BEGIN}
            connection.execute(insert(labels), [row])
    said = {row.scan_id: row.label for row in _said(database)}
    weeks = agreement(database, VERSION, weeks=8)
    assert [one.week for one in weeks] == ["2026-01-05", "2026-01-12"]
    right = sum(said[number] == "PNEUMONIA" for number in (1, 2))
    assert weeks[0].of_pneumonia == (right, 2)
    assert weeks[0].of_normal == (0, 0)
    assert weeks[1].of_normal == (int(said[29] == "NORMAL"), 1)


def _said(database: Database) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(predictions.select()))


def test_the_command(any_site: Site) -> None:
    """A table and exit status 1 at an alarm; where there is little, a line and 0."""
    any_site.call("run", "--once")
    assert "No result yet" in any_site.call("drift").stdout
    database = Database(any_site.database_url)
    fill(database, days=42, shift_from=35)
    database.close()
    told = any_site.call("drift", "--model", VERSION, status=1).stdout
    assert "ALARM" in told
    assert "10% of years have a false alarm" in told


def test_the_row_says_what_wrote_the_film(any_site: Site) -> None:
    """Two films of one export have the same, one of another has another."""
    any_site.drop(
        {
            "one.jpeg": films.jpeg(films.draw(1)),
            "two.jpeg": films.jpeg(films.draw(2)),
            "other.jpeg": films.jpeg(films.draw(3), model="DX-D 300"),
        }
    )
    any_site.call("run", "--once")
    rows = any_site.query("SELECT file_name, encoding FROM scans")
    found = {row["file_name"]: row["encoding"] for row in rows}
    assert found["one.jpeg"] == found["two.jpeg"] != found["other.jpeg"]
    assert None not in found.values()
