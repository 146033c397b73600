"""The card's section on test films with framing and grey levels of the other class, and zoomed."""

from __future__ import annotations

from worker.model.evaluation import Evaluation, Metrics, Shifted, Shifts

_ZOOMED = "zoomed: {label} films cropped to 0.8 x 0.8, the others as they are"


def section(evaluation: Evaluation) -> str:
    """Return the section, in Markdown; empty if nothing was measured."""
    if evaluation.shifts is None:
        return ""
    return (
        "## How good under shift\n\n"
        f"{shifts_table(evaluation.shifts, evaluation)}\n\n"
        "Framing and grey levels differ between the classes and are not disease. On swapped films "
        "they point to the wrong class, so a model that looks at the lungs loses little there. "
        "These numbers ranked earlier models of this code in the same order as unseen films of the "
        "same hospital did; AUC on the films as they are ranked them in the opposite order."
    )


def shifts_table(shifts: Shifts, numbers: Metrics) -> str:
    """Return a model's numbers on the films after each change, and its robust AUC.

    Args:
        shifts: the numbers of each change.
        numbers: of the model, including AUC swapped, zoomed and robust.
    """
    crops = [
        f"{label} films to {kept:.2f} of the {side}"
        for label, shares in shifts.crops.items()
        for side, kept in zip(("height", "width"), shares, strict=True)
        if kept < 1
    ]
    rows = [
        "| test films | AUC | sensitivity | specificity | REVIEW | calibration error |",
        "|---|---|---|---|---|---|",
        _row("as they are", shifts.untouched),
        *([_row("conflict: framed as the other class", shifts.conflict)] if crops else []),
        _row("toned: grey levels of a film of the other class", shifts.toned),
        _row(f"swapped: {'both' if crops else 'only toned'}", shifts.swapped),
        *(
            _row(_ZOOMED.format(label=label), shifts.zoomed.get(label))
            for label in ("NORMAL", "PNEUMONIA")
        ),
    ]
    framing = (
        f"Framed as the other class: {' and '.join(crops)}."
        if crops
        else f"Framing was not swapped: {shifts.framing_left_out or 'the reason is not known'}."
    )
    unread = max(
        (one.unreadable for one in (shifts.swapped, *shifts.zoomed.values()) if one is not None),
        default=0,
    )
    left_out = f" Up to {unread} films could not be read after a change and are left out."
    return (
        f"**Robust AUC {_with_ends('robust_auc', numbers)}**: the mean of AUC on the films as they "
        f"are, swapped {_with_ends('swapped_auc', numbers)} and zoomed, the worse of both "
        f"{_with_ends('zoomed_auc', numbers)}.\n\n" + "\n".join(rows) + f"\n\n{framing}"
        f"{left_out if unread else ''} Sensitivity and specificity are at the model's threshold. "
        "Intervals are 95 %: bootstrap of patients in the first line, DeLong for the AUCs of the "
        "table, Wilson for proportions."
    )


def _row(name: str, one: Shifted | None) -> str:
    if one is None:
        return f"| {name} | none | | | | |"
    measured = " | ".join(
        _with_ends(number, one) for number in ("auc", "sensitivity", "specificity", "review_share")
    )
    error = "none" if one.calibration_error is None else f"{one.calibration_error:.3f}"
    return f"| {name} | {measured} | {error} |"


def _with_ends(name: str, numbers: Metrics) -> str:
    value = getattr(numbers, name)
    if value is None:
        return "none"
    ends = numbers.intervals.get(name)
    places = 4 if name.endswith("auc") else 3
    between = "" if ends is None else f" ({ends[0]:.{places}f} to {ends[1]:.{places}f})"
    return f"{value:.{places}f}{between}"
