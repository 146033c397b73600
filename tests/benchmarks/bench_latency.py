"""How long a film takes from its last byte to its row, when films come at a steady rate.

    python tests/benchmarks/bench_latency.py [--rate 50] [--films 1500] [--full-size]

Films are written in place, and written aside and moved in, by turns. What is timed is from the
last byte written, or from the move, until another reader of the database can see the row; of films
written in place the settle time is taken off, as nothing can be known before it is over.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import films
from bench_worker import pictures_at_hand
from driver import Site, wait_for
from swaps import report

_SETTLE = 0.2  # seconds
_LOOK = 0.002  # seconds between looks at the database


class Reader:
    """Sees rows as they are committed."""

    def __init__(self, path: Path) -> None:
        """Look at a SQLite file until told to stop."""
        self.seen: dict[str, float] = {}  # file name -> monotonic seconds
        self.over = threading.Event()
        self._path = path
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self.over.set()
        self._thread.join()

    def _look(self) -> None:
        connection = sqlite3.connect(self._path, timeout=5)
        version, last = None, 0
        while not self.over.wait(_LOOK):
            now = time.monotonic()
            found = connection.execute("PRAGMA data_version").fetchone()
            if found == version:
                continue
            version = found
            rows = connection.execute(
                "SELECT p.id, s.file_name FROM predictions p JOIN scans s ON s.id = p.scan_id "
                "WHERE p.id > ?",
                (last,),
            ).fetchall()
            for number, name in rows:
                self.seen[name] = now
                last = max(last, number)


def main(asked: argparse.Namespace) -> None:
    """Drop films and print what they took."""
    pictures = (
        pictures_at_hand()
        if asked.full_size
        else [films.jpeg(films.draw(seed, width=300, height=240)) for seed in range(16)]
    )
    with tempfile.TemporaryDirectory(prefix="lungwatch-latency-") as folder:
        site = Site(Path(folder), settings={"SETTLE_SECONDS": str(_SETTLE), "SCAN_SECONDS": "10"})
        worker = site.start()
        wait_for(lambda: report(site).get("model"), what="a model serves")
        reader = Reader(site.root / "lungwatch.db")
        dropped = _drop(site, pictures, asked)
        wait_for(lambda: len(reader.seen) >= len(dropped), seconds=120, what="all rows seen")
        reader.stop()
        site.stop(worker)
    for kind, settle in (("placed", _SETTLE), ("moved", 0.0)):
        took = sorted(
            1000 * (reader.seen[name] - moment - settle)
            for name, moment in dropped.items()
            if name.startswith(kind)
        )
        cuts = statistics.quantiles(took, n=100)
        print(
            f"{kind:>6}: {len(took)} films at {asked.rate:g} a second, ms to the row: "
            f"median {cuts[49]:.0f}, 95th percentile {cuts[94]:.0f}, 99th {cuts[98]:.0f}, "
            f"longest {took[-1]:.0f}"
        )


def _drop(site: Site, pictures: list[bytes], asked: argparse.Namespace) -> dict[str, float]:
    dropped: dict[str, float] = {}
    due = time.monotonic()
    for number in range(asked.films):
        data = films.with_comment(pictures[number % len(pictures)], b"%d" % number)
        due += 1 / asked.rate
        time.sleep(max(0.0, due - time.monotonic()))
        if number % 2:
            name = f"moved-{number}.jpeg"
            (site.root / name).write_bytes(data)
            (site.root / name).rename(site.inbox / name)
        else:
            name = f"placed-{number}.jpeg"
            (site.inbox / name).write_bytes(data)
        dropped[name] = time.monotonic()
    return dropped


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=50.0, help="films a second")
    parser.add_argument("--films", type=int, default=1500)
    parser.add_argument("--full-size", action="store_true", help="the originals in shared/data")
    main(parser.parse_args())
