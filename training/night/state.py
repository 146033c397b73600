"""A night among others: one at a time, how it ended, and what the next one knows of it.

models/.retrain.lock      held while a night runs; says whose it is
models/.last-night.json   the work of the last night that came to its end, and what served then
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from training.console import Say
from training.data.cache import Films
from training.data.dataset import Dataset
from training.io import needed
from training.night.options import Plan
from training.night.record import Record
from worker.db.engine import Database
from worker.db.training_runs import Ruling
from worker.errors import LungwatchError
from worker.model.evaluation import Evaluation
from worker.model.registry import Registry
from worker.monitoring.drift_data import look_for_drift
from worker.system.files import write_atomically

LOCK = ".retrain.lock"
LAST = ".last-night.json"


@dataclass(frozen=True, kw_only=True)
class Night:
    """What every step of a night has to hand."""

    plan: Plan
    dataset: Dataset  # less the films that cannot be read
    films: Films  # their pixels, of the plan's side
    registry: Registry  # where the model is to serve, and whose champion it may go on from
    record: Record
    now: datetime  # UTC; names the version and dates the package
    say: Say  # is given a line for each step


@dataclass(frozen=True, kw_only=True)
class NightOutcome:
    """What became of a night."""

    ruling: Ruling
    reasons: tuple[str, ...]
    version: str  # the challenger; where nothing was new, the last night's
    package: Path
    champion: str | None  # what served when the challenger was judged
    evaluation: Evaluation | None  # None where nothing was new
    drifting: bool = False  # held, if so, among others because films are not what they were
    settled: bool = True  # whether the same work another night would come to the same


class NightUnderway(LungwatchError):
    """Another night works on this models folder."""


def stand_back() -> None:
    """Let other processes go first, the worker above all: the lowest priority.

    Not the kernel's idle class: a night that holds the database's lock there, on a machine that
    others keep busy, may hold it for seconds, and then the worker waits after all.
    """
    os.nice(19)


@contextmanager
def alone(models: Path) -> Iterator[None]:
    """Hold the lock on a models folder. The kernel frees it however this process ends.

    Raises:
        NightUnderway: another process holds it.
        DataError: the folder cannot be written.
    """
    with ExitStack() as until_the_end:
        with needed("the models folder cannot be written", models):
            models.mkdir(parents=True, exist_ok=True)
            file = until_the_end.enter_context((models / LOCK).open("a+b", buffering=0))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().decode("ascii", "replace").strip()
                raise NightUnderway(
                    f"another night is under way in {models}, process {holder or '?'}"
                ) from None
            file.truncate(0)
            file.write(b"%d\n" % os.getpid())
        yield


def drifted(database_url: str | None, champion: str | None) -> str:
    """Return why nothing is promoted while films are not what they were; "" where they are.

    What a challenger is measured on may then not be what it would screen: a person decides.

    Raises:
        DatabaseTrouble: the database cannot be asked.
    """
    if champion is None or database_url is None:
        return ""
    database = Database(database_url)
    try:
        findings = look_for_drift(database, champion)[0] if database.exists() else []
    finally:
        database.close()
    alarms = [f"{one.measure} {one.psi:.3f} over {one.limit:.3f}" for one in findings if one.alarm]
    if not alarms:
        return ""
    return f"the films that arrive have changed ({', '.join(alarms)}): see `lungwatch drift`"


@dataclass(frozen=True, kw_only=True)
class LastNight:
    """What is remembered of the last night that came to its end."""

    challenger: str  # the model that it made
    drifting: bool  # films were not what they were, so that nothing was promoted


def last_night(models: Path, work: Mapping[str, Any], *, champion: str | None) -> LastNight | None:
    """Return what came of this very work the last night, or None if it is new.

    Args:
        models: the folder.
        work: everything that decides which model comes out.
        champion: what serves. Where it is not what served when that night ended, put there by
            hand or rolled back to, the work is new.
    """
    try:
        last = json.loads((models / LAST).read_bytes())
        if (last["work"], last["champion"]) == (_digest(work), champion):
            return LastNight(challenger=str(last["challenger"]), drifting=bool(last["drifting"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or not readable: whatever there is to do is new
    return None


def remember(
    models: Path,
    work: Mapping[str, Any],
    *,
    champion: str | None,
    challenger: str,
    drifting: bool = False,
) -> None:
    """Keep what a night did, once all of it is done.

    Raises:
        OSError: it cannot be written.
    """
    last = {
        "work": _digest(work),
        "champion": champion,
        "challenger": challenger,
        "drifting": drifting,
    }
    write_atomically(models / LAST, json.dumps(last).encode("ascii"))


def _digest(work: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
