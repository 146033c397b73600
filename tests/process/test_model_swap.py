"""The model is changed while the worker runs: between films, by what passes its checks, or not."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from driver import Site, wait_for
from films import batch
from packages import change_manifest, copy_package, golden_bytes, read_golden, replace_file
from pools import Ward
from swaps import (
    check_rows_are_of_their_models,
    children,
    feed_until_serving,
    refuses,
    wait_until_serving,
)

from worker.db.engine import Database
from worker.db.scans import Store
from worker.errors import ScreenerTrouble
from worker.model.history import Kind
from worker.model.manifest import GOLDEN, SERVED
from worker.model.registry import CHAMPION, Registry
from worker.model.runtime import load, seconds_for_a_film
from worker.monitoring.events import Notice
from worker.screening.pool import NotServing, Serving
from worker.service.model_swap import ModelKeeper
from worker.system.processes import this_process

pytestmark = pytest.mark.slow

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path, shipped: Path) -> Iterator[Site]:
    """A place whose champion is `steady`."""
    place = Site(tmp_path)
    copy_package(shipped, place.models, version="steady")
    Registry(place.models).promote("steady")
    yield place
    place.end()


@pytest.fixture
def any_site(site: Site, database_url: str) -> Site:
    """The same place, on each database."""
    site.database_url = database_url
    return site


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a package that is sound, and takes many times as long over a film."""
    from training.evaluate.metrics import OperatingPoint
    from training.fit.network import Architecture, build_network
    from training.package import build

    side = 640
    architecture = Architecture(
        height=side, width=side, stem=16, stages=(32, 64), strides=(1, 2), dropout=0.0
    )
    exported = build.export(build_network(architecture), now=NOW)
    point = OperatingPoint(temperature=1.0, threshold=0.5, review_band=(0.4, 0.6))
    registry = Registry(tmp_path_factory.mktemp("slow"))
    staged = build.stage(registry, exported, point, training={}, now=NOW)
    return registry.publish(staged, exported.version)


def test_models_are_swapped_while_films_flow(any_site: Site, shipped: Path) -> None:
    """Swapped again and again under load: each film once, by one version, wholly by it.

    The versions differ in temperature, so that a film screened by one and judged by another would
    show. Films that come after a version serves are screened by it.
    """
    temperatures = {"warm": 0.7, "hot": 1.1}
    for version, temperature in temperatures.items():
        copy_package(shipped, any_site.models, version=version, temperature=temperature)
    any_site.settings["SCREENERS"] = "2"
    registry = Registry(any_site.models)
    worker = any_site.start()
    wait_until_serving(any_site, "steady")
    films = iter(batch(5000).items())
    dropped: dict[str, bytes] = {}

    def drop(count: int) -> set[str]:
        some = dict(islice(films, count))
        any_site.drop(some)
        dropped.update(some)
        return set(some)

    expected: list[tuple[set[str], set[str]]] = []  # films, and the versions that may have them
    before = "steady"
    for version in ("warm", "hot", "steady", "warm"):
        during = drop(10)
        registry.promote(version)
        during |= feed_until_serving(any_site, version, drop)
        after = drop(10)
        expected += [(during, {before, version}), (after, {version})]
        # What has come by now is screened before the next swap.
        any_site.wait_until_finished(len(dropped))
        before = version
    wait_for(lambda: len(children(worker.pid)) == 2, what="only the last version's screeners")
    assert any_site.stop(worker) == 0
    any_site.check_invariants(dropped)
    check_rows_are_of_their_models(any_site, dropped)
    rows = {row["file_name"]: row["model_version"] for row in any_site.results()}
    for names, versions in expected:
        assert {rows[name] for name in names} <= versions
    both = [names for names, _ in expected[::2] if len({rows[name] for name in names}) == 2]
    assert both, "films were screened by the old version and by the new one of one swap"
    recorded = any_site.query("SELECT version FROM promotions ORDER BY at, id")
    told = [one.version for one in registry.history() if one.kind is not Kind.SHIPPED]
    assert [row["version"] for row in recorded] == told


def spoil(folder: Path, harm: str) -> None:
    """Make a package unfit to serve, in one way."""
    if harm == "damaged":
        os.truncate(folder / SERVED, 1000)
    elif harm == "tampered with":
        weights = bytearray((folder / SERVED).read_bytes())
        weights[len(weights) // 2] ^= 1
        (folder / SERVED).write_bytes(weights)
    elif harm == "not what it was":
        golden = read_golden(folder)
        logits = golden | {"logits": golden["logits"] + 1}
        replace_file(folder, GOLDEN, golden_bytes(logits))
    elif harm == "of a newer format":
        change_manifest(folder, format=3)


def test_a_package_that_must_not_serve_is_refused(site: Site, shipped: Path, slow: Path) -> None:
    """One after the other, each is refused; the old one serves on, and `status` says why.

    Damaged, tampered with, another than its golden outputs tell, of a newer format, changed since
    it predicted rows, slower than its limit, or not there at all.
    """
    told_of = {
        "damaged": f"{SERVED} is not the file",
        "tampered with": f"{SERVED} is not the file",
        "not what it was": "golden output differs",
        "of a newer format": "format",
        "slow": "ms a film",
        "changed since": "its threshold differs from the one on record",
        "not there": "no model not-there",
    }
    # As far from the one as from the other, whatever this machine.
    fast, slower = (seconds_for_a_film(load(one)) for one in (shipped, slow))
    assert slower > 4 * fast
    site.settings["PREDICT_MILLISECONDS"] = f"{(fast * slower) ** 0.5 * 1000:.3f}"
    copy_package(shipped, site.models, version="changed-since")
    Registry(site.models).promote("changed-since")
    site.drop(batch(1, seed=99))
    site.call("run", "--once")
    change_manifest(site.models / "changed-since", threshold=0.25)
    Registry(site.models).promote("steady")
    dropped = batch(1, seed=99)
    site.start()
    for number, (harm, told) in enumerate(told_of.items()):
        wait_until_serving(site, "steady")
        version = harm.replace(" ", "-")
        if harm not in ("not there", "changed since"):
            source = slow if harm == "slow" else shipped
            spoil(copy_package(source, site.models, version=version), harm)
        # As if by a hand that checks nothing: the registry itself would refuse some.
        (site.models / CHAMPION).write_text(f"{version}\n", encoding="ascii")
        wait_for(partial(refuses, site, told), what=harm)
        status = site.call("status", status=1).stdout
        assert "model refused" in status
        assert told.split()[0] in status
        more = batch(3, seed=number)
        site.drop(more)
        dropped |= more
        site.wait_until_finished(len(dropped))
        Registry(site.models).promote("steady")
    wait_until_serving(site, "steady")
    site.call("status", status=0)
    site.check_invariants(dropped)
    rows = [row for row in site.results() if "-99-" not in row["file_name"]]
    assert {row["model_version"] for row in rows} == {"steady"}
    # Each is said once in the log, however often it was looked at.
    said = [json.loads(line) for line in site.log().splitlines() if '"model refused"' in line]
    assert [told in one["why"] for told, one in zip(told_of.values(), said, strict=True)] == (
        [True] * len(told_of)
    )


def test_a_mended_package_serves_once_it_is_promoted_again(site: Site, shipped: Path) -> None:
    """What was refused is not tried for ever; promoted once more, it is, and serves."""
    folder = copy_package(shipped, site.models, version="mended")
    whole = (folder / SERVED).read_bytes()
    spoil(folder, "damaged")
    site.start()
    wait_until_serving(site, "steady")
    (site.models / CHAMPION).write_text("mended\n", encoding="ascii")
    wait_for(partial(refuses, site, SERVED))
    (folder / SERVED).write_bytes(whole)
    site.call("models", "promote", "mended")
    wait_until_serving(site, "mended")


def test_an_upgrades_model_waits_and_the_log_says_so(site: Site, shipped: Path) -> None:
    """A shipped version that is not there yet is copied in, does not serve, and is said once."""
    for _ in range(2):
        site.start("--once").wait(60)
    assert Registry(site.models).versions() == sorted([shipped.name, "steady"])
    assert Registry(site.models).champion() == "steady"
    (line,) = [line for line in site.log().splitlines() if "shipped model" in line]
    assert json.loads(line)["model"] == shipped.name


def test_a_screener_killed_while_it_loads_does_not_condemn_the_model(
    site: Site, shipped: Path
) -> None:
    """Ended by something else while it loads, a package is tried again, and serves."""
    copy_package(shipped, site.models, version="unlucky")
    worker = site.start()
    wait_until_serving(site, "steady")
    before = children(worker.pid)
    Registry(site.models).promote("unlucky")
    newcomers = wait_for(lambda: children(worker.pid) - before, every=0.001)
    for newcomer in newcomers:
        os.kill(newcomer, 9)
    wait_until_serving(site, "unlucky")
    (line,) = [line for line in site.log().splitlines() if '"model refused"' in line]
    assert "ended before it served" in json.loads(line)["why"]


# Screeners that cannot be started, with what decides it alone: see test_scarcity.py for the worker


class Kept:
    """A keeper of `site`'s models with two real screeners, whose time goes as it is told."""

    def __init__(self, site: Site) -> None:
        """Start nothing yet."""
        self.database = Database(site.database_url)
        self.database.migrate()
        (site.root / "ward").mkdir()
        self.ward = Ward(site.root / "ward", count=2)
        self.registry = Registry(site.models)
        self.said: list[Notice] = []
        store = Store(self.database, this_process("ward"))
        self.keeper = ModelKeeper(self.registry, self.ward.pool, store, self.said.append)
        self.now = 0.0

    def mind(self, *, after_seconds: float = 1.0) -> None:
        """Have it look again, so much later, at which model should serve."""
        self.now += after_seconds
        self.keeper.mind(self.now)

    def mind_until_serving(self, version: str) -> None:
        """Have it look again and again, and hear its screeners, until this version serves."""

        def serves() -> bool:
            self.mind()
            for event in self.ward.pool.poll(0.1, self.now):
                assert isinstance(event, Serving | NotServing)
                self.keeper.take(event)
            return self.keeper.serving == version

        wait_for(serves, what=f"{version} serves")


@pytest.fixture
def kept(site: Site, shipped: Path) -> Iterator[Kept]:
    """Yield a keeper of `steady`, which is promoted, and of `newer` and `newest`."""
    for version in ("newer", "newest"):
        copy_package(shipped, site.models, version=version)
    kept = Kept(site)
    yield kept
    kept.ward.pool.close()
    kept.database.close()


def refuse_processes(patch: pytest.MonkeyPatch) -> None:
    """Have the system start none."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    patch.setattr(subprocess, "Popen", refuse)


def test_where_nothing_serves_it_stays_trouble(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries as well: else the log would say each second that all is well again."""
    with monkeypatch.context() as patch:
        refuse_processes(patch)
        for _ in range(20):
            with pytest.raises(ScreenerTrouble, match="no model can serve: steady: a screener"):
                kept.mind(after_seconds=0.2)
    with pytest.raises(ScreenerTrouble):  # until its screeners are up
        kept.mind(after_seconds=15)
    ready = wait_for(lambda: list(kept.ward.pool.poll(0.1, kept.now)))
    kept.keeper.take(ready[0])
    kept.mind()
    assert (kept.keeper.serving, kept.keeper.problem) == ("steady", None)


def test_a_model_that_was_given_up_for_another_is_tried_again(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While `newer` comes up `newest` is promoted, cannot be started, and is taken back."""
    kept.mind_until_serving("steady")
    kept.registry.promote("newer")
    kept.mind()
    with monkeypatch.context() as patch:
        refuse_processes(patch)
        kept.registry.promote("newest")
        kept.mind()
    assert "newest: a screener cannot be started" in str(kept.keeper.problem)
    kept.registry.promote("newer")
    kept.mind_until_serving("newer")
    assert kept.keeper.problem is None


def test_a_model_is_put_off_for_days(kept: Kept) -> None:
    """However often its screeners ended before it served: that is said once, and it serves."""
    kept.mind_until_serving("steady")
    kept.registry.promote("newer")
    ended = NotServing(package=kept.registry.folder("newer"), why="ended", proven=False)
    for _ in range(1100):  # once a minute
        kept.keeper.take(ended)
    assert len(kept.said) == 1
    kept.mind_until_serving("newer")
