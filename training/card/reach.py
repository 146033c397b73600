"""The card's sections on other sites, other prevalences, groups and disturbed films."""

from __future__ import annotations

from collections.abc import Mapping

from worker.model.evaluation import (
    TRACES,
    Disturbed,
    EdgeEvidence,
    Estimate,
    Evaluation,
    FilmCounts,
    Group,
    Robustness,
    Shortcuts,
)

_PREVALENCES = (0.01, 0.05, 0.10, 0.20, 0.50)
_ELSEWHERE = (
    "## Other sites\n\nNumbers from one site do not hold at another. A network trained on the "
    "public films of children of one hospital to distinguish pneumonia from normal, like the model "
    "shipped with this code, had an AUC of 0.95 on other films of that hospital. On films of "
    "children of the same age from elsewhere it was 0.54, near chance (Xin, Li and Yi, *Limited "
    "generalizability of deep learning algorithm for pediatric pneumonia classification on "
    "external data*, Emergency Radiology 2022, published online 2021, doi "
    "10.1007/s10140-021-01954-x). Expect no better of this model on other patients, hospitals or "
    "devices until it has been measured there, on films that readers have labelled."
)


def sections(evaluation: Evaluation) -> list[str]:
    """Return the sections, in Markdown, that the evaluation has numbers for."""
    written = [
        _ELSEWHERE,
        _shortcuts(evaluation.shortcuts),
        _prevalences(evaluation.sensitivity, evaluation.specificity),
        _groups("By series of names", "series", evaluation.groups.series),
        _groups("By size of the film", "size as stored", evaluation.groups.size),
        _robustness(evaluation.robustness),
        _evidence(evaluation.evidence_outside),
    ]
    return [section for section in written if section]


def number(value: float | None, *, signed: bool = False) -> str:
    """Return a number with four decimals, or `none`."""
    if value is None:
        return "none"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def interval(estimate: Estimate) -> str:
    """Return a difference's interval as text."""
    return f"{number(estimate.low, signed=True)} to {number(estimate.high, signed=True)}"


def _shortcuts(shortcuts: Shortcuts | None) -> str:
    if shortcuts is None:
        return ""
    rows = ["| the class predicted from | NORMAL | PNEUMONIA | AUC |", "|---|---|---|---|"]
    for name, trace in shortcuts.traces.items():
        films = " | ".join(str(trace.films.get(label, "")) for label in ("NORMAL", "PNEUMONIA"))
        found = f"not measured: {trace.not_measured}" if trace.auc is None else number(trace.auc)
        rows.append(f"| {TRACES.get(name, name)} | {films} | {found} |")
    head = f"## Shortcuts\n\n**{shortcuts.in_words()}**"
    if shortcuts.auc is None:
        return head
    normal, pneumonia = counts(shortcuts.films)
    return (
        f"{head} What follows from a film's size, encoder, grey levels or rim is not disease, and "
        "a network learns it all the same. Measured on "
        f"{normal} NORMAL and {pneumonia} PNEUMONIA films of {shortcuts.patients} patients on the "
        "train and calibration sides, by gradient boosting in five folds; each film is scored by a "
        "fit that had no film of its patient. 0.5 is chance. The grey levels of the whole film "
        "see disease as well.\n\n" + "\n".join(rows)
    )


def _prevalences(sensitivity: float | None, specificity: float | None) -> str:
    if sensitivity is None or specificity is None:
        return ""
    rows = ["| films that show pneumonia | PPV | NPV |", "|---|---|---|"]
    for share in _PREVALENCES:
        hits, alarms = share * sensitivity, (1 - share) * (1 - specificity)
        passed, missed = (1 - share) * specificity, share * (1 - sensitivity)
        ppv, npv = _ratio(hits, hits + alarms), _ratio(passed, passed + missed)
        rows.append(f"| {share:.0%} | {ppv} | {npv} |")
    return (
        "## Other prevalences\n\nComputed from the sensitivity and specificity above, assuming "
        "they hold. PPV: of the films called PNEUMONIA, the share that are. NPV: of the films "
        "called NORMAL, the share that are.\n\n" + "\n".join(rows)
    )


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole:.3f}" if whole else "none"


def _groups(head: str, column: str, groups: Mapping[str, Group]) -> str:
    if not groups:
        return ""
    rows = [
        f"| {column} | NORMAL | PNEUMONIA | AUC | sensitivity | specificity |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in groups.items():
        normal, pneumonia = counts(one.films)
        numbers = " | ".join(map(_measured, (one.auc, one.sensitivity, one.specificity)))
        rows.append(f"| {name} | {normal} | {pneumonia} | {numbers} |")
    return (
        f"## {head}\n\nThe same test films. A group of one class has no AUC, and only sensitivity "
        "or only specificity.\n\n" + "\n".join(rows)
    )


def counts(films: FilmCounts) -> tuple[int, int]:
    """Return the numbers of NORMAL and of PNEUMONIA films."""
    return films.get("NORMAL", 0), films.get("PNEUMONIA", 0)


def _measured(one: Estimate | None) -> str:
    if one is None:
        return ""
    return f"{number(one.value)} ({number(one.low)} to {number(one.high)})"


def _robustness(robustness: Robustness | None) -> str:
    if robustness is None:
        return ""
    return (
        "## Disturbed films\n\nEach test film, decoded at its own size, changed in one way, saved "
        "as a JPEG again and read by the worker's code.\n\n" + robustness_table(robustness)
    )


def robustness_table(robustness: Robustness) -> str:
    """Return a table, and a sentence on its films."""
    rows = [
        "| disturbance | AUC | difference | 95 % interval | sensitivity "
        "| specificity | REVIEW | refused |",
        "|---|---|---|---|---|---|---|---|",
        _robust_row("none", robustness.untouched),
    ]
    rows += [_robust_row(name, one) for name, one in robustness.disturbed.items()]
    films, of = counts(robustness.films), counts(robustness.of)
    whole = "all" if films == of else f"chosen by their content from {of[0]} and {of[1]}"
    return (
        "\n".join(rows) + f"\n\n{films[0]} NORMAL and {films[1]} PNEUMONIA films, {whole}. "
        "Differences are from the same films undisturbed, intervals by paired DeLong. REVIEW "
        "counts the films near the threshold or unfamiliar; the other numbers are of the label, "
        "which all films have but those refused."
    )


def _robust_row(name: str, one: Disturbed) -> str:
    change = "| |"
    if one.difference is not None:
        change = f"| {number(one.difference.value, signed=True)} | {interval(one.difference)}"
    left = " | ".join("" if films is None else str(films) for films in (one.review, one.refused))
    shares = " | ".join(map(number, (one.sensitivity, one.specificity)))
    return f"| {name} | {number(one.auc)} {change} | {shares} | {left} |"


def _evidence(share: EdgeEvidence | None) -> str:
    if share is None or share.mean is None or share.median is None or share.even is None:
        return ""
    return (
        "## Where the evidence lies\n\nOf the evidence, without its sign, "
        f"{share.mean:.1%} (mean over the test films; median {share.median:.1%}) lies in the "
        "outermost eighth along the film's edges, outside the middle of the body, where borders "
        f"and markers are. For evenly spread evidence it would be {share.even:.1%}. "
        "`lungwatch explain` draws the evidence on a film. It is the model's evidence, not the "
        "outline of a lesion."
    )
