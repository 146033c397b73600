"""What tests of model swaps ask of a running worker, and check of what it did."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from driver import Site, wait_for
from pixels import read_for

from worker.model.runtime import Model, load


def report(site: Site) -> dict[str, object]:
    """Return what the worker last said of itself; nothing before it has."""
    try:
        rows = site.query("SELECT report FROM workers WHERE stopped_at IS NULL")
    except Exception:  # noqa: BLE001 - no tables yet
        return {}
    told = rows[0]["report"] if rows else {}
    found: dict[str, object] = json.loads(told) if isinstance(told, str) else told
    return found


def serves(site: Site, version: str) -> bool:
    """Whether the worker says that this version serves and nothing is the matter with it."""
    told = report(site)
    return told.get("model") == version and not told.get("model_refused")


def refuses(site: Site, why: str) -> bool:
    """Whether the worker says that the champion does not serve, for this reason."""
    return why in str(report(site).get("model_refused"))


def wait_until_serving(site: Site, version: str) -> None:
    """Wait until the worker says so."""
    wait_for(partial(serves, site, version), what=f"{version} serves")


def feed_until_serving(site: Site, version: str, drop: Callable[[int], set[str]]) -> set[str]:
    """Drop films all the while until the worker says so, and return their names."""
    dropped: set[str] = set()

    def so() -> bool:
        dropped.update(drop(1))
        return serves(site, version)

    wait_for(so, every=0.02, what=f"{version} serves")
    return dropped


def check_rows_are_of_their_models(
    site: Site, dropped: Mapping[str, bytes], *, rows: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Each row's probability is what the very version it names gives for the film's bytes."""

    @cache
    def model(version: str) -> Model:
        return load(site.models / version)

    for row in site.results() if rows is None else rows:
        one = model(row["model_version"])
        film = read_for(one.manifest, dropped[row["file_name"]])
        verdict = one.screen(film.pixels)
        assert row["probability"] == pytest.approx(verdict.probability, abs=1e-9), row
        assert row["decision"] == verdict.decision
        assert row["threshold"] == one.manifest.threshold


def children(pid: int) -> set[int]:
    """Return the processes that a process has started and that still run."""
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return {int(child) for child in told.split()}
