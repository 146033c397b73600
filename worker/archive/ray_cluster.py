"""Screens an archive on a Ray cluster: Ray Data streams its films to actors that hold screeners.

Each actor is a `Backfill` of its own on the node where it runs. Rows are the checkpoint, as they
are on one machine: what a node that died had in hand is claimed again when its leases run out, and
what it had recorded is found so. The archive is seen under the same path on every node, and
Lungwatch is installed there; the model and the settings are brought along.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from worker.archive.backfill import Tally
from worker.archive.factory import model_in_service, open_screeners
from worker.archive.sources import fence_around
from worker.errors import DataError, ScreenerTrouble, SettingsError, not_installed
from worker.settings import Settings

_NAMES = 512  # in one task: seconds of work, which is what a node that dies can cost
_WAVE = 2048  # tasks: a million names are listed while the million before are screened
_SCREENERS = 4  # with an actor, and one connection to the database
_LOOK_SECONDS = 0.5  # between looks whether to stop
_CONNECT_SECONDS = 5.0
_COLUMN = "path"


@dataclass(frozen=True, kw_only=True)
class ActorSetup:
    """What an actor needs to bring its screeners up."""

    settings: Settings
    version: str  # of the model
    package: Any  # reference to its files: name to bytes
    root: Path
    screeners: int


class Screening:
    """What an actor holds for as long as it lives: screeners on the model that it was given."""

    def __init__(self, setup: ActorSetup) -> None:
        """Bring the screeners up on this node.

        Raises:
            DataError: the archive cannot be seen from here.
            LungwatchError: as `open_screeners` does.
        """
        if not setup.root.is_dir():
            raise DataError(f"{setup.root} is not to be seen from {socket.gethostname()}")
        import ray  # noqa: PLC0415 - see `Cluster`

        self._open = ExitStack()
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="lungwatch-")))
        package = folder / setup.version
        package.mkdir()
        for name, data in ray.get(setup.package).items():
            (package / name).write_bytes(data)
        # Processes of one name may tell each other dead, so a node's name is its own.
        node = ray.get_runtime_context().get_node_id()[:12]
        self._backfill = self._open.enter_context(
            open_screeners(
                setup.settings,
                package=package,
                root=setup.root,
                host=f"{socket.gethostname()}-{node}",
                count=setup.screeners,
                note=lambda trouble: print(f"waiting, {trouble}", file=sys.stderr, flush=True),  # noqa: T201
            )
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Screen films by their names, and return how many ended in each way."""
        before = asdict(self._backfill.tally)
        after = asdict(self._backfill.screen(batch[_COLUMN].tolist()))
        return {way: [count - before[way]] for way, count in after.items()}

    def __del__(self) -> None:
        """Let the screeners go: Ray has no other word for the end of what an actor holds."""
        with suppress(AttributeError):  # it never came up
            self._open.close()


class Cluster:
    """A Ray cluster that screens archives, for as long as the context lasts."""

    def __init__(self, settings: Settings, archive: Path, *, address: str | None) -> None:
        """Prepare to screen `archive` with the model in service.

        Args:
            settings: of this process; actors have the same.
            archive: a folder or a list, as `names_in` takes it.
            address: of a cluster, as `ray.init` takes it. None for the one that RAY_ADDRESS names
                or that runs here, else for one of this machine's cores alone.

        Raises:
            SettingsError: no model is there to serve, or the database is not one for many machines.
        """
        if settings.database_url.get_secret_value().startswith("sqlite"):
            raise SettingsError(
                "LUNGWATCH_DATABASE_URL names a SQLite file, and actors on other machines cannot "
                "write to it: a cluster needs Postgres. `--engine local` does with SQLite."
            )
        package = model_in_service(settings)
        self._settings = settings
        self._address = address
        self._root = fence_around(archive)
        self._version = package.name
        self._package = {one.name: one.read_bytes() for one in package.iterdir()}
        self._ended: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Join the cluster, or make one.

        Raises:
            SettingsError: Ray is not installed, or no cluster is at that address.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a clinic's box tells nobody
        try:
            import ray  # noqa: PLC0415 - only who has it needs it
            import ray.data  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError(f"`--engine ray` {not_installed('ray[data]')}") from error
        _look_for(self._address or os.environ.get("RAY_ADDRESS"))
        try:
            ray.init(address=self._address, logging_level="warning", namespace="lungwatch")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise SettingsError(f"no Ray cluster: {str(error).splitlines()[0]}") from error
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it raises as well
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the cluster; what was made for this process alone ends with it."""
        import ray  # noqa: PLC0415

        logging.getLogger("ray").setLevel(logging.CRITICAL)  # what is cut short complains of it
        ray.shutdown()

    @property
    def tally(self) -> Tally:
        """What became of films so far."""
        return Tally(**self._ended)

    def screen(
        self,
        names: Iterable[str],
        *,
        progress: Callable[[Tally], object] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Screen films by their whole paths, and return what became of all so far.

        Raises:
            ScreenerTrouble: no actor comes up, or Ray itself fails.
        """
        left = iter(names)
        while not stopped() and (wave := list(islice(_tables(left), _WAVE))):
            for ended in self._screened(wave, stopped):
                self._ended.update(ended)
                progress(self.tally)
        return self.tally

    def _screened(self, tables: list[Any], stopped: Callable[[], bool]) -> Iterator[dict[str, int]]:
        """Yield how many films ended in each way, task by task."""
        results: queue.Queue[dict[str, int] | BaseException | None] = queue.Queue()

        # Ray is waited for beside the loop: one that waits for a database must hear of a stop.
        def run() -> None:
            try:
                for batch in self._stream(tables):
                    results.put({way: int(counts.sum()) for way, counts in batch.items()})
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                results.put(error)
            else:
                results.put(None)

        threading.Thread(target=run, daemon=True).start()
        while not stopped():
            try:
                result = results.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if result is None:
                return
            if isinstance(result, BaseException):
                raise ScreenerTrouble(f"the cluster gave up: {_in_short(result)}") from result
            yield result

    def _stream(self, tables: list[Any]) -> Iterator[dict[str, Any]]:
        import ray  # noqa: PLC0415

        cores = [int(cpus) for node in ray.nodes() if (cpus := _cores(node)) >= 1]
        if not cores:
            raise ScreenerTrouble("the cluster has no node with a core to give")
        screeners = self._settings.screeners or min(_SCREENERS, *cores)
        if screeners > max(cores):
            raise SettingsError(
                f"LUNGWATCH_SCREENERS is {screeners}, and no node of the cluster has more than "
                f"{max(cores)} cores: an actor of so many screeners would never come up"
            )
        setup = ActorSetup(
            settings=self._settings,
            version=self._version,
            package=ray.put(self._package),
            root=self._root,
            screeners=screeners,
        )
        actors = max(1, sum(count // screeners for count in cores))
        done = ray.data.from_arrow(tables).map_batches(
            Screening,
            fn_constructor_args=(setup,),
            batch_size=None,
            num_cpus=screeners,
            compute=ray.data.ActorPoolStrategy(
                min_size=1, initial_size=actors, max_tasks_in_flight_per_actor=2
            ),
        )
        yield from done.iter_batches(batch_size=None, batch_format="numpy")


def _look_for(address: str | None) -> None:
    """Find that a cluster listens at an address: Ray itself looks for minutes."""
    if address in (None, "", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise SettingsError(f"no Ray cluster: its address is {address!r}, and not host:port")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SettingsError(f"no Ray cluster at {address}: {error}") from error


def _in_short(error: BaseException) -> str:
    """Return what an actor raised: the last line of the trace that Ray brings."""
    last = [line for line in str(error).splitlines() if line.strip()][-1]
    return last.removeprefix("worker.errors.")


def _cores(node: dict[str, Any]) -> float:
    return node["Resources"].get("CPU", 0.0) if node["Alive"] else 0.0


def _tables(names: Iterator[str]) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415

    while some := list(islice(names, _NAMES)):
        yield pa.table({_COLUMN: some})
