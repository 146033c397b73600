"""The model card: what a package is, how good it is on which films, and its limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from training.card import reach, shift
from training.card.reach import counts, interval, number
from training.evaluate.operating_point import promised_coverage
from worker.model.evaluation import (
    Confusion,
    Evaluation,
    Looks,
    Metrics,
    PairedComparison,
    Preview,
    Unfamiliar,
)
from worker.model.population import Population

_NO_POPULATION = (
    "Not stated: this model was trained without `LUNGWATCH_POPULATION`. Whose films it was trained "
    "on is not known, so do not assume that it can read yours."
)
_PICTURES = (
    "## Pictures of films\n\nA training batch as preprocessed and as augmented, the worst mistakes "
    "and the films lost to the champion show patients' films. They are not in this package, but in "
    "the night's `report` folder, next to the film cache."
)
_LISTED = 50  # lost films in the card


def write_card(
    version: str,
    evaluation: Evaluation,
    training: Mapping[str, Any],
    reasons: Sequence[str],
    figures: Collection[str] = (),
    *,
    population: Population | None = None,
) -> str:
    """Return the model card in Markdown.

    Args:
        version: of the model.
        evaluation: all its measurements.
        training: the manifest's `training`.
        reasons: of the verdict on promotion.
        figures: file names of the pictures next to the card.
        population: whose films it was tested on; None if not stated.
    """

    def shown(name: str, words: str) -> str:
        return f"\n\n![{words}]({name}.png)" if f"{name}.png" in figures else ""

    sections = [
        f"# Model {version}",
        "Decision support for people who read films. **Not a medical device.** It distinguishes "
        "pneumonia from a normal chest X-ray and nothing else.",
        "## Population\n\n" + _population(population or Population(), training["population"]),
        *([shift.section(evaluation)] if evaluation.shifts is not None else []),
        _how_good(evaluation) + shown("roc", "ROC with the operating point"),
        _per_class(evaluation.confusion),
        _confusion(evaluation.confusion) + shown("confusion", "confusion matrix"),
        _against_champion(evaluation.comparison) + _archive(evaluation.archive),
        *reach.sections(evaluation),
        _operating_point(evaluation, training)
        + shown("calibration", "calibration")
        + shown("scores", "scores of the test films"),
        _training(training) + shown("training", "training curve"),
        _PICTURES,
        "## Verdict\n\n" + "\n".join(f"- {reason}" for reason in reasons),
    ]
    return "\n\n".join(sections) + "\n"


def _population(population: Population, note: str) -> str:
    if population == Population():
        return note or _NO_POPULATION
    return population.sentence + (f"\n\n{note}" if note not in population.source else "")


def _how_good(evaluation: Evaluation) -> str:
    normal, pneumonia = counts(evaluation.films)
    rows = ["| measure | value | 95 % interval |", "|---|---|---|"]
    for name, value, words in (
        ("auc", evaluation.auc, "AUC"),
        ("sensitivity", evaluation.sensitivity, "sensitivity"),
        ("specificity", evaluation.specificity, "specificity"),
        ("ppv", evaluation.ppv, "PPV"),
        ("npv", evaluation.npv, "NPV"),
        ("review_share", evaluation.review_share, "share marked REVIEW"),
        (
            "sensitivity_outside_review",
            evaluation.sensitivity_outside_review,
            "sensitivity without REVIEW and refused films",
        ),
        (
            "specificity_outside_review",
            evaluation.specificity_outside_review,
            "specificity without REVIEW and refused films",
        ),
    ):
        ends = evaluation.intervals.get(name)
        between = "" if ends is None else f" {ends[0]:.4f} to {ends[1]:.4f}"
        rows.append(f"| {words} | {number(value)} |{between} |")
    rows.append(f"| Brier score | {number(evaluation.brier)} | |")
    rows.append(f"| expected calibration error | {number(evaluation.calibration_error)} | |")
    return (
        f"## How good on the films as they are\n\nMeasured on `{evaluation.data}`: {normal} NORMAL "
        f"and {pneumonia} PNEUMONIA films, read by the worker's code from the package on disk, in "
        f"a separate process. {evaluation.data_note} Intervals: DeLong for the AUC, Wilson for "
        "proportions. In Brier score and calibration error both classes have equal weight. "
        f"{_looks(evaluation.looks)}\n\n" + "\n".join(rows)
    )


def _looks(looks: Looks | None) -> str:
    if looks is None:
        return "The number of times models were measured on these films was not counted."
    return (
        f"Models were measured {looks.this_set} times on exactly these films and "
        f"{looks.any_set} times on any recorded test films, this time included; the best of many "
        "results is too good."
    )


def _against_champion(comparison: PairedComparison | None) -> str:
    head = "## Against the champion\n\n"
    if comparison is None:
        return head + "There was no champion to compare it with."
    theirs, differences = comparison.champion_numbers, comparison.differences
    rows = ["| measure | champion | difference | 95 % interval |", "|---|---|---|---|"]
    for words, before, difference in (
        ("robust AUC", theirs.robust_auc, differences.robust_auc),
        ("AUC on swapped films", theirs.swapped_auc, differences.swapped_auc),
        ("AUC on zoomed films, the worse", theirs.zoomed_auc, differences.zoomed_auc),
        ("AUC (paired DeLong)", theirs.auc, differences.auc),
        ("sensitivity", theirs.sensitivity, differences.sensitivity),
        ("specificity", theirs.specificity, differences.specificity),
        ("Brier score", theirs.brier, differences.brier),
        (
            "expected calibration error",
            theirs.calibration_error,
            differences.calibration_error,
        ),
        (
            "share REVIEW or refused",
            theirs.undecided,
            differences.undecided,
        ),
    ):
        rows.append(
            f"| {words} | {number(before)} | {number(difference.value, signed=True)} | "
            f"{interval(difference)} |"
        )
    decisions, lost = comparison.decisions, comparison.lost_films
    listed = [
        f"- `{film.sha256[:12]}`, {film.label}: {number(film.champion)} by the champion, "
        f"{number(film.challenger)} by this model"
        for film in lost[:_LISTED]
    ]
    more = [f"- and {len(lost) - _LISTED} more"] if len(lost) > _LISTED else []
    return (
        f"{head}Version {comparison.champion}, on the same films of {comparison.patients} "
        "patients, each model at its own operating point. A difference is this model's number "
        f"minus the champion's; intervals other than DeLong's are from {comparison.draws} "
        "bootstrap draws of patients.\n\n" + "\n".join(rows) + "\n\n"
        f"Both models are right on {decisions.both_right} films and wrong on "
        f"{decisions.both_wrong}; only this model is right on {decisions.gained}, only the "
        f"champion on {decisions.lost} (McNemar's exact p {_chance(comparison.mcnemar_p)})."
        + ("\n\nRight by the champion and wrong by this model:\n\n" if listed else "")
        + "\n".join(listed + more)
    )


def _chance(p: float | None) -> str:
    if p is None:
        return "none"
    return f"{p:.3f}" if p >= 0.001 else "0.001 or less"


def _archive(preview: Preview | None) -> str:
    if preview is None:
        return ""
    turns = ", ".join(f"{count} from {turn}" for turn, count in preview.turns.items())
    return (
        f"\n\nOf the last {preview.screened} archived films at the site where it was made, "
        f"{len(preview.turned)} would get a different decision from the champion's"
        f"{f': {turns}' if turns else ''}."
    )


def _per_class(confusion: Confusion) -> str:
    right = {"NORMAL": confusion.true_negative, "PNEUMONIA": confusion.true_positive}
    missed = {"NORMAL": confusion.false_positive, "PNEUMONIA": confusion.false_negative}
    wrongly = {"NORMAL": confusion.false_negative, "PNEUMONIA": confusion.false_positive}
    rows = ["| class | precision | recall | F1 | films |", "|---|---|---|---|---|"]
    for label, hits in right.items():
        precision = _share(hits, hits + wrongly[label])
        recall = _share(hits, hits + missed[label])
        f1 = _share(2 * hits, 2 * hits + wrongly[label] + missed[label])
        rows.append(f"| {label} | {precision} | {recall} | {f1} | {hits + missed[label]} |")
    return "## Each class at the threshold\n\n" + "\n".join(rows)


def _confusion(confusion: Confusion) -> str:
    return (
        "## Confusion matrix\n\n"
        "| films that are | called NORMAL | called PNEUMONIA |\n|---|---|---|\n"
        f"| NORMAL | {confusion.true_negative} | {confusion.false_positive} |\n"
        f"| PNEUMONIA | {confusion.false_negative} | {confusion.true_positive} |"
    )


def _operating_point(evaluation: Evaluation, training: Mapping[str, Any]) -> str:
    low, high = evaluation.review_band or (None, None)
    aims, side = training["aims"], evaluation.calibration_side or Metrics()
    normal, pneumonia = counts(side.films)
    of_normal, of_pneumonia = (
        promised_coverage(films, aims["coverage"]) for films in (normal, pneumonia)
    )
    return (
        "## Operating point\n\n"
        f"PNEUMONIA at a probability of {number(evaluation.threshold)} or above; REVIEW from "
        f"{number(low)} to below {number(high)}. Both were chosen on the calibration side "
        f"({normal} NORMAL, {pneumonia} PNEUMONIA, other patients{_ways(aims)}): the threshold for "
        f"a sensitivity of {aims['sensitivity']:g}, the band by class-conditional conformal "
        "prediction. Of films like these, at least "
        f"{of_pneumonia:.3f} of PNEUMONIA are not called NORMAL, and {of_normal:.3f} of NORMAL are "
        f"not called PNEUMONIA. There the AUC is {number(side.auc)}, sensitivity "
        f"{number(side.sensitivity)}, specificity {number(side.specificity)}, calibration error "
        f"{number(side.calibration_error)}. Probabilities assume equally frequent classes; the "
        f"temperature is {number(evaluation.temperature)}. A threshold is valid for its own "
        f"version only.{_unfamiliar(evaluation.unfamiliar)}{_others(training)}"
    )


def _ways(aims: Mapping[str, Any]) -> str:
    """Return how calibration films count, for a package calibrated on films in three ways."""
    if "review_share" not in aims:
        return ""
    return (
        "; each film counts three times: as it is, with framing and grey levels of the other "
        f"class, and cropped to 0.8 x 0.8; at most {aims['review_share']:.0%} of films as they "
        "are fall into the band"
    )


def _unfamiliar(shares: Unfamiliar | None) -> str:
    if shares is None:
        return ""
    return (
        "\n\nA film that is not a chest X-ray is refused, and a film unlike the training films is "
        "REVIEW, by limits fitted without these films: "
        f"{shares.refused:.1%} of them would be refused, and {shares.review:.1%} would be REVIEW "
        "for that reason. The numbers above are of the label, which all of them have."
    )


def _others(training: Mapping[str, Any]) -> str:
    """Describe the films that films of other patients are recognised by, if there are any."""
    others, share = training.get("other_patients"), training.get("familiar", {}).get("others")
    if others is None:
        return ""
    if not others:
        return (
            "\n\nNo films of other patients were given: films of adults are recognised only by "
            "their distance from the training films."
        )
    start = f"\n\nChest films of other patients are recognised from these films: {others['source']}"
    if share is None:
        return f"{start}. The fit is that of {others['from']}."
    return (
        f"{start}. Of those {share['films']} films, {share['beyond_review']:.1%} are REVIEW or "
        "refused (cross-validated by patient)."
    )


def _training(training: Mapping[str, Any]) -> str:
    rows = ["| side | NORMAL | PNEUMONIA | patients |", "|---|---|---|---|"]
    rows += [
        f"| {side} | {counts['NORMAL']} | {counts['PNEUMONIA']} | {counts['patients']} |"
        for side, counts in training["counts"].items()
    ]
    champion = training.get("from")
    start = f"from the weights of {champion}" if champion else "from new weights"
    epochs, best = len(training["curve"]), training.get("epoch", len(training["curve"]))
    return (
        f"## Training\n\n{epochs} epochs {start} with seed {training['recipe']['seed']}, "
        f"{training['minutes']:.1f} minutes; the weights are an average around epoch {best}, the "
        "best on the calibration side. Patients are split by a salted hash; an owner's `test` "
        f"folder is kept. Data digest `{training['data_digest']}`.\n\n" + "\n".join(rows)
    )


def _share(hits: int, of: int) -> str:
    return f"{hits / of:.4f}" if of else "none"
