"""Writes models for people: the list, one model, a difference, and everything about one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from worker.db.engine import Database
from worker.db.promotions import Promotions
from worker.db.training_runs import TrainingRuns
from worker.errors import LungwatchError
from worker.model.evaluation import EVALUATION, TRACES, Evaluation, Shortcuts, read_evaluation
from worker.model.history import Change, Kind
from worker.model.manifest import Manifest
from worker.model.registry import Registry
from worker.reports.tables import console, format_time, new_table

CARD = "card.md"
_LONGEST = 100  # characters shown of one value


def write_models(registry: Registry) -> None:
    """Write which packages there are, and which one serves."""
    champion = registry.champion()
    table = new_table(
        "serves", "version", "made", "input", "threshold", "review band", "trained on"
    )
    for version in registry.versions():
        left = "" if registry.may_promote(version) else "rolled back"
        serves = "yes" if version == champion else left
        try:
            manifest = registry.manifest(version)
        except LungwatchError as error:
            table.add_row(serves, version, f"[red]{escape(str(error))}[/red]", "", "", "", "")
            continue
        low, high = manifest.review_band
        table.add_row(
            serves,
            version,
            manifest.created_at,
            f"{manifest.width} x {manifest.height}",
            f"{manifest.threshold:.3f}",
            f"{low:.3f} to {high:.3f}",
            _trained_on(manifest),
        )
    if registry.versions():
        console().print(table)
    else:
        sys.stdout.write(f"No models in {registry.root} yet: `lungwatch run` seeds it.\n")


def write_model(registry: Registry, version: str) -> None:
    """Write a version's manifest and a summary of its evaluation."""
    manifest = registry.manifest(version)
    console().print(_facts(_standing(registry, version) | _manifest_facts(manifest)))
    evaluation = read_evaluation(registry.folder(version))
    if evaluation is None:
        sys.stdout.write("\nThe package has no evaluation.\n")
        return
    counts = ", ".join(f"{count} {name}" for name, count in evaluation.films.items())
    sys.stdout.write(f"\nMeasured on {evaluation.data}: {counts}\n")
    table = new_table("measure", "value", "95% interval")
    for row in _measured(evaluation):
        table.add_row(*row)
    console().print(table)
    if evaluation.shortcuts is not None:
        _write_shortcuts(evaluation.shortcuts)


def _write_shortcuts(shortcuts: Shortcuts) -> None:
    """Write how well the class of the training films can be predicted without the lungs."""
    sys.stdout.write(f"\n{shortcuts.in_words()}\n")
    table = new_table("class predicted from", "AUC")
    for name, trace in shortcuts.traces.items():
        missing = f"not measured: {trace.not_measured}"
        found = escape(missing) if trace.auc is None else _plain(trace.auc)
        table.add_row(escape(TRACES.get(name, name)), found)
    console().print(table)


def describe_measures(registry: Registry, version: str) -> dict[str, str]:
    """Return a version's measures by name, each with its interval if it has one."""
    return {
        name.replace("_", " "): f"{value} ({interval})" if interval else value
        for name, value, interval in _measured(read_evaluation(registry.folder(version)))
    }


def _measured(evaluation: Evaluation | None) -> Iterator[tuple[str, str, str]]:
    """Yield (name, value, 95 % interval) of each measure."""
    if evaluation is None:
        return
    for name, value in (
        ("robust_auc", evaluation.robust_auc),
        ("swapped_auc", evaluation.swapped_auc),
        ("zoomed_auc", evaluation.zoomed_auc),
        ("auc", evaluation.auc),
        ("sensitivity", evaluation.sensitivity),
        ("specificity", evaluation.specificity),
        ("ppv", evaluation.ppv),
        ("npv", evaluation.npv),
        ("review_share", evaluation.review_share),
        ("brier", evaluation.brier),
        ("calibration_error", evaluation.calibration_error),
    ):
        if name in evaluation.model_fields_set:
            ends = evaluation.intervals.get(name)
            yield name, _plain(value), " to ".join(map(_plain, ends)) if ends else ""


def write_difference(registry: Registry, one: str, other: str) -> None:
    """Write the differences between two versions' manifests and evaluations."""
    table = new_table("what", one, other)
    both = []
    for version in (one, other):
        facts = _flat(registry.manifest(version).model_dump(mode="json"))
        measured = _flat(_evaluation(registry, version))
        both.append(facts | {f"{EVALUATION}: {name}": value for name, value in measured.items()})
    left, right = both
    for name in [*left, *(name for name in right if name not in left)]:
        if name != "version" and left.get(name) != right.get(name):
            table.add_row(escape(name), _shown(left.get(name)), _shown(right.get(name)))
    if table.row_count:
        console().print(table)
    else:
        sys.stdout.write(f"{one} and {other} differ only in their names.\n")


def write_explanation(registry: Registry, database: Database | None, version: str) -> None:
    """Write everything about a version: status, history, nights, rows, package, card."""
    out = console()
    out.print(_facts(_standing(registry, version)))
    promotions = None if database is None else Promotions(database)
    _section(out, "Promotions", _history(registry, promotions, version))
    if database is not None:
        known = TrainingRuns(database).explain(version)
        for name, runs in (("Made by", known["made_by"]), ("Compared in", known["defended_in"])):
            for run in runs:
                known_facts = {fact: value for fact, value in run.items() if value is not None}
                _section(out, f"{name} training run {run['id']}", _facts(_flat(known_facts)))
        counts = {
            f"{one['origin']} {one['decision']}": one["count"]
            for one in known["predictions"]["counts"]
        }
        spell = {name: format_time(known["predictions"][name]) for name in ("first_at", "last_at")}
        _section(
            out, "Predictions that name it", _facts(counts | spell if counts else {"": "none"})
        )
    try:
        manifest = registry.manifest(version)
    except LungwatchError as error:
        _section(out, "Manifest", f"[red]{escape(str(error))}[/red]")
        return
    _section(out, "Manifest", _facts(_flat(manifest.model_dump(mode="json"))))
    _section(out, "Evaluation", _facts(_flat(_evaluation(registry, version))))
    if card := _card(registry, version):
        _section(out, "Card", "")
        sys.stdout.write(card)


def _section(out: Console, name: str, body: Table | str) -> None:
    out.print(f"\n[bold]{escape(name)}[/bold]")
    out.print(body)


def _history(registry: Registry, promotions: Promotions | None, version: str) -> Table:
    """Return the changes of champion that concern a version, from folder and database."""
    changes = {
        (change.at, change.version): change
        for change in registry.history()
        if version in (change.version, change.from_version)
    }
    for row in () if promotions is None else promotions.of(version):
        facts = {name: row[name] for name in ("at", "version", "from_version", "who", "why")}
        change = Change(kind=Kind(row["kind"]), **facts)
        changes.setdefault((change.at, change.version), change)
    table = new_table("at", "what", "version", "in place of", "who", "why")
    for _, one in sorted(changes.items()):
        table.add_row(
            format_time(one.at),
            one.kind.value,
            one.version,
            one.from_version or "",
            escape(one.who),
            escape(one.why),
        )
    return table


def _standing(registry: Registry, version: str) -> dict[str, Any]:
    rejected = registry.rejected(version)
    if version == registry.champion():
        standing = "serves"
    elif rejected is not None:
        standing = f"rolled back on {rejected.at:%Y-%m-%d} by {rejected.who}: {rejected.why}"
    else:
        standing = "does not serve"
    return {"version": version, "standing": standing}


def _manifest_facts(manifest: Manifest) -> dict[str, Any]:
    low, high = manifest.review_band
    return {
        "made": manifest.created_at,
        "input": f"{manifest.width} x {manifest.height} pixels",
        "preprocessing": manifest.preprocessing_version,
        "temperature": manifest.temperature,
        "threshold": manifest.threshold,
        "review band": f"{_plain(low)} to {_plain(high)}",
        "trained on": _trained_on(manifest),
        "tested on": manifest.tested_on.sentence,
        "data digest": manifest.training.get("data_digest", "?"),
        "libraries": ", ".join(f"{name} {one}" for name, one in manifest.libraries.items()),
        "files": ", ".join(manifest.files),
    }


def _trained_on(manifest: Manifest) -> str:
    counts = manifest.training.get("counts")
    train = counts.get("train") if isinstance(counts, Mapping) else None
    if not isinstance(train, Mapping):
        return "?"
    return ", ".join(f"{count} {name}" for name, count in train.items())


def _evaluation(registry: Registry, version: str) -> dict[str, Any]:
    """Return a version's evaluation as in its file; empty if it has none."""
    evaluation = read_evaluation(registry.folder(version))
    return {} if evaluation is None else evaluation.model_dump(mode="json", exclude_unset=True)


def _card(registry: Registry, version: str) -> str:
    """Return a version's card, with replacement characters if damaged; "" if it has none."""
    try:
        return (registry.folder(version) / CARD).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"The card cannot be read: {error.strerror}\n"


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested facts with dotted names: `{"a": {"b": 1}}` as `{"a.b": 1}`."""
    return dict(_leaves(facts, ""))


def _leaves(facts: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _facts(facts: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(escape(name), _shown(value))
    return table


def _shown(value: object) -> str:
    text = _plain(value)
    if len(text) > _LONGEST and isinstance(value, Sequence) and not isinstance(value, str):
        text = f"{text[:_LONGEST]}... ({len(value)} in all)"
    return escape(text)


def _plain(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
