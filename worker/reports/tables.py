"""Writes results and status as tables for people, or as CSV and JSON for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from worker.db.schema import results as results_view
from worker.db.status import Status
from worker.monitoring.terminal import COLOURS
from worker.reports.export import csv_cell
from worker.system.redaction import shown
from worker.types import BackfillReport, Report, WorkerReport


def write_results(rows: Iterable[Mapping[str, Any]], form: str, *, refused: bool = False) -> None:
    """Write rows of the `results` view to standard output as `table`, `csv` or `json`.

    CSV is written row by row, so that an archive of any size fits.
    """
    if form == "json":
        json.dump([_plain(row) for row in rows], sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, [column.name for column in results_view.columns])
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    elif shown_rows := list(rows):
        console().print(_refusals(shown_rows) if refused else _results(shown_rows))
    else:
        sys.stdout.write("No results yet.\n" if not refused else "Nothing was refused.\n")


def _results(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = new_table("scan", "file", "decision", "probability", "confidence", "model", "screened")
    for row in rows:
        decision = row["decision"] or "REFUSED"
        reason = row["review_reason"] or row["refusal_code"]
        colour = COLOURS.get(decision, "yellow")
        table.add_row(
            str(row["scan_id"]),
            escape(shown(row["file_name"])),
            f"[{colour}]{decision}[/{colour}]" + (f" {reason}" if reason else ""),
            _number(row["probability"]),
            _number(row["confidence"]),
            row["model_version"] or "",
            format_time(row["screened_at"]),
        )
    return table


def _refusals(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = new_table("scan", "file", "code", "why", "measured", "limit", "screened")
    for row in rows:
        table.add_row(
            str(row["scan_id"]),
            escape(shown(row["file_name"])),
            f"[yellow]{row['refusal_code']}[/yellow]",
            escape(row["refusal_sentence"] or ""),
            escape(row["refusal_measured"] or ""),
            escape(row["refusal_limit"] or ""),
            format_time(row["screened_at"]),
        )
    return table


def write_status(status: Status) -> None:
    """Write the status."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for worker in status.workers:
        word = "[green]alive[/green]" if worker.alive else "[bold red]silent[/bold red]"
        table.add_row(
            "backfill" if isinstance(worker.report, BackfillReport) else "worker",
            f"{word}, {escape(worker.name)}, beat {worker.beat_seconds_ago} s ago",
        )
        for name, value in _facts(worker.report):
            table.add_row(f"  {name}", escape(str(value)))
    if not any(isinstance(worker.report, WorkerReport) for worker in status.workers):
        table.add_row("worker", "[bold red]none[/bold red]: start one with `lungwatch run`")
    table.add_row("claimed", str(status.claimed))
    if status.offered:
        table.add_row("on offer", f"{status.offered}, to any worker with room")
    table.add_row("to be filed", str(status.recorded))
    table.add_row("screened today", _counts(status.screened_today, status.decisions_today))
    refused = status.refused_today
    table.add_row("refused today", _counts(sum(refused.values()), refused))
    table.add_row("last hour", f"{status.last_hour} films")
    table.add_row("last film", format_time(status.last_screened_at) or "none yet")
    console().print(table)


def write_status_as_json(status: Status) -> None:
    """Write the status as JSON: the fields of `Status`, and whether all is well."""
    facts = {"well": status.is_well, **asdict(status)}
    json.dump(facts, sys.stdout, indent=2, ensure_ascii=False, default=_json_of)
    sys.stdout.write("\n")


def _json_of(value: Any) -> Any:
    """Return a value that JSON can hold. A report is written as in its row."""
    if isinstance(value, WorkerReport | BackfillReport):
        return value.model_dump(mode="json", exclude_unset=True)
    return str(value)


def _facts(report: Report) -> list[tuple[str, Any]]:
    """Return a worker's report as (name, value) pairs, without empty values."""
    if isinstance(report, BackfillReport):
        facts: list[tuple[str, Any]] = [
            ("archive", report.backfill),
            ("model", report.model),
            ("tested on", report.population and report.population.sentence),
            ("done", f"{report.done} films"),
        ]
    else:
        facts = [
            ("model", report.model),
            ("tested on", report.population and report.population.sentence),
            ("model refused", report.model_refused),
            ("backlog", report.backlog),
            ("in hand", report.in_hand),
            ("oldest waits", f"{report.oldest_seconds} s" if report.oldest_seconds else None),
            ("rate", f"{report.films_per_second} films/s"),
            ("unreadable", report.unreadable or None),
            ("stuck", report.stuck or None),
            ("passed over", _counted(report.passed_over) or None),
            ("watching", _watching(report)),
            ("screeners lack", report.unfenced or None),
            ("trouble now", report.trouble),
            ("last trouble", report.last_trouble),
        ]
    return [(name, value) for name, value in facts if value is not None]


def _counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def _watching(report: WorkerReport) -> str:
    lists = "listing" if report.lists else "the listing of another worker"
    return f"events and {lists}" if report.events else f"only {lists}"


def new_table(*columns: str) -> Table:
    """Return an empty table with these column heads."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numeric = column in ("probability", "confidence", "scan")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def console() -> Console:
    """Return a console for standard output."""
    # Into a file or `less`, a table is as wide as it needs to be.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def _counts(total: int, parts: Mapping[str, int]) -> str:
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(parts.items()))
    return f"{total} ({kinds})" if kinds else str(total)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def format_time(value: datetime | None) -> str:
    """Return a time for people: UTC, to the second."""
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }
