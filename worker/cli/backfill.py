"""`lungwatch backfill`: screens an archive in place, without moving files."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from worker.archive.backfill import Backfill, Tally
from worker.archive.factory import open_backfill
from worker.archive.ray_cluster import Cluster
from worker.archive.sources import names_in
from worker.cli import common
from worker.cli.failure import fail
from worker.errors import LungwatchError
from worker.system.processes import stop_flag
from worker.system.progress import bar

_LINE_SECONDS = 30.0  # between lines, if standard error is not a terminal


class Engine(StrEnum):
    """What screens an archive."""

    LOCAL = "local"
    RAY = "ray"


def backfill(
    archive: Annotated[
        Path,
        typer.Argument(
            help="A folder with films at any depth, or a Parquet file with a column `path`."
        ),
    ],
    engine: Annotated[
        Engine, typer.Option(help="`local`: this machine. `ray`: a Ray cluster; it needs Postgres.")
    ] = Engine.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of the Ray cluster, as host:port. Default: RAY_ADDRESS, or the cluster "
            "that runs here, or a new one on this machine's cores."
        ),
    ] = None,
) -> None:
    """Screen an archive in place: its films get rows, and no file is moved.

    If it is stopped, the same command continues. Several may work on one archive at once.
    Exit status: 0 if every film was screened or refused, 1 if some are missing or cannot be read,
    or if it was stopped.
    """
    names = names_in(archive)
    with (
        _engine(engine, archive, address) as screening,
        stop_flag() as stopped,
        _progress(archive) as progress,
    ):
        screening.screen(names, progress=progress, stopped=stopped)
    tally = screening.tally
    typer.echo(_in_words(tally))
    ended = not (stopped() or tally.missing or tally.unreadable)
    if stopped():
        typer.echo("stopped: the same command continues from here", err=True)
    raise typer.Exit(0 if ended else 1)


def _engine(
    engine: Engine, archive: Path, address: str | None
) -> AbstractContextManager[Backfill | Cluster]:
    if engine is Engine.RAY:
        return Cluster(common.settings(), archive, address=address)
    if address is not None:
        fail("--address needs --engine ray")
    return open_backfill(common.settings(), archive, note=_note)


def _note(trouble: object) -> None:
    typer.echo(f"waiting, {trouble}. No film is lost.", err=True)


def _in_words(tally: Tally) -> str:
    parts = {
        "screened": tally.predicted,
        "refused": tally.refused,
        "had a verdict": tally.before,
        "missing": tally.missing,
        "cannot be read": tally.unreadable,
    }
    counts = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    return f"{tally.films:,} films: {counts}" if counts else "no films"


@contextmanager
def _progress(archive: Path) -> Iterator[Callable[[Tally], None]]:
    """Show a bar with a rate on a terminal; else print a line now and then."""
    began = time.monotonic()

    def rate(tally: Tally) -> str:
        new = tally.predicted + tally.refused
        return f"{new / max(0.1, time.monotonic() - began):,.0f} films/s"

    if not sys.stderr.isatty():
        printed_at = began

        def print_line(tally: Tally) -> None:
            nonlocal printed_at
            if time.monotonic() - printed_at >= _LINE_SECONDS:
                printed_at = time.monotonic()
                typer.echo(f"{_in_words(tally)}; {rate(tally)}", err=True)

        yield print_line
        return
    with bar("screening", None) as progress:

        def count() -> None:
            with suppress(LungwatchError):  # screening reports it
                progress.show(total=sum(1 for _ in names_in(archive)))

        # The total is known once the archive has been listed; screening does not wait for that.
        threading.Thread(target=count, daemon=True).start()
        yield lambda tally: progress.show(
            done=tally.films, what=f"{_in_words(tally)}; {rate(tally)}"
        )
