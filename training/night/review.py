"""From a packaged model to a verdict: measured beside the champion, judged, published, shown.

What is measured is the files that will serve. Whatever goes wrong, nothing half-made stays where a
reader looks, and the champion stays.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.card.card import write_card
from training.card.figures import draw_figures
from training.card.sheets import write_sheets
from training.console import needed
from training.data.dataset import Side
from training.evaluate.head_to_head import Judged, digest_of, judge
from training.gate import Promotion, judge_promotion
from training.night.build import Made
from training.night.options import Plan
from training.night.record import Record
from training.night.state import Outcome
from training.package import build
from training.robustness import FILMS_A_NIGHT, measure
from worker.db.engine import Database
from worker.db.training_runs import Ruling
from worker.errors import ModelPackageError
from worker.model.decision import Verdict
from worker.model.registry import Registry
from worker.screening.rescore import ChampionUnfitError, compare_decisions

Say = Callable[[str], None]


def conclude(
    plan: Plan, made: Made, registry: Registry, record: Record, *, drift: str = "", say: Say
) -> Outcome:
    """Measure the package beside the champion's, decide, and publish it with what was found.

    Args:
        plan: of the night.
        made: what it made.
        registry: where it is to serve.
        record: of the night.
        drift: why nothing is promoted while films are not what they were; "" where they are.
        say: is given a line for each step.

    Raises:
        ModelPackageError: the package does not load as the worker would load it.
        DataError: it cannot be written.
        OwnTrouble: the database, or the screeners, cannot do their part.
    """
    version = made.version
    try:
        # How good it is: the files on disk, through the worker's code, in a process of its own.
        champion = registry.champion()
        judged, evaluation = _measure(made, champion, registry, record, say=say)
        record.note(evaluation=evaluation)

        # Whether it may serve, and which decisions on films of this place would change.
        barred = _left_behind(registry, version) or drift
        promotion = judge_promotion(
            judged.numbers,
            champion=champion,
            comparison=judged.comparison,
            trouble=judged.trouble,
            barred=barred,
            rules=plan.rules,
        )
        if promotion.promote and champion is not None:
            try:
                evaluation["archive"] = _preview(plan, made, registry.folder(champion), say=say)
            except ModelPackageError as error:
                unfit = f"HELD: screeners do not take it: {error}"
                promotion = Promotion(promote=False, reasons=(*promotion.reasons, unfit))
            record.note(evaluation=evaluation)

        # What was found goes into the package, and the package into its place.
        package = _publish(made, judged, evaluation, promotion, registry)
        record.know(registry.manifest(version))
        _show_films(plan, made, judged, say)
    except BaseException:
        if made.package != registry.folder(version):
            shutil.rmtree(made.package, ignore_errors=True)
        raise
    ruling = Ruling.HELD
    if promotion.promote:
        ruling = Ruling.PROPOSED if plan.propose else Ruling.PROMOTED
    return Outcome(
        ruling=ruling,
        reasons=promotion.reasons,
        version=version,
        package=package,
        champion=champion,
        evaluation=evaluation,
        drifting=drift != "",
        settled=judged.settled,
    )


def _measure(
    made: Made, champion: str | None, registry: Registry, record: Record, *, say: Say
) -> tuple[Judged, dict[str, Any]]:
    dataset = made.dataset
    scans = dataset.side(Side.TEST)
    looks = record.look(digest_of(scans))
    say(f"measuring {made.version} and {champion or 'no champion'} on {dataset.test_name}")
    judged = judge(made.package, registry.folder(champion) if champion else None, scans)
    say("measuring it on the same films, disturbed")
    robustness = measure(made.package, scans, most=FILMS_A_NIGHT)
    return judged, {
        "version": made.version,
        "data": dataset.test_name,
        "data_note": dataset.test_note,
        "data_digest": dataset.digest,
        "test_digest": digest_of(scans),
        "looks": looks and asdict(looks),
        **judged.numbers,
        "calibration_side": made.product.calibration_side,
        "comparison": judged.comparison,
        "robustness": robustness,
    }


def _left_behind(registry: Registry, version: str) -> str:
    """Return why this model was rolled back from, on whatever day it was made; "" if it was not."""
    rejected = registry.rejected(version)
    if rejected is None:
        return ""
    name = "it" if rejected.from_version == version else f"as {rejected.from_version} it"
    return f"{name} was left behind by a rollback: {rejected.why}"


def _preview(plan: Plan, made: Made, champion: Path, *, say: Say) -> dict[str, Any] | None:
    """Screen the last archived films with both, and say which decisions would change.

    Raises:
        ModelPackageError: the challenger cannot serve as it would have to.
        OwnTrouble: database or screeners are in trouble: the next night tries again.
    """
    if plan.database_url is None or plan.preview is None or plan.preview_scans == 0:
        return None
    database = Database(plan.database_url)
    try:
        found = compare_decisions(
            database,
            plan.preview,
            champion=champion,
            challenger=made.package,
            last=plan.preview_scans,
        )
    except ChampionUnfitError as unfit:  # which is no reason to go on with it
        say(
            f"which decisions would change is not known: screeners do not take what serves: {unfit}"
        )
        return None
    finally:
        database.close()
    turns = Counter(
        f"{_decision(one.champion)} to {_decision(one.challenger)}" for one in found.turned
    )
    listed = ", ".join(f"{count} from {turn}" for turn, count in sorted(turns.items()))
    say(
        f"of the last {found.screened} archived films {len(found.turned)} would get another "
        f"decision{': ' if listed else ''}{listed}"
    )
    return {
        "screened": found.screened,
        "skipped": len(found.skipped),
        "turns": dict(sorted(turns.items())),
        "turned": [
            {
                "scan_id": one.scan_id,
                "sha256": one.sha256,
                "champion": [_decision(one.champion), one.champion and one.champion.probability],
                "challenger": [
                    _decision(one.challenger),
                    one.challenger and one.challenger.probability,
                ],
            }
            for one in found.turned
        ],
    }


def _decision(verdict: Verdict | None) -> str:
    return "refused" if verdict is None else str(verdict.decision)


def _publish(
    made: Made,
    judged: Judged,
    evaluation: dict[str, Any],
    promotion: Promotion,
    registry: Registry,
) -> Path:
    if made.package == registry.folder(made.version):
        return made.package  # published, and never changes
    figures = draw_figures(
        judged.truth,
        judged.challenger,
        judged.point,
        curve=made.training["curve"],
        numbers=judged.numbers,
    )
    card = write_card(made.version, evaluation, made.training, promotion.reasons, figures.keys())
    record = {"evaluation.json": build.to_json(evaluation), "card.md": card.encode()}
    with needed("the model's package cannot be written", registry.root):
        build.add_files(made.package, record | figures)
        return registry.publish(made.package, made.version)


def _show_films(plan: Plan, made: Made, judged: Judged, say: Say) -> None:
    """Leave the pictures that show films where those lie that may be seen by few."""
    try:
        folder = write_sheets(
            plan.pictures,
            version=made.version,
            train=made.dataset.side(Side.TRAIN),
            films=made.films,
            judged=judged,
            seed=plan.seed,
        )
        say(f"pictures of films are in {folder}")
    except OSError as error:  # a full disk must not undo a night
        say(f"pictures of films could not be written: {error}")
