"""Events of a worker, and the protocol of reporters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.system.trouble import Trouble
from worker.types import Outcome, WorkerReport


@dataclass(frozen=True, kw_only=True)
class Started:
    """The worker is assembled."""

    facts: Mapping[str, str]  # the inbox, the place of results, the model


@dataclass(frozen=True, kw_only=True)
class ScanEnded:
    """A scan has its verdict or refusal, and its row is durable."""

    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class TroubleBegan:
    """Trouble of a new kind began."""

    trouble: Trouble


@dataclass(frozen=True, kw_only=True)
class TroubleEnded:
    """Trouble ended."""

    trouble: Trouble
    seconds: float  # of its duration


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something else for the operator. Its name is the event name in logs."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The worker's status, every few seconds, also during trouble."""

    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The progress on a backlog."""

    done: int  # films, since the start
    waiting: int


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """The worker is about to stop: remove what only a running worker shows."""


Event = Started | ScanEnded | TroubleBegan | TroubleEnded | Notice | Standing | Backlog | Stopping


class Reporter(Protocol):
    """Takes events, and shows some of them."""

    def emit(self, event: Event) -> None:
        """Take an event. What cannot be shown is dropped: reporting never ends the worker."""
