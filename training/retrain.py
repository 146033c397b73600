"""A night: trains a model on labelled films, and promotes it if it is better than the champion.

    python -m training.retrain [--data DIR ...] [--models DIR] [--cache DIR] [--epochs N] ...

DIR has `NORMAL` and `PNEUMONIA` folders of JPEGs, or `train`, `val` and `test` folders of those.
Archived scans with a reader's label are used too.
It prints a line for each step and epoch, and then the verdict. Exit code 0: a model was promoted,
proposed or held, or nothing was new, or another night is running. Exit code 1: the run failed. A
killed run continues from its last epoch when it is started again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from training.console import OfFilms, Say, printer, say_error
from training.data.cache import Films, decode_films
from training.data.dataset import Dataset, read_dataset
from training.data.native_sizes import unlisted
from training.data.splits import keep_salt
from training.evaluate.scoring import Evaluator
from training.io import needed
from training.night.options import Plan, read_plan
from training.night.record import Record, code_digest, recording
from training.night.state import (
    Night,
    NightOutcome,
    NightUnderway,
    alone,
    drifted,
    last_night,
    remember,
    stand_back,
)
from worker.db.training_runs import Ruling
from worker.errors import DatabaseTrouble, LungwatchError
from worker.model.evaluation import Evaluation
from worker.model.registry import ChampionChanged, Registry
from worker.settings import read_settings
from worker.system.redaction import shut_out_others

# Each step imports Keras, TensorFlow and scikit-learn itself: a run that stops at its data does not
# wait for them, and the processes that decode films never load them.
# ruff: noqa: PLC0415
if TYPE_CHECKING:
    from training.night.build import Maker


def retrain(
    plan: Plan,
    *,
    now: datetime,
    say: Say,
    maker: Maker | None = None,
    evaluator: Evaluator | None = None,
) -> NightOutcome:
    """Train, package, measure and judge one model, with its models folder locked and recorded.

    Args:
        plan: the options.
        now: UTC; names the version and dates the package.
        say: called with a line for each step.
        maker: makes a package from decoded films; by default `make_package`.
        evaluator: scores packages; by default in fresh processes.

    Raises:
        NightUnderway: another night runs on the models folder.
        DataError: the films contradict one another, or a folder is full or not writable.
        ModelPackageError: the package does not load in the worker's code.
        DatabaseTrouble: the night cannot be recorded.
    """
    # Lock the models folder, and open the night's row.
    with alone(plan.models), recording(plan.database_url, plan.models, say=say) as record:
        registry = Registry(plan.models)
        registry.sweep()
        if plan.seed_models is not None:
            with needed("the shipped model cannot be copied in", plan.models):
                registry.seed(Registry(plan.seed_models))

        # Find the films and their sides. If nothing is new, there is nothing to do.
        plan = replace(plan, salt=keep_salt(registry, plan.salt or None))
        dataset = read_dataset(
            plan.data,
            salt=plan.salt,
            archive=plan.archive,
            patients=plan.patients,
            drop_conflicts=plan.drop_conflicts,
        )
        dataset = replace(
            dataset,
            test_note=plan.test_note or dataset.test_note,
            remarks=(*dataset.remarks, *unlisted(dataset.scans, plan.native_sizes)),
        )
        say(_describe(dataset))
        _remark(dataset.remarks, record, say)
        work = {**plan.work(), "data_digest": dataset.digest, "code": code_digest()}
        record.note(**work, data=dataset.name, counts=dataset.counts())
        outcome = _nothing_new(plan, registry, work)
        if outcome is None:
            drift = drifted(plan.database_url, registry.champion())
            dataset, films = _decode(plan, dataset, record, say=say)
            # Fit and package a network; measure it and the champion, judge, publish.
            from training.night.build import make_package
            from training.night.review import conclude

            night = Night(
                plan=plan,
                dataset=dataset,
                films=films,
                registry=registry,
                record=record,
                now=now,
                say=say,
            )
            made = (maker or make_package)(night)
            outcome = conclude(night, made, evaluator=evaluator or Evaluator(), drift=drift)

        # Promote it, record the verdict, and remember this night for the next.
        with _unbroken():
            if outcome.ruling is Ruling.PROMOTED:
                outcome = _promote(registry, outcome, now)
            _close(record, outcome, say)
            serves = outcome.version if outcome.ruling is Ruling.PROMOTED else outcome.champion
            if outcome.settled:
                _remember(plan, work, outcome, serves, say)
        return outcome


def _nothing_new(plan: Plan, registry: Registry, work: dict[str, Any]) -> NightOutcome | None:
    champion = registry.champion()
    last = last_night(registry.root, work, champion=champion)
    # A model held because of drift is judged again once there is no drift.
    if last is None or (last.drifting and not drifted(plan.database_url, champion)):
        return None
    version = last.challenger
    same = "the films, the recipe, the rules and the champion are the same"
    return NightOutcome(
        ruling=Ruling.UNCHANGED,
        reasons=(f"nothing new since the night that made {version}: {same}",),
        version=version,
        package=registry.folder(version),
        champion=champion,
        evaluation=None,
        drifting=last.drifting,
    )


def _decode(plan: Plan, dataset: Dataset, record: Record, *, say: Say) -> tuple[Dataset, Films]:
    """Decode each film once. Return the readable ones without near copies, and their pixels."""
    films = decode_films(dataset.scans, plan.cache, height=plan.side_pixels, width=plan.side_pixels)
    said = len(dataset.remarks)
    dataset = _without_refused(dataset, films).without_near_copies(
        films.pixels, films.rows, drop_conflicts=plan.drop_conflicts
    )
    _remark(dataset.remarks, record, say, said=said)
    return dataset, films


def _promote(registry: Registry, outcome: NightOutcome, now: datetime) -> NightOutcome:
    """Promote the challenger, if the champion it was compared with still serves."""
    better = [
        reason.removeprefix("ok: ") for reason in outcome.reasons if "must be higher" in reason
    ]
    why = better[0] if better else "above the minimum values; there was no champion"
    try:
        registry.promote(
            outcome.version, who="the night", why=why, instead_of=outcome.champion, now=now
        )
    except ChampionChanged as changed:
        held = f"HELD: the champion was changed by hand meanwhile: {changed}"
        return replace(outcome, ruling=Ruling.HELD, reasons=(*outcome.reasons, held))
    return outcome


def _close(record: Record, outcome: NightOutcome, say: Say) -> None:
    """Record the result. A promoted model serves even if this fails.

    Raises:
        DatabaseTrouble: it cannot be recorded, and no model was promoted.
    """
    challenger = None if outcome.ruling is Ruling.UNCHANGED else outcome.version
    try:
        record.close(
            outcome.ruling, outcome.reasons, champion=outcome.champion, challenger=challenger
        )
    except DatabaseTrouble as trouble:
        if outcome.ruling is not Ruling.PROMOTED:
            raise
        say(f"{outcome.version} serves, but the end of this night could not be recorded: {trouble}")


def _remember(
    plan: Plan, work: dict[str, Any], outcome: NightOutcome, serves: str | None, say: Say
) -> None:
    """Store this night for the next one, which would otherwise repeat it."""
    try:
        remember(
            plan.models,
            work,
            champion=serves,
            challenger=outcome.version,
            drifting=outcome.drifting,
        )
    except OSError as error:
        say(f"the next night will repeat this one: it cannot be remembered ({error.strerror})")


@contextmanager
def _unbroken() -> Iterator[None]:
    """Block stop signals for a moment, so that champion and record agree."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in kinds}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _describe(dataset: Dataset) -> str:
    sides = ", ".join(
        f"{side} {counts['NORMAL']} NORMAL + {counts['PNEUMONIA']} PNEUMONIA "
        f"of {counts['patients']} patients"
        for side, counts in dataset.counts().items()
    )
    return f"{dataset.name}: {sides}; {len(dataset.copies_set_aside)} exact copies set aside"


def _remark(remarks: Sequence[str], record: Record, say: Say, *, said: int = 0) -> None:
    """Record remarks on single films, and print those after the first `said`."""
    if remarks[said:]:
        record.note(remarks=list(remarks))
    for line in remarks[said:]:
        say(OfFilms(line))


def _without_refused(dataset: Dataset, films: Films) -> Dataset:
    """Leave out films that `read_film` refuses, because the worker would not score them."""
    refused = [scan for scan in dataset.scans if scan.sha256 in films.refused]
    kept = tuple(scan for scan in dataset.scans if scan.sha256 not in films.refused)
    remarks = [
        f"set aside: {scan.name} is refused as {films.refused[scan.sha256]}" for scan in refused
    ]
    return replace(dataset, scans=kept, remarks=(*dataset.remarks, *remarks))


def tune_tensorflow() -> None:
    """Set environment variables that TensorFlow reads when loaded, unless they are set."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides messages about its build
    # Faster kernels, which are off by default on processors without AVX-512.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def main(
    arguments: Sequence[str] | None = None,
    *,
    maker: Maker | None = None,
    evaluator: Evaluator | None = None,
) -> int:
    """Read the command line and the settings, and run one night: see `retrain`."""
    shut_out_others()
    before = signal.signal(signal.SIGTERM, _stop)
    tune_tensorflow()
    say = printer({}, terminal=sys.stdout.isatty())
    try:
        settings = read_settings()
        say = printer(settings.places, terminal=sys.stdout.isatty())
        plan = read_plan(arguments, settings, description=__doc__ or "")
        outcome = retrain(plan, now=datetime.now(UTC), say=say, maker=maker, evaluator=evaluator)
    except NightUnderway as underway:
        say(f"left: {underway}")
        return 0
    except LungwatchError as error:
        say_error(say, error)
        return 1
    except KeyboardInterrupt:
        say("error: stopped; the champion is unchanged, and the next night continues from here")
        return 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    if outcome.evaluation is not None:
        say(f"{outcome.version}: {_in_short(outcome.evaluation)}")
    for reason in outcome.reasons:
        say(f"  {reason}")
    say(f"{outcome.ruling}: {outcome.package.name} in {outcome.package.parent}")
    return 0


def _stop(number: int, _frame: object) -> None:
    """End the night as Ctrl-C does, which cleans up. A second signal is ignored.

    This raises instead of setting a flag, because a night spends most time inside libraries.
    """
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _in_short(evaluation: Evaluation) -> str:
    numbers = ", ".join(
        f"{name} {'none' if value is None else format(value, '.4f')}"
        for name, value in (
            ("robust AUC", evaluation.robust_auc),
            ("AUC", evaluation.auc),
            ("sensitivity", evaluation.sensitivity),
            ("specificity", evaluation.specificity),
        )
    )
    looks = evaluation.looks
    times = "" if looks is None else f", measurement {looks.this_set} on these films"
    return f"{numbers} on {evaluation.data}{times}"


if __name__ == "__main__":
    stand_back()
    sys.exit(main())
