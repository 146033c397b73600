"""README says what the code does: settings, codes, columns, commands, make targets.

`python tests/unit/test_documents.py` writes the tables of settings and codes into README.md anew.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from databases import query
from pydantic import SecretStr

from worker import errors
from worker.cli.app import app
from worker.cli.lazy import LazyCommand
from worker.db.engine import Database
from worker.db.schema import results
from worker.model.evaluation import Evaluation, with_review_share
from worker.model.registry import Registry
from worker.settings import PREFIX, Settings
from worker.system.filenames import is_passed_over

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"


def codes_table(kind: Iterable[errors.Code], *heads: str) -> str:
    """Return the table of a kind of code."""
    return _head(*heads) + "".join(f"| `{code.value}` | {code.meaning} |\n" for code in kind)


def columns_table() -> str:
    """Return the table of the view's columns."""
    rows = [f"| `{column.name}` | {column.comment} |\n" for column in results.columns]
    return _head("column", "what it holds") + "".join(rows)


def settings_table() -> str:
    """Return the table of settings."""
    rows = [_head("setting", "default", "what it is")]
    for name, field in Settings.model_fields.items():
        default = "the host's name" if field.default_factory else _plain(field.default)
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |\n")
    return "".join(rows)


def _head(*heads: str) -> str:
    return f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n"


def _plain(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return "unset"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def model_table() -> str:
    """Return how good the shipped model is, in short."""
    shipped = Registry(REPOSITORY / "models")
    version = shipped.serving()
    written = json.loads((shipped.folder(version) / "evaluation.json").read_bytes())
    facts = with_review_share(Evaluation(**written)).model_dump()
    # In packages of before, what was left out was but what is near the threshold.
    all_of_it = facts["review_share"] == pytest.approx(written["review_share"])
    left = "REVIEW left out" if all_of_it else "films near the threshold left out"
    normal, pneumonia = facts["films"]["NORMAL"], facts["films"]["PNEUMONIA"]
    rows = [_head(f"{version}, on {normal} NORMAL and {pneumonia} PNEUMONIA films", "", "95 %")]
    for name, says in (
        ("auc", "AUC"),
        ("sensitivity", "sensitivity at its threshold"),
        ("specificity", "specificity"),
        ("review_share", "share of films marked REVIEW"),
        ("sensitivity_outside_review", f"sensitivity, {left}"),
        ("specificity_outside_review", f"specificity, {left}"),
    ):
        low, high = facts["intervals"][name]
        rows.append(f"| {says} | {facts[name]:.3f} | {low:.3f} to {high:.3f} |\n")
    rows.append(f"| expected calibration error | {facts['calibration_error']:.3f} | |\n")
    for prevalence in (0.01, 0.1):
        found, alarms = facts["sensitivity"] * prevalence, 1 - facts["specificity"]
        share = found / (found + alarms * (1 - prevalence))
        says = f"of films called PNEUMONIA, the share that are, where {prevalence:.0%} of all are"
        rows.append(f"| {says} | {share:.2f} | |\n")
    rows.append(f"\n[Its card](models/{version}/card.md)\n")
    return "".join(rows)


TABLES = {
    "<!-- codes: RefusalCode -->\n": lambda: codes_table(
        errors.RefusalCode, "code", "what it means, and what to do"
    ),
    "<!-- codes: ReviewReason -->\n": lambda: codes_table(
        errors.ReviewReason, "reason", "what it means"
    ),
    "<!-- model -->\n": model_table,
    "<!-- settings -->\n": settings_table,
    "<!-- columns -->\n": columns_table,
}


@pytest.mark.parametrize("mark", TABLES)
def test_tables_made_from_the_code_are_up_to_date(mark: str) -> None:
    """Every setting and every code stands in README with the words that the code has for it."""
    text = README.read_text(encoding="utf-8")
    written = text.split(mark)[1].split("\n<!-- end -->")[0]
    assert written == TABLES[mark](), "run `python tests/unit/test_documents.py`"


def test_every_column_of_the_view_is_explained() -> None:
    """None is left without a word, in README or in an export."""
    assert all(column.comment for column in results.columns)


def commands_of(group: object, name: str = "lungwatch") -> Iterator[tuple[str, Any]]:
    """Yield every command, and every command of a group of them, by its whole name."""
    for word, listed in getattr(group, "commands", {}).items():
        command = listed.load() if isinstance(listed, LazyCommand) else listed
        yield f"{name} {word}", command
        yield from commands_of(command, f"{name} {word}")


def test_every_command_and_option_is_explained() -> None:
    """Each command has its row, and each option that README names exists."""
    section = README.read_text(encoding="utf-8").split("## Commands")[1].split("## Results")[0]
    whole = typer.main.get_command(app)
    known = {"lungwatch": whole, **dict(commands_of(whole))}
    told: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (`lungwatch .*)$", section, re.MULTILINE):
        for called in re.findall(r"`(lungwatch[a-z ]*)", row.split(" | ")[0]):
            told.setdefault(called.strip(), set()).update(re.findall(r"--[a-z-]+", row))
    assert told.keys() == known.keys()
    for name, command in known.items():
        options = {option for one in command.params for option in one.opts if option[:2] == "--"}
        assert told[name] - {"--help"} == options, name


def test_every_make_target_named_in_readme_exists() -> None:
    """README and CHANGELOG tell nobody to make what cannot be made."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(
        re.findall(r"(?:`|^)make ([a-z]+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert named
    assert named <= targets


QUERIES = re.findall(
    r"^```sql\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("statement", QUERIES)
def test_every_query_in_readme_runs(database: Database, statement: str) -> None:
    """What README shows can be pasted into a client, on either database."""
    query(database, statement)


def test_what_readme_says_is_passed_over_is() -> None:
    """Each temporary ending in README's list is passed over, and an ordinary name is not."""
    section = README.read_text(encoding="utf-8").split("### What is passed over")[1].split("##")[0]
    endings = re.findall(r"`(\.[a-z]+)`", section)
    assert len(endings) > 5
    for ending in endings:
        assert is_passed_over(f"film.jpeg{ending}"), ending
    assert not is_passed_over("film.jpeg")


def test_relative_links_lead_somewhere() -> None:
    """No link within the project is broken."""
    for document in REPOSITORY.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (REPOSITORY / target).exists(), f"{document.name}: {target}"


def test_locks_agree_hold_hashes_and_name_no_index() -> None:
    """The worker's, the night's and the tests' locks name one version of each package."""
    locks = [
        (REPOSITORY / path).read_text(encoding="utf-8")
        for path in ("requirements.lock", "training/requirements.lock", "tests/requirements.lock")
    ]
    pins = [set(re.findall(r"^(\S+==\S+)", lock, re.MULTILINE)) for lock in locks]
    assert pins[0] < pins[1] < pins[2]
    for lock in locks:
        assert "http" not in lock
        assert "--index" not in lock
        blocks = re.split(r"^(?=\S+==)", lock, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"^(tensorflow|keras)==", locks[0], re.MULTILINE)


def test_no_path_of_a_machine_is_in_the_project() -> None:
    """What is committed runs anywhere: it names no folder of the machine it was written on."""
    listed = subprocess.run(
        ["git", "grep", "-nIE", r"(^|[\"' =(])/(root|home|work)/"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode not in (0, 1):
        pytest.skip("not a git checkout")
    assert [line for line in listed.stdout.splitlines() if "test_documents.py" not in line] == []


def _write() -> None:
    text = README.read_text(encoding="utf-8")
    for mark, make in TABLES.items():
        head, rest = text.split(mark)
        text = f"{head}{mark}{make()}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write()
    sys.exit()
