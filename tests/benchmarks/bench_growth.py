"""Does it stay as fast with a million films waiting, a million archived, or ten million rows?

    python tests/benchmarks/bench_growth.py backlog [--films 10000 100000 1000000] [--window 20000]
    python tests/benchmarks/bench_growth.py idle [--archived 1000000] [--seconds 60]
    python tests/benchmarks/bench_growth.py rows [--rows 10000000] [--database sqlite|postgres]

`backlog` has so many small films wait (hard links to a few, each another sighting), and measures on
the first of them: the time from readiness to the first row, films a second, the most memory that
each process took, and system calls a film. `idle` watches a worker with nothing to do. `rows` fills
the tables, times what a person asks of them, and shows how the database finds it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import films
import stages
from bench_worker import _database
from driver import Site, wait_for
from scans import manifest
from sqlalchemy import text

from worker.db.engine import Database
from worker.db.results import Query, Results, _page
from worker.db.scans import register_model
from worker.db.status import read_status

_LINKS = 50_000  # hard links that one file may have, with room to spare
_DAYS = 1000  # over which rows are spread
_ASKED = 20  # times


# A backlog


def backlog(asked: argparse.Namespace) -> None:
    """Measure with few films waiting and with many, in turn."""
    print(
        f"{'waiting':>10} {'first row':>10} {'films/s':>9} {'calls/film':>11} "
        f"{'worker MB':>10} {'screener MB':>12}"
    )
    for count in asked.films:
        with tempfile.TemporaryDirectory(prefix="lungwatch-growth-", dir=asked.folder) as folder:
            site = Site(Path(folder), settings={"SETTLE_SECONDS": "0"})
            site.call("run", "--once")
            _link(site, count)
            _measure_backlog(site, count, min(count, asked.window))


def _link(site: Site, count: int) -> None:
    names = iter(range(count))
    for number, data in enumerate(films.small_batch(-(-count // _LINKS)).values()):
        first = site.root / f"film-{number}"
        first.write_bytes(data)
        for index, name in zip(range(_LINKS), names, strict=False):
            del index
            os.link(first, site.inbox / f"film-{name}.jpg")


def _measure_backlog(site: Site, count: int, window: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(site.root / "notify"))
        site.variables["NOTIFY_SOCKET"] = str(site.root / "notify")
        worker = site.start()
        while b"READY=1" not in listener.recv(4096):
            pass
    ready = time.monotonic()
    rows = _Rows(site)
    wait_for(lambda: rows.count() > 0, every=0.01)
    first = time.monotonic() - ready
    wait_for(lambda: rows.count() >= window // 10, seconds=600, every=0.05)
    start, done = time.monotonic(), rows.count()
    wait_for(lambda: rows.count() >= window * 7 // 10, seconds=3600, every=0.05)
    rate = (rows.count() - done) / (time.monotonic() - start)
    done = rows.count()
    calls = _calls(worker.pid, seconds=1.0)
    calls_of = rows.count() - done
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    most = max(_peak_mb(int(child)) for child in children)
    print(
        f"{count:>10,} {first:>8.2f} s {rate:>9.0f} {calls / max(1, calls_of):>11.1f} "
        f"{_peak_mb(worker.pid):>10.0f} {most:>12.0f}",
        flush=True,
    )
    site.stop(worker)


class _Rows:
    """How many films have their row, by their number alone: a look costs the same however many."""

    def __init__(self, site: Site) -> None:
        self._database = Database(site.database_url)

    def count(self) -> int:
        with self._database.reading() as connection:
            return connection.scalar(text("SELECT max(id) FROM predictions")) or 0


def _calls(pid: int, *, seconds: float) -> int:
    """Count the system calls that a worker and its screeners make for so long."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    command = ["timeout", str(seconds), "strace", "-c", "-f", "-q"]
    for one in (str(pid), *children):
        command += ["-p", one]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    found = re.search(r"^100\.00\s+\S+\s+\d+\s+(\d+)", told, re.MULTILINE)
    return int(found[1]) if found else 0


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


# Idle


def idle(asked: argparse.Namespace) -> None:
    """Watch a worker that has nothing to do, beside an archive of so many films."""
    with tempfile.TemporaryDirectory(prefix="lungwatch-growth-", dir=asked.folder) as folder:
        site = Site(Path(folder), settings={"SETTLE_SECONDS": "1", "SCAN_SECONDS": "10"})
        day = site.archive / "2026-01-01"
        day.mkdir(parents=True)
        for number in range(asked.archived):
            (day / f"film-{number}.jpg").touch()
        worker = site.start()
        wait_for(lambda: site.finished() == 0 and (site.root / "lungwatch.db").exists())
        time.sleep(10)
        before, memory = stages.used(worker.pid), _resident_mb(worker.pid)
        time.sleep(asked.seconds)
        after = stages.used(worker.pid)
        spent = after.parent + after.screeners - before.parent - before.screeners
        share = spent / (after.clock - before.clock)
        grown = _resident_mb(worker.pid) - memory
        print(f"{asked.archived:,} archived: {share:.2%} of a core, memory {grown:+.2f} MB")
        site.stop(worker)


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# Rows


def rows(asked: argparse.Namespace) -> None:
    """Fill the tables, and time what a person asks of them."""
    with (
        tempfile.TemporaryDirectory(prefix="lungwatch-growth-", dir=asked.folder) as folder,
        _database(asked.database) as url,
    ):
        database = Database(url or f"sqlite:///{folder}/lungwatch.db")
        database.migrate()
        register_model(database, manifest())
        start = time.monotonic()
        _fill(database, asked.rows)
        print(f"{asked.rows:,} rows in {time.monotonic() - start:.0f} s", flush=True)
        _ask(database, asked.rows)
        database.close()


def _fill(database: Database, count: int) -> None:
    """Make rows of films screened over a thousand days, in one statement for each table."""
    numbers = (
        f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
        "SELECT i FROM n)"
        if database.is_sqlite
        else f"(SELECT generate_series(1, {count}) AS i)"
    )
    first = datetime.now(UTC) - timedelta(days=_DAYS)
    step = _DAYS * 86400 / count
    if database.is_sqlite:
        moment = f"strftime('%Y-%m-%d %H:%M:%f000', {first.timestamp()} + i * {step}, 'unixepoch')"
        digest = "lower(hex(randomblob(32)))"
    else:
        moment = f"to_timestamp({first.timestamp()} + i * {step})"
        digest = "md5(random()::text) || md5(random()::text)"
    refused = "CASE WHEN i % 1000 = 0 THEN 'damaged' END"
    with database.writing() as filling:
        if not database.is_sqlite:
            filling.execute(text("SET LOCAL statement_timeout = 0"))
            client: Any = filling.connection.driver_connection
            client.answer_seconds = 1e9
        filling.execute(
            text(
                "INSERT INTO scans (file_name, size_bytes, mtime_ns, inode, state, worker, "
                "lease_until, attempt, received_at, screened_at, filed_at, filed_as, sha256, "
                "width, height, contrast, refusal_code) "
                "SELECT 'film-' || i || '.jpg', 200000 + i % 100000, i, i, 'filed', 'ward', "
                f"{moment}, 1, {moment}, {moment}, {moment}, '2026-01-01/film-' || i || '.jpg', "
                f"{digest}, 1440, 1100, 50.0, {refused} FROM {numbers} AS numbers".replace(
                    ":", "\\:"
                )
            )
        )
        filling.execute(
            text(
                "INSERT INTO predictions (scan_id, model_version, preprocessing_version, origin, "
                "reused, logit, probability, label, confidence, decision, threshold, "
                "predicted_at, prevalence) "
                "SELECT id, 'drawn-1', '1', 'screening', false, 1.0, 0.7, 'PNEUMONIA', 0.7, "
                "CASE id % 10 WHEN 0 THEN 'REVIEW' WHEN 1 THEN 'NORMAL' ELSE 'PNEUMONIA' END, "
                "0.6, screened_at, 0.5 FROM scans WHERE refusal_code IS NULL"
            )
        )
    if not database.is_sqlite:  # what autovacuum does by itself
        import psycopg

        at = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(at, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")


def _ask(database: Database, count: int) -> None:
    reader = Results(database)
    middle = random.Random(1).randrange(count // 3, count // 2)
    questions = {
        "results": Query(),
        "results --decision REVIEW": Query(decision="REVIEW"),
        "results --refused": Query(refused=True),
        "results --since 7d": Query(since=datetime.now(UTC) - timedelta(days=7)),
        "results --since 2999-01-01": Query(since=datetime(2999, 1, 1, tzinfo=UTC)),
        "results --before SCAN": Query(before=middle),
        "results --before SCAN --decision NORMAL": Query(before=middle, decision="NORMAL"),
    }
    _time("status", lambda: read_status(database))
    for name, query in questions.items():
        _time(name, lambda query=query: list(reader.find(query)))
        _plan(database, query)
    from worker.db.lookup import find_scans

    def find() -> object:
        with database.reading() as connection:
            return find_scans(connection, {f"film-{middle}.jpg"})

    _time("a scan by its file's name", find)


def _time(name: str, ask: object) -> None:
    took = []
    for _ in range(_ASKED):
        start = time.perf_counter()
        ask()  # type: ignore[operator]
        took.append(1000 * (time.perf_counter() - start))
    print(f"{name:<42} {statistics.median(took):>8.1f} ms, at most {max(took):.1f}", flush=True)


def _plan(database: Database, query: Query) -> None:
    with database.reading() as connection:
        statement = str(_page(query).compile(connection, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        found = connection.execute(text(explain + statement.replace(":", "\\:")))
        for row in found:
            print(f"    {row[-1]}")


def _arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="on the disk that is to be measured")
    what = parser.add_subparsers(required=True)
    waiting = what.add_parser("backlog")
    waiting.add_argument("--films", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    waiting.add_argument("--window", type=int, default=10_000, help="films to measure on")
    waiting.set_defaults(measure=backlog)
    nothing = what.add_parser("idle")
    nothing.add_argument("--archived", type=int, default=1_000_000)
    nothing.add_argument("--seconds", type=float, default=60.0)
    nothing.set_defaults(measure=idle)
    table = what.add_parser("rows")
    table.add_argument("--rows", type=int, default=10_000_000)
    table.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    table.set_defaults(measure=rows)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    given = _arguments()
    given.measure(given)
