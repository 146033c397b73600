"""The card's sections on how far its numbers reach: elsewhere, other prevalences, other films."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PREVALENCES = (0.01, 0.05, 0.10, 0.20, 0.50)
_ELSEWHERE = (
    "## Elsewhere\n\nNumbers from one place do not carry over to another. A network trained on the "
    "public films of children of one hospital to tell pneumonia from normal, as the model shipped "
    "with this code is, had an AUC of 0.95 on other films of that hospital and of 0.54, next to "
    "chance, on films of children of the same age from elsewhere (Xin, Li and Yi, *Limited "
    "generalizability of deep learning algorithm for pediatric pneumonia classification on "
    "external data*, Emergency Radiology 2022, published online 2021, doi "
    "10.1007/s10140-021-01954-x). Expect no better of this model on other patients, hospitals or "
    "devices until it has been measured there, on films that readers have labelled."
)


def sections(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the sections, in Markdown, for as much as evaluation.json holds."""
    groups = evaluation.get("groups") or {}
    found = [
        _ELSEWHERE,
        _prevalences(evaluation["sensitivity"], evaluation["specificity"]),
        _groups("By series of names", "series", groups.get("series")),
        _groups("By size of the film", "size as stored", groups.get("size")),
        _robustness(evaluation.get("robustness")),
        _evidence(evaluation.get("evidence_outside")),
    ]
    return [section for section in found if section]


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
        "## Where pneumonia is rarer or more frequent\n\nComputed from sensitivity and "
        "specificity above, as if those held there. PPV: of the films called PNEUMONIA, the share "
        "that are. NPV: of those called NORMAL.\n\n" + "\n".join(rows)
    )


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole:.3f}" if whole else "none"


def _groups(head: str, column: str, groups: Mapping[str, Any] | None) -> str:
    if not groups:
        return ""
    rows = [
        f"| {column} | NORMAL | PNEUMONIA | AUC | sensitivity | specificity |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in groups.items():
        films = one["films"]
        numbers = " | ".join(_measured(one[key]) for key in ("auc", "sensitivity", "specificity"))
        rows.append(f"| {name} | {films['NORMAL']} | {films['PNEUMONIA']} | {numbers} |")
    return (
        f"## {head}\n\nThe same test films. A group of one class has no AUC, and sensitivity or "
        "specificity alone.\n\n" + "\n".join(rows)
    )


def _measured(one: Mapping[str, float] | None) -> str:
    return "" if one is None else f"{one['value']:.4f} ({one['low']:.4f} to {one['high']:.4f})"


def _robustness(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return (
        "## Films that something happened to\n\nEach test film, decoded at its own size, changed "
        "in one way, saved as a JPEG again and read by the worker's code.\n\n"
        + robustness_table(found)
    )


def robustness_table(found: Mapping[str, Any]) -> str:
    """Return what `robustness.measure` found, as a table and a sentence on its films."""
    rows = [
        "| what was done to the films | AUC | difference | 95 % interval | sensitivity "
        "| specificity | REVIEW | refused |",
        "|---|---|---|---|---|---|---|---|",
        _robust_row("nothing", found["untouched"]),
    ]
    rows += [_robust_row(name, one) for name, one in found["disturbed"].items()]
    films, of = found["films"], found["of"]
    whole = "all" if films == of else f"chosen by their content of {of['NORMAL']} and"
    whole = whole if films == of else f"{whole} {of['PNEUMONIA']}"
    return (
        "\n".join(rows) + f"\n\n{films['NORMAL']} NORMAL and {films['PNEUMONIA']} PNEUMONIA films, "
        f"{whole}. Differences are from the same films with nothing done to them, intervals by "
        "paired DeLong. Of so many films the worker's decision is REVIEW, for being near the "
        "threshold or unfamiliar; the other numbers are of the label, which all have but those "
        "refused."
    )


def _robust_row(name: str, one: Mapping[str, Any]) -> str:
    difference = one.get("difference")
    change = "| |"
    if difference is not None:
        interval = f"{difference['low']:+.4f} to {difference['high']:+.4f}"
        change = f"| {difference['value']:+.4f} | {interval}"
    left = " | ".join(str(one.get(key, "")) for key in ("review", "refused"))
    shares = " | ".join(_number(one[key]) for key in ("sensitivity", "specificity"))
    return f"| {name} | {_number(one['auc'])} {change} | {shares} | {left} |"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def agreement_in_words(found: Mapping[str, Any]) -> str:
    """Return what `robustness.agree` found, in a sentence or two."""
    refused = f" {found['refused']} were left out, refused." if found["refused"] else ""
    if not found["pairs"]:
        return f"No original could be read together with its copy.{refused}"
    return (
        f"Of {found['pairs']} originals and their copies, {found['same_decision']:.1%} get the "
        f"same decision, {found['same_label']:.1%} the same label; the probabilities differ by "
        f"{found['median_difference']:.4f} in the median and {found['largest_difference']:.4f} "
        f"at most.{refused}"
    )


def _evidence(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    return (
        "## Where the evidence lies\n\nOf the evidence, counted without its sign, "
        f"{found['mean']:.1%} (mean over the test films; median {found['median']:.1%}) lies in the "
        "outermost eighth of the film's sides, outside the middle of the body, where borders and "
        f"markers are. Evidence spread evenly over the film would have {found['even']:.1%} there. "
        "`lungwatch explain` draws the evidence on a film: it is what the model went by, not the "
        "outline of a lesion."
    )
