"""The command line: `lungwatch run`, `results`, `status`, `retry` and the rest.

Imports here are kept to what `--help` needs; each command loads its own.
"""

from __future__ import annotations

import errno
import sys
from contextlib import suppress
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import common
from worker.cli.backfill import backfill
from worker.cli.discard import discard
from worker.cli.drift import drift
from worker.cli.explain import explain
from worker.cli.export import export
from worker.cli.models import models
from worker.cli.reclaim import reclaim
from worker.cli.report import report
from worker.cli.rescore import rescore
from worker.system.redaction import shut_out_others

if TYPE_CHECKING:
    from worker.db.engine import Database
    from worker.db.results import Retriable

# What a full or broken disk says of standard output.
_NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models, name="models")


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Decision(StrEnum):
    """What a scan can be decided to be."""

    NORMAL = "NORMAL"
    PNEUMONIA = "PNEUMONIA"
    REVIEW = "REVIEW"


def main() -> None:
    """Run the command line; end on trouble of ours with one line and status 2."""
    from worker.errors import LungwatchError  # noqa: PLC0415

    shut_out_others()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever letters a terminal has not
    try:
        app()
    except LungwatchError as error:
        common.fail(str(error))
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does.
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is not None or error.errno not in _NOT_WRITTEN:
            raise
        common.fail(f"what was asked for cannot be written: {error.strerror}")


def _say_version(asked: bool) -> None:  # noqa: FBT001 # as typer calls it
    if asked:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"lungwatch {version('lungwatch')}")
        raise typer.Exit


@app.callback()
def lungwatch(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Screens chest X-rays the moment they arrive: NORMAL, PNEUMONIA or REVIEW.

    Decision support for people who read films; not a medical device.
    """
    del version  # said and done


@app.command()
def run(
    *,
    once: Annotated[
        bool, typer.Option(help="Work off what is in the inbox, then exit: 0 if all of it was.")
    ] = False,
) -> None:
    """Watch the inbox and screen what arrives, until told to stop."""
    from worker.service.factory import open_service  # noqa: PLC0415

    with common.discreet(), open_service(common.settings()) as service:
        raise typer.Exit(service.run(once=once))


@app.command()
def results(
    *,
    output: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.TABLE,
    since: Annotated[
        str | None,
        typer.Option(help="Screened since then: 2026-11-23, 2026-11-23T08:00 (UTC), or 12h, 7d."),
    ] = None,
    decision: Annotated[Decision | None, typer.Option(help="Only this decision.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only refusals, and why.")] = False,
    before: Annotated[
        int | None,
        typer.Option(help="Screened before this scan: the last id of a page gives the next one."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """Show what was screened, newest first."""
    from worker.db.results import Query, Results  # noqa: PLC0415
    from worker.reports.tables import write_results  # noqa: PLC0415

    query = Query(
        since=None if since is None else common.moment(since),
        before=before,
        decision=None if decision is None else decision.value,
        refused=refused,
        limit=limit,
    )
    database = common.database(common.settings())
    write_results(Results(database).find(query), output.value, refused=refused)


@app.command()
def label(
    scan: Annotated[
        str | None, typer.Argument(help="Id, file name, or beginning of the SHA-256.")
    ] = None,
    said: Annotated[
        str | None, typer.Argument(metavar="NORMAL|PNEUMONIA", help="What the film shows.")
    ] = None,
    *,
    by: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    note: Annotated[str | None, typer.Option(help="A remark to keep with it.")] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="Many at once: a file with the columns scan,label and maybe by,note."),
    ] = None,
) -> None:
    """Say what a reader saw on a scan. Later labels count; earlier ones stay on record.

    Exit status: 0 if every label was given, 1 if none was, each with its reason.
    """
    from worker.cli.label_lists import read_labels  # noqa: PLC0415
    from worker.db.labels import Asked, Labels  # noqa: PLC0415

    if (csv is None) == (scan is None) or (scan is None) != (said is None):
        common.fail("name a scan and NORMAL or PNEUMONIA, or a file with --csv")
    if csv is not None:
        asked = read_labels(csv, by=by, note=note)
    else:
        asked = [Asked(scan=scan or "", label=(said or "").upper(), reader=by or "", note=note)]
    given = Labels(common.database(common.settings())).give(asked)
    for problem in given.problems:
        place = f"line {problem.line}: " if problem.line is not None else ""
        common.complain(f"{place}{problem.scan}: {problem.why}")
    count = len(given.scan_ids)
    if given.problems:
        typer.echo("nothing was labelled", err=True)
    else:
        typer.echo(f"{count} scan{'s' if count != 1 else ''} labelled")
    raise typer.Exit(1 if given.problems else 0)


@app.command()
def status(
    *, as_json: Annotated[bool, typer.Option("--json", help="For a program.")] = False
) -> None:
    """Show whether a worker is alive, what waits, and what troubled it last.

    Exit status: 0 if a worker is alive and nothing troubles it, else 1.
    """
    from worker.db.status import how_things_stand  # noqa: PLC0415
    from worker.reports.tables import write_status, write_status_as_json  # noqa: PLC0415

    found = how_things_stand(common.database(common.settings()))
    (write_status_as_json if as_json else write_status)(found)
    raise typer.Exit(0 if found.is_well else 1)


@app.command()
def retry(
    scans: Annotated[
        list[str],
        typer.Argument(help="Ids (`7` or `id:7`), file names, or beginnings of SHA-256."),
    ],
) -> None:
    """Put refused films back into the inbox, to be screened anew."""
    from worker.db.results import Results  # noqa: PLC0415
    from worker.db.scans import forget_places  # noqa: PLC0415
    from worker.inbox.folders import Inbox  # noqa: PLC0415

    settings = common.settings()
    database = common.database(settings)
    reader = Results(database)
    inbox = Inbox(settings.inbox, archive=settings.archive, refused=settings.refused)
    unmet = 0
    for wanted in scans:
        found = reader.retriable(wanted)
        if not found:
            told = "no refused scan of that id, file name or SHA-256 whose film is there"
            typer.echo(f"{wanted}: {told}", err=True)
            unmet += 1
        for scan in found:
            problem = inbox.bring_back(scan.filed_as, scan.file_name, scan.scan_id)
            if problem is None:
                _went_back(database, settings.refused, scan)
            elif scan.filed_as is not None and inbox.has_left(scan.filed_as):
                forget_places(database, [*scan.before, scan.scan_id])
            unmet += problem is not None
            typer.echo(f"scan {scan.scan_id}: {problem or 'back in the inbox'}")
    raise typer.Exit(1 if unmet else 0)


def _went_back(database: Database, refused: Path, scan: Retriable) -> None:
    """Leave nothing of a refused film that went back in its place: the next may take that."""
    from worker.db.scans import forget_places  # noqa: PLC0415
    from worker.inbox.sidecar import whys_of  # noqa: PLC0415
    from worker.system.filenames import bytes_of  # noqa: PLC0415

    if scan.filed_as is None:
        return
    day, _, name = scan.filed_as.partition("/")
    meant = [*scan.before, scan.scan_id]
    for why in [one for each in meant for one in whys_of(refused / day, bytes_of(name), each)]:
        with suppress(OSError):  # it is only in the way of a plain name for the next
            why.unlink()
    forget_places(database, meant)


@app.command()
def check() -> None:
    """Check settings, folders, rights, database, migrations and model, a line each."""
    from worker.cli.check import run_checks  # noqa: PLC0415

    failed = 0
    for name, problem, detail in run_checks():
        failed += problem is not None
        typer.echo(f"{'FAILED' if problem else 'ok':<7} {name:<12} {problem or detail}")
    raise typer.Exit(1 if failed else 0)


app.command()(rescore)
app.command()(backfill)
app.command()(explain)
app.command()(export)
app.command()(discard)
app.command()(drift)
app.command()(reclaim)
app.command()(report)
