"""State between nights: the lock, drift, and what the last night did.

models/.retrain.lock      held while a night runs; contains its process id
models/.last-night.json   inputs of the last completed night, and the champion at its end
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
    """What every step of a night needs."""

    plan: Plan
    dataset: Dataset  # without films that cannot be read
    films: Films  # their pixels, at the size in the plan
    registry: Registry  # for the model; its champion may be the start
    record: Record
    now: datetime  # UTC; names the version and dates the package
    say: Say  # called with a line for each step


@dataclass(frozen=True, kw_only=True)
class NightOutcome:
    """The result of a night."""

    ruling: Ruling
    reasons: tuple[str, ...]
    version: str  # the challenger; if nothing was new, the last night's
    package: Path
    champion: str | None  # the champion when the challenger was judged
    evaluation: Evaluation | None  # None if nothing was new
    drifting: bool = False  # whether it was held because films have changed
    settled: bool = True  # whether a repeat would give the same result


class NightUnderway(LungwatchError):
    """Another night runs on this models folder."""


def stand_back() -> None:
    """Give this process the lowest priority, so that the worker comes first.

    The kernel's idle class is not used: on a busy machine such a night could hold a database lock
    for seconds, and the worker would wait for it.
    """
    os.nice(19)


@contextmanager
def alone(models: Path) -> Iterator[None]:
    """Lock a models folder. The kernel frees the lock however this process ends.

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
                    f"another night is running in {models}, process {holder or '?'}"
                ) from None
            file.truncate(0)
            file.write(b"%d\n" % os.getpid())
        yield


def drifted(database_url: str | None, champion: str | None) -> str:
    """Return why nothing may be promoted, if films have drifted; else "".

    The test films may then not represent the films to screen, so a person decides.

    Raises:
        DatabaseTrouble: the database failed.
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
    return f"arriving films have changed ({', '.join(alarms)}): see `lungwatch drift`"


@dataclass(frozen=True, kw_only=True)
class LastNight:
    """The result of the last completed night."""

    challenger: str  # the model that it made
    drifting: bool  # nothing was promoted because films had changed


def last_night(models: Path, work: Mapping[str, Any], *, champion: str | None) -> LastNight | None:
    """Return the last night's result if it had the same inputs and champion, else None.

    Args:
        models: the folder.
        work: all inputs that determine the model.
        champion: the present champion. If it is not the champion at the end of that night, because
            a person promoted or rolled back, the inputs count as new.
    """
    try:
        last = json.loads((models / LAST).read_bytes())
        if (last["work"], last["champion"]) == (_digest(work), champion):
            return LastNight(challenger=str(last["challenger"]), drifting=bool(last["drifting"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or unreadable: the inputs count as new
    return None


def remember(
    models: Path,
    work: Mapping[str, Any],
    *,
    champion: str | None,
    challenger: str,
    drifting: bool = False,
) -> None:
    """Store a night's inputs and result, when it is complete.

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
