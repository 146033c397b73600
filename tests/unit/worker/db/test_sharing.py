"""The rows by which workers share an inbox: who lists, what is on offer, who takes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from databases import execute, query
from scans import manifest, sighting, sightings, worker

from worker.db.engine import Database
from worker.db.scans import Store
from worker.db.sharing import Crew, Sharing
from worker.db.status import read_status
from worker.types import Changes, Claim, WorkerReport

Open = Callable[[str], Database]
LEASE = 60.0


@pytest.fixture
def store(database: Database) -> Store:
    """Return the store of the first worker."""
    store = worker(database, "ward-1")
    store.register_model(manifest())
    return store


def beat(
    database: Database, name: str, *, stopped: bool = False, trouble: str | None = None
) -> None:
    """Let a worker say how it is."""
    worker(database, name).beat(WorkerReport(trouble=trouble), lease_seconds=LEASE, stopped=stopped)


def crews(database: Database, *names: str) -> list[Crew]:
    """Return what each of the workers sees."""
    return [Sharing(worker(database, name)).crew(lease_seconds=LEASE) for name in names]


def take(store: Store, most: int = 100, but: tuple[str, ...] = ()) -> list[Claim]:
    """Take what is on offer."""
    return Sharing(store).take(most, but=but, lease_seconds=LEASE)


# Who lists


def test_alone_a_worker_lists(database: Database) -> None:
    """One that has not even given a sign of life yet lists, and helps nobody."""
    assert crews(database, "ward-1") == [Crew(others=0, lists=True)]


def test_the_one_that_has_been_there_longest_lists(database: Database) -> None:
    """Of three, the first; they all see it so."""
    names = ("ward-2", "ward-1", "ward-3")
    for name in names:
        beat(database, name)
    one, other = Crew(others=2, lists=True), Crew(others=2, lists=False)
    assert crews(database, *names) == [one, other, other]


@pytest.mark.parametrize("how", ["stopped", "silent", "in trouble"])
def test_another_lists_when_it_no_longer_can(database: Database, how: str) -> None:
    """Stopped, silent for longer than a lease, or troubled itself, it is not relied on."""
    beat(database, "ward-1")
    beat(database, "ward-2")
    assert [one.lists for one in crews(database, "ward-1", "ward-2")] == [True, False]
    if how == "silent":
        execute(database, "UPDATE workers SET beat_at = '2020-01-01' WHERE name LIKE 'ward-1%'")
    else:
        trouble = "storage: the inbox cannot be listed" if how == "in trouble" else None
        beat(database, "ward-1", stopped=how == "stopped", trouble=trouble)
    assert crews(database, "ward-2") == [Crew(others=0, lists=True)]


# Offers


def test_an_offer_becomes_a_claim_of_one(store: Store, database: Database) -> None:
    """What is offered is claimed by whoever asks, as if it had found it itself, and by no other."""
    films = sightings(5)
    assert Sharing(store).offer(films, most=100) == 5
    other = worker(database, "ward-2")
    taken = take(other)
    assert [claim.sighting for claim in taken] == films
    assert {(claim.attempt, claim.crashes) for claim in taken} == {(1, 0)}
    assert take(store) == []
    assert store.claim(films, lease_seconds=LEASE).claims == []
    assert other.claim(films[:1], lease_seconds=LEASE).claims, "it holds what it took"


def test_no_more_is_on_offer_than_there_is_use_for(store: Store) -> None:
    """Offers that nobody has taken count."""
    sharing = Sharing(store)
    films = sightings(30)
    assert sharing.offer(films, most=20) == 20
    assert sharing.offer(films[20:], most=20) == 0
    told = read_status(store.database)
    assert (told.offered, told.claimed) == (20, 0)
    assert len(take(store, 5)) == 5
    assert sharing.offer(films[20:], most=20) == 5


def test_what_is_known_is_not_offered(store: Store, database: Database) -> None:
    """A film that somebody holds stays theirs; one let go of is not on offer, but to be claimed."""
    held, freed = sightings(2)
    [claim, other] = store.claim([held, freed], lease_seconds=LEASE).claims
    store.apply(Changes(released=[other]))
    assert Sharing(store).offer([held, freed], most=100) == 2
    assert take(worker(database, "ward-2")) == []
    assert claim.scan_id != other.scan_id
    assert len(query(database, "SELECT 1 FROM scans")) == 2


def test_whoever_lists_may_claim_what_is_on_offer(store: Store) -> None:
    """An offer keeps nobody from a film that it sees itself."""
    Sharing(store).offer([sighting()], most=100)
    [claim] = store.claim([sighting()], lease_seconds=LEASE).claims
    assert claim.attempt == 1
    assert take(store, but=(claim.sighting.name,)) == []


def test_names_in_hand_are_left(store: Store) -> None:
    """A worker does not take a film of a name that it is busy with."""
    one, other = sightings(2)
    Sharing(store).offer([one, other], most=100)
    assert [claim.sighting for claim in take(store, but=(one.name,))] == [other]


def test_an_answer_lost_on_the_way(store: Store, database: Database) -> None:
    """Taken, and the worker was not told: it has it when it next looks, and nobody else before."""
    one, other, freed = sightings(3)
    Sharing(store).offer([one, other, freed], most=100)
    lost = take(store)
    assert take(worker(database, "ward-2")) == []
    store.apply(Changes(released=[claim for claim in lost if claim.sighting == freed]))
    assert [(claim.sighting, claim.attempt) for claim in take(store, but=(other.name,))] == [
        (one, 2)
    ]


def test_many_take_each_once(database: Database, open_database: Open) -> None:
    """Workers that take at once get different films, and between them all."""
    films = sightings(150)
    url = database.url.render_as_string(hide_password=False)
    stores = [worker(open_database(url), f"ward-{i}") for i in range(4)]
    Sharing(stores[0]).offer(films, most=1000)
    gate = threading.Barrier(len(stores))

    def take_all(store: Store) -> list[Claim]:
        gate.wait()
        taken: list[Claim] = []
        while more := take(store, 20, but=tuple(claim.sighting.name for claim in taken)):
            taken.extend(more)
        return taken

    with ThreadPoolExecutor(len(stores)) as threads:
        claims = [claim for got in threads.map(take_all, stores) for claim in got]
    held = tuple(claim.sighting.name for claim in claims)
    claims.extend(take(stores[0], but=held))  # what another was about to take and then did not
    assert sorted(claim.sighting.name for claim in claims) == sorted(one.name for one in films)
    assert {claim.attempt for claim in claims} == {1}
