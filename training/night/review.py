"""From a package to a verdict: measured and compared with the champion, judged, published.

The files that will serve are measured. On any error the champion stays, and no incomplete package
is left where a reader looks.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

from training.card.card import write_card
from training.card.figures import draw_figures
from training.card.sheets import write_sheets
from training.console import Say
from training.data.dataset import Side
from training.data.native_sizes import native_sizes
from training.evaluate.head_to_head import Judged, digest_of, judge
from training.evaluate.reframed import framing_of
from training.evaluate.scoring import Evaluator
from training.evaluate.shifts import measure_shifts
from training.evaluate.shortcuts import AuditedFilms, audit, not_audited
from training.gate import Promotion, judge_promotion
from training.io import needed
from training.night.build import Made
from training.night.options import Plan
from training.night.state import Night, NightOutcome
from training.package import build
from training.robustness import FILMS_A_NIGHT, measure
from worker.db.engine import Database
from worker.db.training_runs import Ruling
from worker.errors import ModelPackageError
from worker.model.decision import Verdict
from worker.model.evaluation import ChangedDecision, Evaluation, Preview, Shifts, Shortcuts
from worker.model.manifest import read_manifest
from worker.model.registry import Registry
from worker.screening.rescore import ChampionUnfitError, Turned, compare_decisions


def conclude(night: Night, made: Made, *, evaluator: Evaluator, drift: str = "") -> NightOutcome:
    """Measure the package and the champion's, judge, and publish the package with its numbers.

    Args:
        night: with the test side.
        made: the package.
        evaluator: scores packages.
        drift: why nothing may be promoted, if films have changed; else "".

    Raises:
        ModelPackageError: the package does not load in the worker's code.
        DataError: the package cannot be written.
        OwnTrouble: trouble with database or screeners.
    """
    version, plan, registry, record = made.version, night.plan, night.registry, night.record
    try:
        # Measure the files on disk, with the worker's code, in a separate process.
        champion = registry.champion()
        judged, evaluation = _measure(night, made, champion, evaluator)
        record.note(evaluation=evaluation.model_dump(mode="json"))

        # Decide whether it may serve, and which decisions on this site's films would change.
        barred = _rolled_back(registry, version) or drift
        promotion = judge_promotion(
            evaluation,
            champion=champion,
            comparison=evaluation.comparison,
            trouble=judged.trouble,
            barred=barred,
            rules=plan.rules,
        )
        if promotion.promote and champion is not None:
            try:
                preview = _preview(plan, made, registry.folder(champion), say=night.say)
                evaluation = evaluation.model_copy(update={"archive": preview})
            except ModelPackageError as error:
                unfit = f"HELD: screeners refuse it: {error}"
                promotion = Promotion(promote=False, reasons=(*promotion.reasons, unfit))
            record.note(evaluation=evaluation.model_dump(mode="json"))

        # Put the numbers into the package, and publish it.
        package = _publish(made, judged, evaluation, promotion, registry)
        record.know(registry.manifest(version))
        _show_films(night, version, judged)
    except BaseException:
        if made.package != registry.folder(version):
            shutil.rmtree(made.package, ignore_errors=True)
        raise
    ruling = Ruling.HELD
    if promotion.promote:
        ruling = Ruling.PROPOSED if plan.propose else Ruling.PROMOTED
    return NightOutcome(
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
    night: Night, made: Made, champion: str | None, evaluator: Evaluator
) -> tuple[Judged, Evaluation]:
    dataset, say = night.dataset, night.say
    scans = dataset.side(Side.TEST)
    looks = night.record.look(digest_of(scans))
    say(f"measuring {made.version} and {champion or 'no champion'} on {dataset.test_name}")
    serving = night.registry.folder(champion) if champion else None
    judged = judge(made.package, serving, scans, score=evaluator.score)
    say("measuring on the same films with framing and grey levels of the other class, and zoomed")
    judged, shifts = _measure_shifts(night, made, serving, judged, evaluator)
    say("measuring it on the same films, disturbed")
    robustness = measure(
        made.package, scans, most=FILMS_A_NIGHT, score_disturbed=evaluator.score_disturbed
    )
    return judged, Evaluation(
        version=made.version,
        data=dataset.test_name,
        data_note=dataset.test_note,
        data_digest=dataset.digest,
        test_digest=digest_of(scans),
        looks=looks,
        groups=judged.groups,
        evidence_outside=judged.evidence_outside,
        unfamiliar=judged.unfamiliar,
        calibration_side=made.calibration_side,
        comparison=judged.comparison,
        shifts=shifts,
        robustness=robustness,
        shortcuts=_audit(night),
        **dict(judged.numbers),
    )


def _measure_shifts(
    night: Night, made: Made, serving: Path | None, judged: Judged, evaluator: Evaluator
) -> tuple[Judged, Shifts]:
    """Return the judgement with the AUCs under shift of both models, and the challenger's shifts.

    Raises:
        ModelPackageError: the challenger is not fit to serve, or a process failed.
    """
    dataset = night.dataset
    train = dataset.side(Side.TRAIN)
    sizes = native_sizes(dataset.scans, listed=night.plan.native_sizes, stored=night.films.sizes)
    beside = [serving] if serving is not None and judged.comparison is not None else []
    (ours, *theirs), differences = measure_shifts(
        [made.package, *beside],
        judged.scans,
        train,
        framing_of(train, sizes),
        score=evaluator.score_reframed,
    )
    if ours.error:
        raise ModelPackageError(ours.error)
    comparison = judged.comparison
    if comparison is not None and theirs:
        comparison = comparison.model_copy(
            update={
                "champion_numbers": theirs[0].within(comparison.champion_numbers),
                "champion_shifts": theirs[0].shifts,
                "differences": comparison.differences.model_copy(update=differences),
            }
        )
    judged = replace(judged, numbers=ours.within(judged.numbers), comparison=comparison)
    return judged, ours.shifts


def _audit(night: Night) -> Shortcuts:
    """Measure how well the class of training films can be predicted from what is not disease."""
    scans = night.dataset.scans
    try:
        films = AuditedFilms.of(
            [scan for scan in scans if scan.side is not Side.TEST],
            night.films,
            native_sizes(scans, listed=night.plan.native_sizes, stored=night.films.sizes),
        )
        shortcuts = audit(films, seed=night.plan.seed)
    except Exception as error:  # noqa: BLE001 - nothing is judged by it: it must not undo a night
        why = str(error).partition("\n")[0]
        shortcuts = not_audited(f"the audit failed ({type(error).__name__}: {why})")
    night.say(shortcuts.in_words())
    return shortcuts


def _rolled_back(registry: Registry, version: str) -> str:
    """Return why this model was rolled back, whatever its date; "" if it was not."""
    rejected = registry.rejected(version)
    if rejected is None:
        return ""
    name = "it" if rejected.from_version == version else f"as {rejected.from_version} it"
    return f"{name} was rolled back: {rejected.why}"


def _preview(plan: Plan, made: Made, champion: Path, *, say: Say) -> Preview | None:
    """Screen the latest archived films with both versions, and return the changed decisions.

    Raises:
        ModelPackageError: the challenger is not fit to serve.
        OwnTrouble: trouble with database or screeners; the next night tries again.
    """
    if plan.database_url is None or plan.preview is None or plan.preview_scans == 0:
        return None
    database = Database(plan.database_url)
    try:
        compared = compare_decisions(
            database,
            plan.preview,
            champion=champion,
            challenger=made.package,
            last=plan.preview_scans,
        )
    except ChampionUnfitError as unfit:  # no reason to keep the champion
        say(f"the changed decisions are not known, because screeners refuse the champion: {unfit}")
        return None
    finally:
        database.close()
    turns = Counter(
        f"{_decision(one.champion)} to {_decision(one.challenger)}" for one in compared.turned
    )
    listed = ", ".join(f"{count} from {turn}" for turn, count in sorted(turns.items()))
    say(
        f"of the last {compared.screened} archived films {len(compared.turned)} would get a "
        f"different decision{': ' if listed else ''}{listed}"
    )
    return Preview(
        screened=compared.screened,
        skipped=len(compared.skipped),
        turns=dict(sorted(turns.items())),
        turned=[_changed(one) for one in compared.turned],
    )


def _changed(one: Turned) -> ChangedDecision:
    return ChangedDecision(
        scan_id=one.scan_id,
        sha256=one.sha256,
        champion=(_decision(one.champion), one.champion and one.champion.probability),
        challenger=(_decision(one.challenger), one.challenger and one.challenger.probability),
    )


def _decision(verdict: Verdict | None) -> str:
    return "refused" if verdict is None else str(verdict.decision)


def _publish(
    made: Made,
    judged: Judged,
    evaluation: Evaluation,
    promotion: Promotion,
    registry: Registry,
) -> Path:
    if made.package == registry.folder(made.version):
        return made.package  # published packages never change
    figures = draw_figures(
        judged.truth,
        judged.challenger,
        judged.point,
        curve=made.training["curve"],
        numbers=evaluation,
    )
    card = write_card(
        made.version,
        evaluation,
        made.training,
        promotion.reasons,
        figures.keys(),
        population=read_manifest(made.package).tested_on,
    )
    record = {
        "evaluation.json": build.to_json(evaluation.model_dump(mode="json")),
        "card.md": card.encode(),
    }
    with needed("the model's package cannot be written", registry.root):
        build.add_files(made.package, record | figures)
        return registry.publish(made.package, made.version)


def _show_films(night: Night, version: str, judged: Judged) -> None:
    """Write the pictures that show films to their own folder."""
    try:
        folder = write_sheets(
            night.plan.pictures,
            version=version,
            train=night.dataset.side(Side.TRAIN),
            films=night.films,
            judged=judged,
            seed=night.plan.seed,
        )
        night.say(f"pictures of films are in {folder}")
    except OSError as error:  # a full disk must not fail a night
        night.say(f"pictures of films could not be written: {error}")
