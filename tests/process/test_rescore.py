"""Archived films are screened again with another version: as further rows, or to compare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Site
from films import batch, draw, jpeg
from packages import change_manifest, copy_package, with_limits
from pixels import read_for
from swaps import children
from tracing import most_of, strace

from worker.db.engine import Database
from worker.db.predictions import ArchivedFilms, Selection
from worker.errors import ModelPackageError
from worker.imaging.preprocessing import PREPROCESSING_VERSIONS, FilmLimits, read_film
from worker.model.decision import Verdict
from worker.model.manifest import SERVED, read_manifest
from worker.model.registry import Registry
from worker.model.runtime import Model, load
from worker.screening.rescore import ChampionUnfitError, compare_decisions, rescore
from worker.screening.rescreen import Means
from worker.settings import ScreenerOptions

pytestmark = pytest.mark.slow

FILMS = batch(12)


@pytest.fixture
def site(tmp_path: Path, shipped: Path) -> Iterator[Site]:
    """A place with the versions `steady`, which serves, and `hot`."""
    place = Site(tmp_path)
    copy_package(shipped, place.models, version="steady")
    copy_package(shipped, place.models, version="hot", temperature=1.4)
    Registry(place.models).promote("steady")
    yield place
    place.end()


@pytest.fixture
def screened(site: Site) -> Site:
    """The same place, where `steady` has screened twelve films and refused one."""
    site.drop(FILMS | {"text.jpg": b"hello"})
    site.call("run", "--once")
    return site


@pytest.fixture
def screened_anywhere(site: Site, database_url: str) -> Site:
    """The same on each database."""
    site.database_url = database_url
    site.drop(FILMS | {"text.jpg": b"hello"})
    site.call("run", "--once")
    return site


def rescored(site: Site) -> list[dict[str, Any]]:
    """Return the rows that rescores have made, with their scans' file names."""
    return [
        dict(row)
        for row in site.query(
            "SELECT p.*, s.file_name FROM predictions AS p JOIN scans AS s ON s.id = p.scan_id "
            "WHERE p.origin = 'rescore' ORDER BY p.scan_id"
        )
    ]


def means(site: Site) -> Means:
    """Return what a site's films are screened again with."""
    return Means(
        folders=site.folders,
        screeners=ScreenerOptions(
            count=2, limits=FilmLimits(), screen_seconds=20, memory_mb=768, predict_seconds=5
        ),
    )


def test_what_a_version_says_of_archived_films_becomes_further_rows(
    screened_anywhere: Site,
) -> None:
    """Each film gets the row that the version gives for its bytes; `results` stays as it was."""
    site = screened_anywhere
    before = site.results()
    assert "12 films screened again with hot" in site.call("rescore", "--model", "hot").stdout
    rows = rescored(site)
    assert {row["file_name"] for row in rows} == FILMS.keys()
    assert len(rows) == len(FILMS)
    model = load(site.models / "hot")
    for row in rows:
        film = read_for(model.manifest, FILMS[row["file_name"]])
        verdict = model.screen(film.pixels)
        assert row["model_version"] == "hot"
        assert row["probability"] == pytest.approx(verdict.probability, abs=1e-9)
        assert (row["decision"], row["threshold"]) == (verdict.decision, verdict.threshold)
    assert site.results() == before
    assert "0 films" in site.call("rescore", "--model", "hot").stdout
    assert "0 films" in site.call("rescore", "--model", "steady").stdout
    assert len(rescored(site)) == len(FILMS)


def test_packages_of_either_preprocessing_serve_side_by_side(site: Site, shipped: Path) -> None:
    """Each row names the version that its pixels were made by, and holds what they give."""
    for version in PREPROCESSING_VERSIONS:
        copy_package(shipped, site.models, version=f"of-{version}", preprocessing_version=version)
    Registry(site.models).promote("of-1")
    data = jpeg(draw(3, width=1280, height=1088))
    site.drop({"film.jpeg": data})
    site.call("run", "--once")
    site.call("rescore", "--model", "of-2")
    rows = site.query("SELECT model_version, preprocessing_version, logit FROM predictions")
    logits = {}
    for version in PREPROCESSING_VERSIONS:
        model = load(site.models / f"of-{version}")
        pixels = read_film(
            data, height=model.manifest.height, width=model.manifest.width, version=version
        ).pixels
        logits[f"of-{version}", version] = model.predict(pixels).logit
        site.call("explain", "film.jpeg", "--model", f"of-{version}", "-o", "film.png")
        (site.root / "film.png").unlink()
    told = {(row["model_version"], row["preprocessing_version"]): row["logit"] for row in rows}
    assert told == logits
    assert len(set(told.values())) == 2


@pytest.mark.slow
def test_some_at_a_time_newest_first(screened: Site) -> None:
    """--limit takes the newest that are left, again and again; --since leaves out the older."""
    ids = sorted((row["scan_id"] for row in screened.results() if row["decision"]), reverse=True)
    screened.call("rescore", "--model", "hot", "--since", "2999-01-01")
    assert rescored(screened) == []
    for done in (5, 10, 12):
        screened.call("rescore", "--model", "hot", "--limit", "5", "--since", "1h")
        assert {row["scan_id"] for row in rescored(screened)} == set(ids[:done])


@pytest.mark.slow
def test_killed_and_started_again_it_goes_on(site: Site) -> None:
    """Killed in the middle, what is recorded stays, and the next run does the rest, once."""
    many = batch(400)
    site.drop(many)
    site.call("run", "--once")
    database, log = site.root / "lungwatch.db", site.root / "calls"
    before = database.read_bytes()

    def traced(inject: str) -> int:
        command = strace(log, calls=("fdatasync",), inject=inject)
        command += [sys.executable, "-m", "worker", "rescore", "--model", "hot"]
        return subprocess.run(command, env=site.environment, cwd=site.root, check=False).returncode

    # Half-way by its own count: a fast machine would be done before a test had looked.
    assert traced("") == 0
    database.write_bytes(before)
    half = f"signal=SIGKILL:when={most_of(log, 'fdatasync') // 2}"
    assert traced(half) == -signal.SIGKILL
    assert 0 < len(rescored(site)) < len(many)
    site.call("rescore", "--model", "hot")
    assert {row["file_name"] for row in rescored(site)} == many.keys()
    assert len(rescored(site)) == len(many)


def test_films_that_are_no_longer_what_was_screened_are_reported(screened: Site) -> None:
    """Gone, replaced by other bytes, or no file at all: skipped, each with its reason, status 1."""
    filed = {row["file_name"]: row for row in screened.results()}
    gone, changed, damaged, folder, *others = FILMS
    place = {name: screened.archive / filed[name]["filed_as"] for name in FILMS}
    place[gone].unlink()
    place[changed].write_bytes(FILMS[others[0]] + b"more")
    place[damaged].write_bytes(FILMS[damaged][:500])
    place[folder].unlink()
    place[folder].mkdir()
    ended = screened.call("rescore", "--model", "hot", status=1)
    assert f"{len(others)} films screened again with hot, 4 skipped" in ended.stdout
    told = dict(line.split(": ", 1) for line in ended.stderr.splitlines() if "scan" in line)
    for name, why in (
        (gone, "moved"),
        (changed, "changed"),
        (damaged, "changed"),
        (folder, "moved"),
    ):
        assert why in told[f"scan {filed[name]['scan_id']}"]
    assert {row["file_name"] for row in rescored(screened)} == set(others)


def test_films_that_stayed_in_the_inbox_are_screened_too(site: Site) -> None:
    """Where films are kept in the inbox, that is where they are read again."""
    site.settings["KEEP_IN_INBOX"] = "true"
    site.drop(FILMS)
    site.call("run", "--once")
    site.call("rescore", "--model", "hot")
    assert {row["file_name"] for row in rescored(site)} == FILMS.keys()


def test_what_must_not_serve_screens_nothing_again(screened: Site, shipped: Path) -> None:
    """A version that is not there, damaged, slow or changed since: one line, status 2, no row."""
    assert "no model cold" in screened.call("rescore", "--model", "cold", status=2).stderr
    weights = copy_package(shipped, screened.models, version="cold") / SERVED
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert SERVED in screened.call("rescore", "--model", "cold", status=2).stderr
    change_manifest(screened.models / "steady", temperature=3.0)
    told = screened.call("rescore", "--model", "steady", status=2).stderr
    assert "its temperature is not the one on record" in told
    screened.settings["PREDICT_MILLISECONDS"] = "0.001"
    assert "ms a film" in screened.call("rescore", "--model", "hot", status=2).stderr
    assert rescored(screened) == []


@pytest.mark.slow
def test_a_screener_that_is_ended_costs_no_film(screened: Site) -> None:
    """Films that were with a screener when it ended are tried again, and get their rows."""
    database = Database(screened.database_url)
    before = children(os.getpid())
    ended: set[int] = set()

    def end_screeners(_done: int) -> None:
        if not ended:
            ended.update(children(os.getpid()) - before)
            for pid in ended:
                os.kill(pid, 9)

    done = rescore(
        database,
        screened.models / "hot",
        means(screened),
        Selection(without="hot"),
        progress=end_screeners,
    )
    database.close()
    assert ended
    assert (done.screened, done.skipped) == (len(FILMS), ())
    assert {row["file_name"] for row in rescored(screened)} == FILMS.keys()


def screen(model: Model, data: bytes) -> Verdict:
    """Return what a model says of a film's bytes."""
    return model.screen(read_for(model.manifest, data).pixels)


def test_before_a_promotion_decisions_that_would_change_are_listed(
    screened: Site, shipped: Path
) -> None:
    """Of the last films, those that the challenger decides otherwise; and nothing is written."""
    middle = sorted(row["probability"] for row in screened.results() if row["decision"])[6]
    strict = copy_package(
        shipped,
        screened.models,
        version="strict",
        threshold=middle,
        review_band=[middle, middle],
    )
    steady = screened.models / "steady"
    database = Database(screened.database_url)
    rows = screened.query("SELECT * FROM predictions ORDER BY id")
    for last in (100, 5):
        told = compare_decisions(
            database, means(screened), champion=steady, challenger=strict, last=last
        )
        newest = list(ArchivedFilms(database).films(Selection(limit=last)))
        assert told.screened == len(newest) == min(last, len(FILMS))
        assert told.skipped == ()
        names = {row["scan_id"]: row["file_name"] for row in screened.results()}
        expected = {}
        for film in newest:
            both = [screen(load(one), FILMS[names[film.scan_id]]) for one in (steady, strict)]
            if both[0].decision != both[1].decision:
                expected[film.scan_id] = both
        assert expected
        assert {one.scan_id: [one.champion, one.challenger] for one in told.turned} == expected
    gone = screened.archive / screened.results()[0]["filed_as"]
    gone.unlink()
    told = compare_decisions(
        database, means(screened), champion=steady, challenger=strict, last=100
    )
    assert [one.scan_id for one in told.skipped] == [screened.results()[0]["scan_id"]]
    assert told.screened == len(FILMS) - 1
    database.close()
    assert screened.query("SELECT * FROM predictions ORDER BY id") == rows


def test_a_champion_that_must_not_serve_is_told_from_a_challenger(
    screened: Site, shipped: Path
) -> None:
    """One that is damaged, or has become too slow for its machine, holds up none that is not."""
    damaged = copy_package(shipped, screened.models, version="damaged")
    (damaged / "model.tflite").write_bytes(b"nothing")
    steady = screened.models / "steady"
    database = Database(screened.database_url)
    with pytest.raises(ChampionUnfitError, match="damaged"):
        compare_decisions(database, means(screened), champion=damaged, challenger=steady, last=1)
    with pytest.raises(ModelPackageError, match="damaged"):
        compare_decisions(database, means(screened), champion=steady, challenger=damaged, last=1)
    database.close()


@pytest.mark.slow
def test_before_a_promotion_films_that_would_be_refused_are_listed(
    screened: Site, shipped: Path
) -> None:
    """Films that one model alone takes for no chest film get another decision, either way round."""
    films = np.stack([read_for(read_manifest(shipped), data).pixels for data in FILMS.values()])
    nothing = {"review": 1e-9, "refuse": 1e-9}  # is familiar to it
    picky = with_limits(shipped, screened.models, films, version="picky", familiar=nothing)
    steady = screened.models / "steady"
    decisions = {row["scan_id"]: row["decision"] for row in screened.results() if row["decision"]}
    database = Database(screened.database_url)
    one, other, both = (
        compare_decisions(database, means(screened), champion=old, challenger=new, last=100)
        for old, new in ((steady, picky), (picky, steady), (picky, picky))
    )
    database.close()
    assert one.screened == other.screened == both.screened == len(FILMS)
    assert one.skipped == other.skipped == both.skipped == ()
    told = {turn.scan_id: turn.champion and turn.champion.decision for turn in one.turned}
    assert told == decisions
    assert all(turn.challenger is None for turn in one.turned)
    assert {turn.scan_id for turn in other.turned if turn.champion is None} == decisions.keys()
    assert both.turned == ()
