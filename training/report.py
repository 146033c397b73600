"""The model card: what a package is, how good on whom, measured how, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NO_POPULATION = (
    "Not stated: the run that made this model was given no `--population`. Without knowing whose "
    "films it learnt from, do not assume that it can read yours."
)


def write_card(
    version: str,
    evaluation: Mapping[str, Any],
    training: Mapping[str, Any],
    reasons: Sequence[str],
) -> str:
    """Return the model card in Markdown.

    Args:
        version: of the model.
        evaluation: what evaluation.json holds.
        training: what the manifest says under `training`.
        reasons: of the verdict on promotion.
    """
    sections = [
        f"# Model {version}",
        "Decision support for people who read films. **Not a medical device.** It tells pneumonia "
        "from a normal chest X-ray and nothing else.",
        f"## Population\n\n{training['population'] or _NO_POPULATION}",
        _how_good(evaluation),
        _per_class(evaluation["confusion"]),
        _confusion(evaluation["confusion"]),
        _operating_point(evaluation, training),
        _training(training),
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
        ("sensitivity_outside_review", "sensitivity, REVIEW left out"),
        ("specificity_outside_review", "specificity, REVIEW left out"),
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
        "Wilson for shares.\n\n" + "\n".join(rows)
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
    return (
        "## Operating point\n\n"
        f"PNEUMONIA at a probability of {evaluation['threshold']:.4f} or above; REVIEW from "
        f"{low:.4f} up to below {high:.4f}. Both were chosen on the calibration side "
        f"({side['films']['NORMAL']} NORMAL, {side['films']['PNEUMONIA']} PNEUMONIA, other "
        f"patients): the threshold for a sensitivity of {aims['sensitivity']:g}, the band so that "
        f"outside it {aims['review_sensitivity']:g} of PNEUMONIA and "
        f"{aims['review_specificity']:g} of NORMAL are called right. There the AUC is "
        f"{side['auc']:.4f}, sensitivity {side['sensitivity']:.4f}, specificity "
        f"{side['specificity']:.4f}, calibration error {side['calibration_error']:.4f}. "
        f"Probabilities are for equally frequent classes; the temperature is "
        f"{evaluation['temperature']:.4f}. Thresholds do not carry over to another version."
    )


def _training(training: Mapping[str, Any]) -> str:
    rows = ["| side | NORMAL | PNEUMONIA | patients |", "|---|---|---|---|"]
    rows += [
        f"| {side} | {counts['NORMAL']} | {counts['PNEUMONIA']} | {counts['patients']} |"
        for side, counts in training["counts"].items()
    ]
    recipe = training["recipe"]
    return (
        f"## Training\n\n{recipe['epochs']} epochs from nothing with seed {recipe['seed']}, "
        f"{training['minutes']:.1f} minutes. Patients are split by a salted hash; a `test` folder "
        f"of the owner's is left as it is. Data digest `{training['data_digest']}`.\n\n"
        + "\n".join(rows)
    )


def _share(hits: int, of: int) -> str:
    return f"{hits / of:.4f}" if of else "none"
