"""Metrics for Prometheus, in a text file for its node exporter.

A file, not a port, so that the service needs no network. It is rewritten on events and every few
seconds. An old file means that the worker does not run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.errors import OwnTrouble, RefusalCode
from worker.model.decision import REVIEW
from worker.model.manifest import NEGATIVE, POSITIVE
from worker.monitoring.events import (
    Event,
    Notice,
    ScanEnded,
    Standing,
    Started,
    Stopping,
    TroubleBegan,
    TroubleEnded,
)
from worker.types import Outcome, WorkerReport


class _Moment(Collector):
    """The time of the last event of a kind; no value before the first one."""

    def __init__(self, name: str, meaning: str) -> None:
        """Start without a value."""
        self.at: float | None = None
        self._name = name
        self._meaning = meaning

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metric, without a value before the first event."""
        yield GaugeMetricFamily(self._name, self._meaning, value=self.at)


class Metrics:
    """A reporter that counts events and writes the metrics."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Write to `path`. If it cannot be written, only the metrics are lost."""
        self._path = path
        self._clock = clock
        self._closed = False
        self._registry = CollectorRegistry()
        self._screened = self._counter("screened", "Films that got a prediction.", "decision")
        self._refused = self._counter("refused", "Films that were refused.", "code")
        self._seconds = self._counter("stage_seconds", "Seconds spent by screeners.", "stage")
        self._swaps = self._counter("model_swaps", "Model swaps, without the first model.")
        self._troubles = self._counter("troubles", "Times that own trouble began.", "kind")
        self._ended = self._counter("screeners_ended", "Screeners that crashed or were ended.")
        self._trouble = self._gauge("trouble", "1 during own trouble.", "kind")
        self._model = self._gauge("model_info", "1 for the model in service.", "version")
        self._last = _Moment(
            "lungwatch_last_screened_timestamp_seconds", "When the last film was finished."
        )
        self._registry.register(self._last)
        self._written = self._gauge("told_timestamp_seconds", "When these metrics were written.")
        self._backlog = self._gauge("backlog_films", "Films known and not yet recorded.")
        self._in_hand = self._gauge("in_hand_films", "Films claimed and not yet recorded.")
        self._oldest = self._gauge("oldest_waiting_seconds", "How long the oldest film has waited.")
        self._unreadable = self._gauge(
            "unreadable_films", "Films that could not be read and are retried."
        )
        self._stuck = self._gauge(
            "stuck_films", "Films with a verdict that cannot be moved out of the inbox."
        )
        self._screeners = self._gauge("screeners", "Screeners that can take films.")
        # Series that exist from the start have a rate from the first film on.
        for decision in (NEGATIVE, POSITIVE, REVIEW):
            self._screened.labels(decision)
        for code in RefusalCode:
            self._refused.labels(code.value)
        for kind in OwnTrouble.__subclasses__():
            self._troubles.labels(kind.kind)
            self._trouble.labels(kind.kind)

    def emit(self, event: Event) -> None:
        """Count an event; write the file at once if it should not wait for the next status."""
        match event:
            case Started():
                self._write()
            case ScanEnded(outcome=outcome):
                self._outcome(outcome)
            case TroubleBegan(trouble=trouble):
                self._troubles.labels(trouble.kind).inc()
                self._trouble.labels(trouble.kind).set(1)
                self._write()
            case TroubleEnded(trouble=trouble):
                self._trouble.labels(trouble.kind).set(0)
                self._write()
            case Notice(name="model swapped"):
                self._swaps.inc()
            case Standing(report=report):
                self._standing(report)
            case Stopping():  # else it would look like a running worker
                self._closed = True
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
            case _:
                pass

    def _outcome(self, outcome: Outcome) -> None:
        if outcome.refusal is not None:
            self._refused.labels(outcome.refusal.code.value).inc()
        elif outcome.verdict is not None:
            self._screened.labels(outcome.verdict.decision).inc()
        for stage, seconds in outcome.facts.seconds.items():
            self._seconds.labels(stage).inc(seconds)
        self._last.at = self._clock()

    def _standing(self, report: WorkerReport) -> None:
        self._backlog.set(report.backlog)
        self._in_hand.set(report.in_hand)
        self._oldest.set(report.oldest_seconds)
        self._unreadable.set(report.unreadable)
        self._stuck.set(report.stuck)
        self._screeners.set(report.screeners)
        self._model.clear()
        if report.model:
            self._model.labels(report.model).set(1)
        self._ended.inc(report.screeners_ended - self._ended_before())
        self._write()

    def _ended_before(self) -> float:
        return self._registry.get_sample_value("lungwatch_screeners_ended_total") or 0.0

    def _write(self) -> None:
        self._written.set(self._clock())
        if self._closed:
            return
        # The exporter is another user and reads files ending in .prom. No film's name is in it.
        aside = self._path.with_suffix(".tmp")
        with suppress(OSError):
            with aside.open("wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(generate_latest(self._registry))
            aside.replace(self._path)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"lungwatch_{name}", meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"lungwatch_{name}", meaning, labels, registry=self._registry)
