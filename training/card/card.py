"""The model card: what a package is, how good on whom, measured how, and what it is not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from training.card import reach
from training.evaluate.operating_point import promised_coverage

_NO_POPULATION = (
    "Not stated: the run that made this model was given no `--population`. Without knowing whose "
    "films it learnt from, do not assume that it can read yours."
)
_PICTURES = (
    "## Pictures of films\n\nA training batch as preprocessed and as augmented, the worst mistakes "
    "and the films lost to the champion are patients' films. They are not in this package: the "
    "night leaves them in its `report` folder, beside the film cache."
)
_LISTED = 50  # of the films lost


def write_card(
    version: str,
    evaluation: Mapping[str, Any],
    training: Mapping[str, Any],
    reasons: Sequence[str],
    figures: Collection[str] = (),
) -> str:
    """Return the model card in Markdown.

    Args:
        version: of the model.
        evaluation: what evaluation.json holds.
        training: what the manifest says under `training`.
        reasons: of the verdict on promotion.
        figures: names of the pictures that lie beside the card.
    """

    def shown(name: str, words: str) -> str:
        return f"\n\n![{words}]({name}.png)" if f"{name}.png" in figures else ""

    sections = [
        f"# Model {version}",
        "Decision support for people who read films. **Not a medical device.** It tells pneumonia "
        "from a normal chest X-ray and nothing else.",
        f"## Population\n\n{training['population'] or _NO_POPULATION}",
        _how_good(evaluation) + shown("roc", "ROC with the operating point"),
        _per_class(evaluation["confusion"]),
        _confusion(evaluation["confusion"]) + shown("confusion", "confusion matrix"),
        _against_champion(evaluation.get("comparison")) + _archive(evaluation.get("archive")),
        *reach.sections(evaluation),
        _operating_point(evaluation, training)
        + shown("calibration", "calibration")
        + shown("scores", "scores of the test films"),
        _training(training) + shown("training", "training curve"),
        _PICTURES,
        "## Verdict\n\n" + "\n".join(f"- {reason}" for reason in reasons),
    ]
    return "\n\n".join(sections) + "\n"


def _how_good(evaluation: Mapping[str, Any]) -> str:
    films = evaluation["films"]
    rows = ["| measure | value | 95 % interval |", "|---|---|---|"]
    for name, words in (
        ("auc", "AUC"),
        ("sensitivity", "sensitivity"),
        ("specificity", "specificity"),
        ("ppv", "PPV"),
        ("npv", "NPV"),
        ("review_share", "share marked REVIEW"),
        ("sensitivity_outside_review", "sensitivity, REVIEW and refused left out"),
        ("specificity_outside_review", "specificity, REVIEW and refused left out"),
    ):
        value, interval = evaluation[name], evaluation["intervals"][name]
        if value is None:
            rows.append(f"| {words} | none | |")
        else:
            rows.append(f"| {words} | {value:.4f} | {interval[0]:.4f} to {interval[1]:.4f} |")
    rows.append(f"| Brier score | {evaluation['brier']:.4f} | |")
    rows.append(f"| expected calibration error | {evaluation['calibration_error']:.4f} | |")
    return (
        f"## How good\n\nMeasured on `{evaluation['data']}`: {films['NORMAL']} NORMAL and "
        f"{films['PNEUMONIA']} PNEUMONIA films, read by the worker's code from the package on "
        f"disk, in a process of its own. {evaluation['data_note']} Intervals: DeLong for the AUC, "
        f"Wilson for shares. In Brier score and calibration error both classes weigh the same. "
        f"{_looks(evaluation.get('looks'))}\n\n" + "\n".join(rows)
    )


def _looks(looks: Mapping[str, int] | None) -> str:
    if looks is None:
        return "How often models were measured on these films was not counted."
    return (
        f"This was look number {looks['this_set']} at exactly these films, and number "
        f"{looks['any_set']} at any test films on record; the best of many looks flatters."
    )


def _against_champion(comparison: Mapping[str, Any] | None) -> str:
    head = "## Against the champion\n\n"
    if comparison is None:
        return head + "There was none that it could be compared with."
    theirs, differences = comparison["champion_numbers"], comparison["differences"]
    rows = ["| measure | champion | difference | 95 % interval |", "|---|---|---|---|"]
    for name, words in (
        ("auc", "AUC (paired DeLong)"),
        ("sensitivity", "sensitivity"),
        ("specificity", "specificity"),
        ("brier", "Brier score"),
        ("calibration_error", "expected calibration error"),
        ("undecided", "share left to a person, REVIEW or refused"),
    ):
        difference = differences[name]
        rows.append(
            f"| {words} | {theirs[name]:.4f} | {difference['value']:+.4f} | "
            f"{difference['low']:+.4f} to {difference['high']:+.4f} |"
        )
    decisions, lost = comparison["decisions"], comparison["lost_films"]
    chance = comparison["mcnemar_p"]
    listed = [
        f"- `{film['sha256'][:12]}`, {film['label']}: {film['champion']:.4f} by the champion, "
        f"{film['challenger']:.4f} by this model"
        for film in lost[:_LISTED]
    ]
    more = [f"- and {len(lost) - _LISTED} more"] if len(lost) > _LISTED else []
    return (
        f"{head}Version {comparison['champion']}, on the same films of {comparison['patients']} "
        "patients, each model at its own operating point. A difference is this model's number "
        f"less the champion's; intervals not DeLong's are from {comparison['draws']} draws of "
        "patients.\n\n" + "\n".join(rows) + "\n\n"
        f"Of the films, both have {decisions['both_right']} right and {decisions['both_wrong']} "
        f"wrong; this model alone has {decisions['gained']} right, the champion alone "
        f"{decisions['lost']} (McNemar's exact p {max(chance, 0.001):.3f}"
        f"{' or less' if chance < 0.001 else ''})."
        + ("\n\nRight by the champion and wrong by this model:\n\n" if listed else "")
        + "\n".join(listed + more)
    )


def _archive(preview: Mapping[str, Any] | None) -> str:
    if preview is None:
        return ""
    turns = ", ".join(f"{count} from {turn}" for turn, count in preview["turns"].items())
    return (
        f"\n\nOf the last {preview['screened']} films archived where it was made, "
        f"{len(preview['turned'])} would get another decision than by the champion"
        f"{f': {turns}' if turns else ''}."
    )


def _per_class(confusion: Mapping[str, int]) -> str:
    right = {"NORMAL": confusion["true_negative"], "PNEUMONIA": confusion["true_positive"]}
    missed = {"NORMAL": confusion["false_positive"], "PNEUMONIA": confusion["false_negative"]}
    wrongly = {"NORMAL": confusion["false_negative"], "PNEUMONIA": confusion["false_positive"]}
    rows = ["| class | precision | recall | F1 | films |", "|---|---|---|---|---|"]
    for label, hits in right.items():
        precision = _share(hits, hits + wrongly[label])
        recall = _share(hits, hits + missed[label])
        f1 = _share(2 * hits, 2 * hits + wrongly[label] + missed[label])
        rows.append(f"| {label} | {precision} | {recall} | {f1} | {hits + missed[label]} |")
    return "## Each class, at the threshold\n\n" + "\n".join(rows)


def _confusion(confusion: Mapping[str, int]) -> str:
    return (
        "## Confusion matrix\n\n"
        "| films that are | called NORMAL | called PNEUMONIA |\n|---|---|---|\n"
        f"| NORMAL | {confusion['true_negative']} | {confusion['false_positive']} |\n"
        f"| PNEUMONIA | {confusion['false_negative']} | {confusion['true_positive']} |"
    )


def _operating_point(evaluation: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    low, high = evaluation["review_band"]
    aims, side = training["aims"], evaluation["calibration_side"]
    promised = {
        label: promised_coverage(films, aims["coverage"]) for label, films in side["films"].items()
    }
    return (
        "## Operating point\n\n"
        f"PNEUMONIA at a probability of {evaluation['threshold']:.4f} or above; REVIEW from "
        f"{low:.4f} up to below {high:.4f}. Both were chosen on the calibration side "
        f"({side['films']['NORMAL']} NORMAL, {side['films']['PNEUMONIA']} PNEUMONIA, other "
        f"patients): the threshold for a sensitivity of {aims['sensitivity']:g}, the band by "
        f"class-conditional conformal prediction, so that of films like these at least "
        f"{promised['PNEUMONIA']:.3f} of PNEUMONIA are not called NORMAL, and "
        f"{promised['NORMAL']:.3f} of NORMAL not PNEUMONIA. There the AUC is "
        f"{side['auc']:.4f}, sensitivity {side['sensitivity']:.4f}, specificity "
        f"{side['specificity']:.4f}, calibration error {side['calibration_error']:.4f}. "
        f"Probabilities are for equally frequent classes; the temperature is "
        f"{evaluation['temperature']:.4f}. Thresholds do not carry over to another version."
        f"{_unfamiliar(evaluation.get('unfamiliar'))}"
    )


def _unfamiliar(shares: Mapping[str, float] | None) -> str:
    if shares is None:
        return ""
    return (
        "\n\nWhat is no chest film is refused, and what is unlike the training films is REVIEW, by "
        f"limits fitted without these films: {shares['refused']:.1%} of them would be refused, "
        f"{shares['review']:.1%} be REVIEW for that reason. The numbers above are of the label, "
        "which all of them have."
    )


def _training(training: Mapping[str, Any]) -> str:
    rows = ["| side | NORMAL | PNEUMONIA | patients |", "|---|---|---|---|"]
    rows += [
        f"| {side} | {counts['NORMAL']} | {counts['PNEUMONIA']} | {counts['patients']} |"
        for side, counts in training["counts"].items()
    ]
    champion = training.get("from")
    start = f"from the weights of {champion}" if champion else "from nothing"
    epochs, best = len(training["curve"]), training.get("epoch", len(training["curve"]))
    return (
        f"## Training\n\n{epochs} epochs {start} with seed {training['recipe']['seed']}, "
        f"{training['minutes']:.1f} minutes; the weights are the average about epoch {best}, the "
        "best on the calibration side. Patients are split by a salted hash; a `test` folder of the "
        f"owner's is left as it is. Data digest `{training['data_digest']}`.\n\n" + "\n".join(rows)
    )


def _share(hits: int, of: int) -> str:
    return f"{hits / of:.4f}" if of else "none"
