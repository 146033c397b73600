"""Screens an archive on a Ray cluster: Ray Data streams films to actors that run screeners.

Each actor runs a `Backfill` on its node. Rows are the checkpoint: films that a dead node had in
hand are claimed again when its leases run out, and films it had recorded are found done. All nodes
must see the archive under the same path and have Lungwatch installed. The actors get model and
settings from here.
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

_NAMES = 512  # per task: seconds of work, which is what a dead node can cost
_WAVE = 2048  # tasks: the next million names are listed while one million are screened
_SCREENERS = 4  # per actor, with one connection to the database
_LOOK_SECONDS = 0.5  # between checks for a stop
_CONNECT_SECONDS = 5.0
_COLUMN = "path"


@dataclass(frozen=True, kw_only=True)
class ActorSetup:
    """What an actor needs to start its screeners."""

    settings: Settings
    version: str  # of the model
    package: Any  # reference to its files, bytes by name
    root: Path
    screeners: int


class Screening:
    """The state of an actor: screeners on the model that it was given."""

    def __init__(self, setup: ActorSetup) -> None:
        """Start the screeners on this node.

        Raises:
            DataError: the archive is not visible from this node.
            LungwatchError: as `open_screeners`.
        """
        if not setup.root.is_dir():
            raise DataError(f"{setup.root} is not visible from {socket.gethostname()}")
        import ray  # noqa: PLC0415 - see `Cluster`

        self._open = ExitStack()
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="lungwatch-")))
        package = folder / setup.version
        package.mkdir()
        for name, data in ray.get(setup.package).items():
            (package / name).write_bytes(data)
        # Each node needs its own host name, because workers of one host declare each other dead.
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
        """Screen films by their names, and return the number with each outcome."""
        before = asdict(self._backfill.tally)
        after = asdict(self._backfill.screen(batch[_COLUMN].tolist()))
        return {way: [count - before[way]] for way, count in after.items()}

    def __del__(self) -> None:
        """Stop the screeners. Ray offers no other hook for an actor's end."""
        with suppress(AttributeError):  # the constructor failed
            self._open.close()


class Cluster:
    """A Ray cluster that screens archives while the context lasts."""

    def __init__(self, settings: Settings, archive: Path, *, address: str | None) -> None:
        """Prepare to screen `archive` with the model in service.

        Args:
            settings: of this process, also used by the actors.
            archive: a folder or a list, as for `names_in`.
            address: of a cluster, as for `ray.init`. None for the cluster that RAY_ADDRESS names or
                that runs here, else for a new one of this machine's cores.

        Raises:
            SettingsError: there is no model to serve, or the database is SQLite.
        """
        if settings.database_url.get_secret_value().startswith("sqlite"):
            raise SettingsError(
                "LUNGWATCH_DATABASE_URL is a SQLite file, which other machines cannot write to: "
                "a cluster needs Postgres. With SQLite use `--engine local`."
            )
        package = model_in_service(settings)
        self._settings = settings
        self._address = address
        self._root = fence_around(archive)
        self._version = package.name
        self._package = {one.name: one.read_bytes() for one in package.iterdir()}
        self._ended: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Connect to the cluster, or start one.

        Raises:
            SettingsError: Ray is not installed, or there is no cluster at that address.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
        try:
            import ray  # noqa: PLC0415 - optional
            import ray.data  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError(f"`--engine ray` {not_installed('ray[data]')}") from error
        _look_for(self._address or os.environ.get("RAY_ADDRESS"))
        try:
            ray.init(address=self._address, logging_level="warning", namespace="lungwatch")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise SettingsError(f"no Ray cluster: {str(error).splitlines()[0]}") from error
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised too
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the cluster. One that was started for this process ends."""
        import ray  # noqa: PLC0415

        logging.getLogger("ray").setLevel(logging.CRITICAL)  # else it warns of interrupted tasks
        ray.shutdown()

    @property
    def tally(self) -> Tally:
        """The outcomes so far."""
        return Tally(**self._ended)

    def screen(
        self,
        names: Iterable[str],
        *,
        progress: Callable[[Tally], object] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Screen films by their absolute paths, and return all outcomes so far.

        Raises:
            ScreenerTrouble: no actor starts, or Ray fails.
        """
        left = iter(names)
        while not stopped() and (wave := list(islice(_tables(left), _WAVE))):
            for ended in self._screened(wave, stopped):
                self._ended.update(ended)
                progress(self.tally)
        return self.tally

    def _screened(self, tables: list[Any], stopped: Callable[[], bool]) -> Iterator[dict[str, int]]:
        """Yield the number of films with each outcome, task by task."""
        results: queue.Queue[dict[str, int] | BaseException | None] = queue.Queue()

        # Ray runs in a thread of its own, so that a stop is noticed while tasks wait.
        def run() -> None:
            try:
                for batch in self._stream(tables):
                    results.put({way: int(counts.sum()) for way, counts in batch.items()})
            except Exception as error:  # noqa: BLE001 - raised in the loop below
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
                raise ScreenerTrouble(f"the cluster failed: {_in_short(result)}") from result
            yield result

    def _stream(self, tables: list[Any]) -> Iterator[dict[str, Any]]:
        import ray  # noqa: PLC0415

        cores = [int(cpus) for node in ray.nodes() if (cpus := _cores(node)) >= 1]
        if not cores:
            raise ScreenerTrouble("the cluster has no node with a free core")
        screeners = self._settings.screeners or min(_SCREENERS, *cores)
        if screeners > max(cores):
            raise SettingsError(
                f"LUNGWATCH_SCREENERS is {screeners}, and no node of the cluster has more than "
                f"{max(cores)} cores: an actor with so many screeners would never start"
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
    """Check that something listens at the address, because Ray itself would try for minutes."""
    if address in (None, "", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise SettingsError(f"no Ray cluster: its address is {address!r}, not host:port")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SettingsError(f"no Ray cluster at {address}: {error}") from error


def _in_short(error: BaseException) -> str:
    """Return an actor's error: the last line of Ray's traceback."""
    last = [line for line in str(error).splitlines() if line.strip()][-1]
    return last.removeprefix("worker.errors.")


def _cores(node: dict[str, Any]) -> float:
    return node["Resources"].get("CPU", 0.0) if node["Alive"] else 0.0


def _tables(names: Iterator[str]) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415

    while some := list(islice(names, _NAMES)):
        yield pa.table({_COLUMN: some})
