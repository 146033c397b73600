"""A self-contained HTML page of results, for a browser or for print."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from worker.errors import LungwatchError, RefusalCode
from worker.model.decision import REVIEW
from worker.model.manifest import NEGATIVE, POSITIVE
from worker.system.redaction import shown

REFUSED = "REFUSED"
_KINDS = (POSITIVE, REVIEW, NEGATIVE, REFUSED)
_TEMPLATE = Path(__file__).with_name("report.html.jinja")


@dataclass(frozen=True, kw_only=True)
class DayCounts:
    """The films of one day, UTC."""

    day: str
    counts: Mapping[str, int]  # by decision, or REFUSED

    @property
    def total(self) -> int:
        """The number of films."""
        return sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A film with its evidence, or why it cannot be shown."""

    scan_id: int
    caption: str
    image: str = ""  # PNG in base64


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of the page."""

    since: str
    made: str
    days: Sequence[DayCounts]
    worklist: Sequence[Mapping[str, Any]]
    left_out: int  # of the worklist
    pictures: Sequence[Picture]
    refusals: Sequence[Mapping[str, Any]]
    model: str
    measures: Mapping[str, str]
    tested_on: str  # one line; empty where no model serves
    kinds: Sequence[str] = _KINDS

    @property
    def most(self) -> int:
        """The largest number of films in a day."""
        return max((day.total for day in self.days), default=1)

    def as_html(self) -> str:
        """Return the page as HTML."""
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(page=self)


def days_of(counts: Iterable[tuple[str, str, int]]) -> list[DayCounts]:
    """Group (day, decision or REFUSED, count) by day, newest first."""
    counts_by_day: dict[str, Counter[str]] = {}
    for day, what, count in counts:
        counts_by_day.setdefault(day, Counter())[what] += count
    return [
        DayCounts(day=day, counts=counts_by_day[day]) for day in sorted(counts_by_day, reverse=True)
    ]


def listed(row: Mapping[str, Any], *, names: bool) -> dict[str, Any]:
    """Return a row of the view for the worklist."""
    screened: datetime = row["screened_at"]
    return {
        **row,
        "name": shown(row["file_name"]) if names else "",
        "screened": f"{screened:%Y-%m-%d %H:%M}",
    }


def refusals_of(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return refusals by code, the most frequent first, with their meanings."""
    meanings = {code.value: code.meaning for code in RefusalCode}
    return [
        {"code": code, "count": count, "meaning": meanings.get(code, "")}
        for code, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    ]


def pictures_of(
    rows: Iterable[Mapping[str, Any]], draw: Callable[[int], bytes], *, names: bool
) -> list[Picture]:
    """Draw the films of these rows. A film that cannot be drawn gets a caption that says so.

    The reason is given only if file names may be shown, because it contains them.
    """
    drawn = []
    for row in rows:
        scan_id, said = row["scan_id"], f"{row['decision']}, {row['probability']:.3f}"
        try:
            image = base64.b64encode(draw(scan_id)).decode("ascii")
        except LungwatchError as error:
            why = shown(str(error)) if names else "its film cannot be shown"
            drawn.append(Picture(scan_id=scan_id, caption=why))
        else:
            drawn.append(Picture(scan_id=scan_id, caption=said, image=image))
    return drawn
