"""The worker's transactions, in SQLite and in Postgres: each scan ends once, whoever claims it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from databases import Postgres, execute, query
from scans import (
    SHA256,
    manifest,
    refusal,
    sighting,
    sightings,
    verdict,
    worker,
)

from worker.db.engine import Database
from worker.db.scans import Store
from worker.errors import DatabaseTrouble, RefusalCode
from worker.model.decision import Score
from worker.system.filenames import bytes_of, spell
from worker.types import Changes, Claim, Outcome, Sighting, WorkerReport

Open = Callable[[str], Database]
LEASE = 60.0


@pytest.fixture
def store(database: Database) -> Store:
    """Return the store of a worker that knows its model."""
    store = worker(database)
    store.register_model(manifest())
    return store


def claim_one(store: Store, one: Sighting | None = None, *, lease: float = LEASE) -> Claim:
    """Claim a sighting that must be free."""
    [claim] = store.claim([one or sighting()], lease_seconds=lease).claims
    return claim


def results(store: Store) -> list[dict[str, Any]]:
    """Return what a person sees."""
    return query(store.database, "SELECT * FROM results ORDER BY scan_id")


def states(store: Store) -> list[str]:
    """Return where each scan stands."""
    return [row["state"] for row in query(store.database, "SELECT state FROM scans ORDER BY id")]


# Claims


def test_a_claim_is_what_was_sighted(store: Store) -> None:
    """A claim gives back the very sighting, as its first attempt, with nothing held against it."""
    wide = sighting(size_bytes=2**40, mtime_ns=-(2**62), inode=-(2**63))
    answer = store.claim([wide], lease_seconds=LEASE)
    [claim] = answer.claims
    assert (claim.sighting, claim.attempt, claim.crashes) == (wide, 1, 0)
    assert answer.kept == []
    assert results(store) == [], "a claim is no result yet"


def test_nothing_to_claim(store: Store) -> None:
    """No sightings, no claims, no complaint."""
    assert store.claim([], lease_seconds=LEASE).claims == []
    assert store.apply(Changes()) == []


def test_many_workers_claim_each_once(database: Database, open_database: Open) -> None:
    """Workers that claim the same films at once, in whatever order, get each film exactly once."""
    films = sightings(150)
    url = database.url.render_as_string(hide_password=False)
    stores = [worker(open_database(url), f"ward-{i}") for i in range(4)]
    gate = threading.Barrier(len(stores))

    def claim_all(store: Store) -> list[Claim]:
        gate.wait()
        return [
            claim
            for start in range(0, len(films), 30)
            for claim in store.claim(films[start : start + 30], lease_seconds=LEASE).claims
        ]

    with ThreadPoolExecutor(len(stores)) as threads:
        claims = [claim for got in threads.map(claim_all, stores) for claim in got]
    assert sorted(claim.sighting.name for claim in claims) == sorted(one.name for one in films)
    assert len({claim.scan_id for claim in claims}) == len(films)
    assert {claim.attempt for claim in claims} == {1}


def test_a_thousand_at_once(store: Store) -> None:
    """A thousand sightings are claimed in one call, more than one statement's worth."""
    films = sightings(1000)
    answer = store.claim(films, lease_seconds=LEASE)
    assert [claim.sighting for claim in answer.claims] == films
    assert worker(store.database, "ward-2").claim(films, lease_seconds=LEASE).claims == []
    recorded = store.apply(Changes(outcomes=[verdict(claim) for claim in answer.claims]))
    assert len(recorded) == len(results(store)) == 1000


def test_a_lapsed_lease_is_taken_over(store: Store) -> None:
    """A claim whose lease ran out goes to who asks next, as the next attempt, on the same row."""
    first = claim_one(store, lease=-1)
    second = claim_one(worker(store.database, "ward-2"))
    assert (second.scan_id, second.attempt) == (first.scan_id, 2)
    assert store.claim([first.sighting], lease_seconds=LEASE).claims == []


def test_a_frozen_worker_records_nothing(store: Store) -> None:
    """What a worker says after another took over is not accepted: one prediction, the holder's."""
    frozen, other = claim_one(store, lease=-1), worker(store.database, "ward-2")
    held = claim_one(other)
    assert store.apply(Changes(outcomes=[verdict(frozen, logit=-9.0)])) == []
    assert results(store) == []
    [recorded] = other.apply(Changes(outcomes=[verdict(held, logit=3.0)]))
    assert store.apply(Changes(outcomes=[refusal(frozen)])) == []
    [row] = results(store)
    assert row["probability"] == verdict(held, logit=3.0).verdict.probability  # type: ignore[union-attr]
    assert recorded.scan_id == row["scan_id"]


@pytest.mark.parametrize(
    "end",
    [
        lambda claim: Changes(released=[claim]),
        lambda claim: Changes(crashed=[claim]),
        lambda claim: Changes(withdrawn=[claim]),
    ],
    ids=["released", "crashed", "withdrawn"],
)
def test_a_frozen_worker_ends_nothing(store: Store, end: Callable[[Claim], Changes]) -> None:
    """Nor can it end, without a verdict, a claim that it no longer holds."""
    frozen, other = claim_one(store, lease=-1), worker(store.database, "ward-2")
    held = claim_one(other)
    store.apply(end(frozen))
    assert states(store) == ["claimed"]
    assert store.claim([held.sighting], lease_seconds=LEASE).claims == []
    assert len(other.apply(Changes(outcomes=[verdict(held)]))) == 1


def test_a_late_result_counts_while_nobody_took_over(store: Store) -> None:
    """A worker late past its lease is still believed if the film is still its own."""
    claim = claim_one(store, lease=-1)
    assert len(store.apply(Changes(outcomes=[verdict(claim)]))) == 1


def test_an_earlier_attempt_of_ones_own_is_not_believed(store: Store) -> None:
    """A worker that claimed a film again is believed for the new attempt alone."""
    first = claim_one(store, lease=-1)
    second = claim_one(store)
    assert store.apply(Changes(outcomes=[verdict(first)])) == []
    assert len(store.apply(Changes(outcomes=[verdict(second)]))) == 1


def test_what_one_asked_for_and_never_heard_of_is_given_again(store: Store) -> None:
    """If the database's answer to a claim was lost, asking again gets the film, not a wait.

    Its own beats keep that lease alive, so the film would never be free again.
    """
    lost = claim_one(store)
    store.beat(WorkerReport(), lease_seconds=LEASE)
    again = claim_one(store)
    assert (again.scan_id, again.attempt) == (lost.scan_id, 2)


def test_released_films_are_free_at_once(store: Store) -> None:
    """A film that is let go of can be claimed by anyone, with no crash held against it."""
    claim = claim_one(store)
    store.apply(Changes(released=[claim]))
    again = claim_one(worker(store.database, "ward-2"))
    assert (again.scan_id, again.attempt, again.crashes) == (claim.scan_id, 2, 0)


def test_crashes_are_counted(store: Store) -> None:
    """Each screener that a film ended is counted, for whoever claims the film next."""
    counted = []
    for _ in range(3):
        claim = claim_one(store)
        counted.append(claim.crashes)
        store.apply(Changes(crashed=[claim]))
    assert counted == [0, 1, 2]


def test_a_withdrawn_film_comes_as_a_new_scan(store: Store) -> None:
    """A sighting that came to nothing leaves no result, and the same file is a new scan later."""
    gone = claim_one(store)
    store.apply(Changes(withdrawn=[gone]))
    assert results(store) == []
    back = claim_one(store)
    assert back.scan_id != gone.scan_id
    assert (back.attempt, back.crashes) == (1, 0)


@pytest.mark.parametrize("keep", [True, False])
def test_a_film_that_stays_is_reported_as_kept(store: Store, keep: bool) -> None:  # noqa: FBT001
    """Where films stay in the inbox, a finished one is reported as such; else its row waits."""
    claim = claim_one(store)
    store.apply(Changes(outcomes=[verdict(claim)]), keep=keep)
    other = sighting("other.jpg")
    answer = worker(store.database, "ward-2").claim([claim.sighting, other], lease_seconds=LEASE)
    assert answer.kept == ([claim.sighting] if keep else [])
    assert [one.sighting for one in answer.claims] == [other]


@pytest.mark.parametrize(
    "change", [{"name": "b.jpg"}, {"size_bytes": 9}, {"mtime_ns": 9}, {"inode": 9}]
)
def test_anything_that_changes_is_another_sighting(store: Store, change: dict[str, Any]) -> None:
    """A file of another name, size, time or inode is another scan, though one is kept."""
    claim = claim_one(store)
    store.apply(Changes(outcomes=[verdict(claim)]), keep=True)
    answer = store.claim([sighting(**change)], lease_seconds=LEASE)
    assert len(answer.claims) == 1
    assert answer.kept == []


@pytest.mark.parametrize(
    "name",
    [
        b"scan-\xff\xfe.jpg",
        b"two\nlines\r.jpg",
        "röntgen-🩻.jpeg".encode(),
        b"back\\slash\\x41.jpg",
        b"'; DROP TABLE scans; --",
        b"%s %(name)s :name $1",
        b"-rf",
        b" ",
        b"\x01\x1b[31m",
        b"\xed\xa0\x80",
        b"x" * 251 + b".jpg",
        b"\xff" * 255,
    ],
    ids=ascii,
)
def test_names_survive(store: Store, name: bytes) -> None:
    """Whatever a file is called, the database gives back the same bytes."""
    claim = claim_one(store, sighting(spell(name)))
    assert bytes_of(claim.sighting.name) == name
    store.apply(Changes(outcomes=[verdict(claim)]))
    assert [bytes_of(row["file_name"]) for row in results(store)] == [name]
    [left] = store.unfiled(older_than_seconds=0, limit=10)
    assert left.sighting == claim.sighting


# Verdicts


def test_a_prediction_is_one_whole_row(store: Store) -> None:
    """A predicted film is one row, with all the model said and measured, and no refusal."""
    claim = claim_one(store)
    outcome = verdict(claim)
    [recorded] = store.apply(Changes(outcomes=[outcome]))
    [row] = results(store)
    said = outcome.verdict
    assert said is not None
    assert {name: row[name] for name in ("decision", "label", "probability", "confidence")} == {
        "decision": said.decision,
        "label": said.label,
        "probability": said.probability,
        "confidence": said.confidence,
    }
    assert (row["model_version"], row["threshold"]) == (manifest().version, said.threshold)
    assert (row["file_name"], row["sha256"]) == (claim.sighting.name, SHA256)
    assert [row[name] for name in row if name.startswith("refusal")] == [None] * 4
    assert not row["reused"]
    assert str(row["screened_at"]).startswith(recorded.day)
    assert row["received_at"] <= row["screened_at"]
    assert recorded.refusal is None


def test_a_refusal_is_one_row_of_nulls(store: Store) -> None:
    """A refused film is one row that says why, and holds nothing that was never computed."""
    outcome = refusal(claim_one(store))
    [recorded] = store.apply(Changes(outcomes=[outcome]))
    [row] = results(store)
    why = outcome.refusal
    assert why is not None
    assert row["refusal_code"] == why.code.value
    assert row["refusal_sentence"] == why.sentence
    assert (row["refusal_measured"], row["refusal_limit"]) == (why.measured, why.limit)
    computed = ("decision", "label", "probability", "confidence", "review_reason", "reused")
    assert {row[name] for name in (*computed, "model_version", "threshold")} == {None}
    assert recorded.refusal is why


def test_an_outcome_is_a_verdict_or_a_refusal(store: Store) -> None:
    """Nothing can be made that is both or neither."""
    claim = claim_one(store)
    both = verdict(claim)
    with pytest.raises(ValueError, match="a verdict or a refusal"):
        Outcome(claim=claim, facts=both.facts)
    with pytest.raises(ValueError, match="a verdict or a refusal"):
        Outcome(
            claim=claim,
            facts=both.facts,
            verdict=both.verdict,
            model=both.model,
            refusal=refusal(claim).refusal,
        )


def test_recording_twice_changes_nothing(store: Store) -> None:
    """If the answer to a commit was lost, doing it again makes no second prediction."""
    outcome = verdict(claim_one(store))
    assert len(store.apply(Changes(outcomes=[outcome]))) == 1
    assert store.apply(Changes(outcomes=[outcome])) == []
    assert len(query(store.database, "SELECT * FROM predictions")) == 1


def test_a_change_is_all_or_nothing(store: Store) -> None:
    """If one outcome cannot be recorded, none is, and nothing that came with it."""
    good, bad, released = (claim_one(store, one) for one in sightings(3))
    unknown = verdict(bad, version="never-registered")
    with pytest.raises(DatabaseTrouble):
        store.apply(Changes(outcomes=[verdict(good), unknown], withdrawn=[released]))
    assert states(store) == ["claimed"] * 3
    assert len(store.apply(Changes(outcomes=[verdict(good)]))) == 1


@pytest.mark.parametrize("version", ["drawn-1", "drawn-2"])
def test_the_tables_allow_one_prediction(store: Store, version: str) -> None:
    """Not even by hand can a scan get a second screening, by one model or by another."""
    store.register_model(manifest("drawn-2"))
    store.apply(Changes(outcomes=[verdict(claim_one(store))]))
    again = """INSERT INTO predictions (scan_id, model_version, preprocessing_version, origin,
        logit, probability, label, confidence, decision, threshold, predicted_at)
        SELECT scan_id, :version, preprocessing_version, origin, logit, probability, label,
        confidence, decision, threshold, predicted_at FROM predictions"""
    with pytest.raises(DatabaseTrouble, match=r"(?i)unique"):
        execute(store.database, again, version=version)


def test_the_tables_allow_one_open_scan(store: Store) -> None:
    """Not even by hand can a sighting be open twice."""
    claim_one(store)
    again = """INSERT INTO scans (file_name, size_bytes, mtime_ns, inode, state, worker,
        lease_until, attempt, received_at) SELECT file_name, size_bytes, mtime_ns, inode, state,
        worker, lease_until, attempt, received_at FROM scans"""
    with pytest.raises(DatabaseTrouble, match=r"(?i)unique"):
        execute(store.database, again)


def test_a_prediction_names_a_model_that_is_known(store: Store) -> None:
    """A prediction of a model that was never registered is not accepted."""
    with pytest.raises(DatabaseTrouble, match=r"(?i)foreign key"):
        store.apply(Changes(outcomes=[verdict(claim_one(store), version="unknown")]))


def test_what_was_said_of_the_same_bytes(store: Store) -> None:
    """A model is remembered by what it said of these bytes; another model said nothing yet."""
    asked = {SHA256, "0" * 64}
    assert store.earlier_scores(asked, "drawn-1") == {}
    for one in sightings(2):
        store.apply(Changes(outcomes=[verdict(claim_one(store, one), logit=-0.123456789)]))
    assert store.earlier_scores(asked, "drawn-1") == {SHA256: Score(logit=-0.123456789)}
    assert store.earlier_scores(asked, "drawn-2") == {}


# Filing


def test_unfiled_until_filed(store: Store) -> None:
    """A recorded scan is to be filed, and all it takes is known, until its place is."""
    first, second = (claim_one(store, one) for one in sightings(2))
    recorded = store.apply(Changes(outcomes=[verdict(first), refusal(second)]))
    unfiled = store.unfiled(older_than_seconds=0, limit=10)
    assert [vars_of(one) for one in unfiled] == [vars_of(one) for one in recorded]
    assert len(store.unfiled(older_than_seconds=0, limit=1)) == 1
    behind = store.unfiled(older_than_seconds=0, limit=1, after=first.scan_id)
    assert [one.scan_id for one in behind] == [second.scan_id]
    assert store.unfiled(older_than_seconds=0, limit=1, after=second.scan_id) == []
    assert store.unfiled(older_than_seconds=3600, limit=10) == []
    place = f"{recorded[0].day}/film.jpg"
    store.apply(Changes(filed=[(first.scan_id, place), (second.scan_id, None)]))
    assert store.unfiled(older_than_seconds=0, limit=10) == []
    assert [row["filed_as"] for row in results(store)] == [place, None]
    assert states(store) == ["filed", "filed"]


def vars_of(recorded: Any) -> dict[str, Any]:
    """Return a recorded scan's facts, its refusal's among them, comparable."""
    refused = recorded.refusal
    why = refused and (refused.code, refused.sentence, refused.measured, refused.limit)
    return {**vars(recorded), "refusal": why}


def test_only_what_is_recorded_is_filed(store: Store) -> None:
    """A scan that is only claimed, or filed already, is not filed by a late message."""
    claimed, filed = (claim_one(store, one) for one in sightings(2))
    store.apply(Changes(outcomes=[verdict(filed)]))
    store.apply(Changes(filed=[(filed.scan_id, "2026-01-01/a.jpg")]))
    store.apply(Changes(filed=[(claimed.scan_id, "x"), (filed.scan_id, "x")]))
    assert states(store) == ["claimed", "filed"]
    assert [row["filed_as"] for row in results(store)] == ["2026-01-01/a.jpg"]


def test_every_code_comes_back(store: Store) -> None:
    """A refusal read from the database for filing has the code it was recorded with."""
    claims = [claim_one(store, one) for one in sightings(len(RefusalCode))]
    outcomes = [refusal(claim, code) for claim, code in zip(claims, RefusalCode, strict=True)]
    store.apply(Changes(outcomes=outcomes))
    unfiled = store.unfiled(older_than_seconds=0, limit=100)
    assert [one.refusal.code for one in unfiled if one.refusal] == list(RefusalCode)


# Workers and models


def test_dead_workers_leave_their_films(store: Store) -> None:
    """What a dead worker had in hand is free at once; a living one's films are not."""
    dead, living = worker(store.database, "ward-dead"), worker(store.database, "ward-living")
    for one in (store, dead, living):
        one.beat(WorkerReport(), lease_seconds=LEASE)
    claim_one(dead, sighting("orphan"))
    claim_one(living, sighting("held"))
    assert {one.name for one in store.companions()} == {"ward-dead", "ward-living"}
    store.adopt_orphans([])
    store.adopt_orphans(["ward-dead"])
    answer = store.claim([sighting("orphan"), sighting("held")], lease_seconds=LEASE)
    assert [(one.sighting.name, one.attempt) for one in answer.claims] == [("orphan", 2)]
    assert {one.name for one in store.companions()} == {"ward-living"}


def test_companions_are_of_this_host(store: Store) -> None:
    """Whether a worker of another host lives cannot be seen from here, so it is not asked."""
    other = worker(store.database, "theatre-1", host="theatre")
    other.beat(WorkerReport(), lease_seconds=LEASE)
    assert store.companions() == []
    assert other.companions() == []


def test_a_worker_that_said_it_stopped_is_no_companion(store: Store) -> None:
    """A worker that ended as it should needs no looking after."""
    other = worker(store.database, "ward-2")
    other.beat(WorkerReport(), lease_seconds=LEASE, stopped=True)
    assert store.companions() == []


def test_beats_keep_leases(store: Store) -> None:
    """A beat renews what is held, and not what was lost, released, or is another's."""
    held, lost, released, others = sightings(4)
    claim_one(store, held)
    claim_one(store, lost, lease=-1)
    store.apply(Changes(released=[claim_one(store, released)]))
    claim_one(worker(store.database, "ward-2"), others, lease=-1)
    before = {row["file_name"]: row["lease_until"] for row in _leases(store)}
    store.beat(WorkerReport(backlog=3), lease_seconds=1e6)
    after = {row["file_name"]: row["lease_until"] for row in _leases(store)}
    assert {name for name in after if after[name] != before[name]} == {held.name}
    answer = worker(store.database, "ward-3").claim(sightings(4), lease_seconds=LEASE)
    assert {one.sighting.name for one in answer.claims} == {one.name for one in sightings(4)[1:]}


def _leases(store: Store) -> list[dict[str, Any]]:
    return query(store.database, "SELECT file_name, lease_until FROM scans")


def test_beats_say_how_it_stands(store: Store) -> None:
    """A worker's row holds its latest report, and when it began stays."""
    store.beat(WorkerReport(backlog=3), lease_seconds=LEASE)
    [before] = query(store.database, "SELECT * FROM workers")
    store.beat(WorkerReport(backlog=2), lease_seconds=LEASE)
    [after] = query(store.database, "SELECT * FROM workers")
    assert before["started_at"] == after["started_at"] <= after["beat_at"]
    assert before["beat_at"] < after["beat_at"]
    assert "2" in str(after["report"])
    assert after["stopped_at"] is None


def test_a_model_is_known_once(store: Store) -> None:
    """Registering a version again changes nothing: what its rows were made with stands."""
    store.register_model(manifest(threshold=0.65))
    [row] = query(store.database, "SELECT version, threshold FROM model_versions")
    assert row == {"version": manifest().version, "threshold": manifest().threshold}


def test_lapsed_claims_can_be_withdrawn(store: Store) -> None:
    """A claim that nobody holds is found and can be ended, unless someone took it meanwhile."""
    held, gone, taken = sightings(3)
    claim_one(store, held)
    lost = [claim_one(store, one, lease=-1) for one in (gone, taken)]
    lapsed = store.lapsed(limit=10)
    assert lapsed == [(claim.scan_id, claim.sighting) for claim in lost]
    assert store.lapsed(limit=10, after=lapsed[0][0]) == lapsed[1:]
    claim_one(worker(store.database, "ward-2"), taken)
    store.withdraw_lapsed([scan_id for scan_id, _ in lapsed])
    store.withdraw_lapsed([])
    assert states(store) == ["claimed", "withdrawn", "claimed"]


# When the database is away


@pytest.fixture(
    params=[
        "no server",
        "no such database",
        "folder removed",
        "not a database",
        "locked",
        "no tables",
        "no tables in postgres",
    ]
)
def away(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    open_database: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Store]:
    """Yield a store whose database cannot do its work."""
    monkeypatch.setattr("worker.db.engine._ANSWER_SECONDS", 0.1)
    path = tmp_path / "folder" / "lungwatch.db"
    url = f"sqlite:///{path}"
    path.parent.mkdir()
    holder: subprocess.Popen[bytes] | None = None
    match request.param:
        case "no server":
            url = f"postgresql+psycopg://postgres@/films?host={path.parent}"
        case "no such database":
            postgres: Postgres = request.getfixturevalue("postgres")
            url = postgres.url("no_such_database")
        case "folder removed":
            path.parent.rmdir()
        case "not a database":
            path.write_bytes(b"Dear colleague, this is a letter and no database.\n" * 100)
        case "locked":
            migrated = open_database(url)
            migrated.migrate()
            migrated.close()
            holder = _lock(path)
        case "no tables":
            sqlite3.connect(path).close()
        case "no tables in postgres":
            server: Postgres = request.getfixturevalue("postgres")
            url = server.url(server.create())
    yield worker(open_database(url))
    if holder is not None:
        holder.communicate(b"\n")


def _lock(path: Path) -> subprocess.Popen[bytes]:
    """Have another process hold the database for itself alone."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN EXCLUSIVE'); print(flush=True); sys.stdin.read(1)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


CLAIM = Claim(scan_id=1, sighting=sighting(), attempt=1, crashes=0)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.claim([sighting()], lease_seconds=LEASE),
        lambda store: store.apply(Changes(outcomes=[verdict(CLAIM)])),
        lambda store: store.apply(Changes(released=[CLAIM])),
        lambda store: store.earlier_scores({SHA256}, "drawn-1"),
        lambda store: store.unfiled(older_than_seconds=0, limit=1),
        lambda store: store.lapsed(limit=1),
        lambda store: store.withdraw_lapsed([1]),
        lambda store: store.adopt_orphans(["ward-2"]),
        lambda store: store.register_model(manifest()),
        lambda store: store.beat(WorkerReport(), lease_seconds=LEASE),
        lambda store: store.companions(),
    ],
    ids=lambda use: use.__code__.co_names[0],
)
def test_a_database_that_is_away_is_trouble_of_our_own(
    away: Store, use: Callable[[Store], Any]
) -> None:
    """Whatever is wrong with the database, every method says DatabaseTrouble, in one line."""
    with pytest.raises(DatabaseTrouble) as found:
        use(away)
    assert str(found.value)
    assert "\n" not in str(found.value)


def test_a_connection_that_was_cut_is_made_again(postgres: Postgres, open_database: Open) -> None:
    """When Postgres ends our connections, the next call makes a new one and works."""
    name = postgres.migrated()
    store = worker(open_database(postgres.url(name)))
    claim = claim_one(store)
    with pytest.raises(DatabaseTrouble):
        _cut_in_mid_transaction(postgres, name, store)
    assert store.claim([claim.sighting], lease_seconds=LEASE).claims
    _end_connections(postgres, name)
    assert store.unfiled(older_than_seconds=0, limit=1) == []


def _cut_in_mid_transaction(postgres: Postgres, name: str, store: Store) -> None:
    with store.database.writing() as connection:
        _end_connections(postgres, name)
        connection.exec_driver_sql("SELECT 1")


def _end_connections(postgres: Postgres, name: str) -> None:
    postgres.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )


def test_a_claim_waits_for_its_turn(database: Database, open_database: Open) -> None:
    """A database that is busy for a moment is waited for: two writers are no trouble."""
    other = open_database(database.url.render_as_string(hide_password=False))
    store, done = worker(database), threading.Event()

    def claim() -> None:
        claim_one(store)
        done.set()

    thread = threading.Thread(target=claim)
    with other.writing() as connection:
        connection.exec_driver_sql("UPDATE scans SET attempt = attempt")
        thread.start()
    thread.join(20)
    assert done.is_set()
