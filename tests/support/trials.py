"""Trials: a fault made to happen in rounds, few by default and many with `--soak`.

A pytest plugin: the option, the fixture `trial`, and the table that ends a soak.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from driver import Site

_PROPERTY = "trial"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--soak`."""
    parser.addoption("--soak", action="store_true", help="run the fault suite's full counts")


@dataclass(kw_only=True)
class Trial:
    """What came of a fault, over all its rounds."""

    fault: str
    soak: bool
    rounds: int = 0
    films: int = 0
    lost: int = 0
    double: int = 0
    stuck: int = 0
    slowest_seconds: float | None = None  # from the fault's end until all was well
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0  # that all of it took

    def count(self, few: int, full: int) -> int:
        """Return how many of something this run makes."""
        return full if self.soak else few

    @contextmanager
    def recovery(self) -> Iterator[None]:
        """Time what the block waits for: all is well again at its end."""
        began = time.monotonic()
        yield
        self.slowest_seconds = max(self.slowest_seconds or 0.0, time.monotonic() - began)

    def end(self, site: Site, films: Mapping[str, bytes], *, rounds: int = 1) -> None:
        """End one round or more: count what became of the films, and check the invariants."""
        reckoning = site.reckon(films)
        self.rounds += rounds
        self.films += len(films)
        self.lost += reckoning.lost
        self.double += reckoning.double
        self.stuck += reckoning.stuck
        site.check_invariants(films)


@pytest.fixture
def trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    """Yield the trial of this test, and hand it to the soak's table."""
    number = request.path.stem.split("_")[1]
    one = Trial(
        fault=f"{number} {request.node.name.removeprefix('test_').replace('_', ' ')}",
        soak=bool(request.config.getoption("--soak")),
    )
    yield one
    one.seconds = time.monotonic() - one.began
    request.node.user_properties.append((_PROPERTY, asdict(one)))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """End a soak with its table."""
    if not config.getoption("--soak"):
        return
    told = [
        {**dict(report.user_properties)[_PROPERTY], "ended": report.nodeid not in failed}
        for failed in [{one.nodeid for one in terminalreporter.stats.get("failed", [])}]
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "teardown"
        and _PROPERTY in dict(getattr(report, "user_properties", []))
    ]
    terminalreporter.section("soak")
    terminalreporter.write(_table(sorted(told, key=lambda one: str(one["fault"]))))


def _table(told: list[dict[str, Any]]) -> str:
    heads = ("fault", "rounds", "films", "lost", "double", "stuck", "recovered in", "took", "")
    lines = [heads, tuple("---" for _ in heads)]
    for one in told:
        slowest = one["slowest_seconds"]
        counts = (f"{one[name]:,}" for name in ("rounds", "films", "lost", "double", "stuck"))
        lines.append(
            (
                one["fault"],
                *counts,
                "-" if slowest is None else f"{slowest:.1f} s",
                f"{one['seconds']:.0f} s",
                "passed" if one["ended"] else "FAILED",
            )
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
