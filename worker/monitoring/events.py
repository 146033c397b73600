"""What a worker reports of its work, as events, and what takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.system.trouble import Trouble
from worker.types import Outcome, WorkerReport


@dataclass(frozen=True, kw_only=True)
class Started:
    """The worker is put together."""

    facts: Mapping[str, str]  # what is watched, where results go, the model


@dataclass(frozen=True, kw_only=True)
class ScanEnded:
    """A scan has its verdict or its refusal, and the row is durable."""

    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class TroubleBegan:
    """There is trouble of a kind that was not there before."""

    trouble: Trouble


@dataclass(frozen=True, kw_only=True)
class TroubleEnded:
    """Trouble is over."""

    trouble: Trouble
    seconds: float  # that it lasted


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something else an operator wants to know. Its name is the event's name in logs."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How things stand. It comes every few seconds, whatever troubles the worker."""

    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """How far a backlog is worked off."""

    done: int  # films, since the start
    waiting: int


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """The worker is about to stop: take down what only a running worker shows."""


Event = Started | ScanEnded | TroubleBegan | TroubleEnded | Notice | Standing | Backlog | Stopping


class Reporter(Protocol):
    """Takes events and shows those it has a use for."""

    def emit(self, event: Event) -> None:
        """Take an event. What cannot be shown is lost: reporting never ends the worker."""
