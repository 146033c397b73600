"""The documents say what the code does: settings, codes, columns, commands, rooms, make targets.

`python tests/unit/test_documents.py` rewrites the tables that are made from the code.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

# As a command too this module finds what tests share.
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

import documents
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

REPOSITORY = documents.REPOSITORY
# What people change first, in README's order.
FIRST_SETTINGS = (
    *("inbox", "archive", "database_url", "models"),
    *("settle_seconds", "screeners", "prevalence", "patient_pattern"),
)


def codes_table(kind: Iterable[errors.Code], *heads: str) -> str:
    """Return the table of a kind of code."""
    return _head(*heads) + "".join(f"| `{code.value}` | {code.meaning} |\n" for code in kind)


def columns_table() -> str:
    """Return the table of the view's columns."""
    rows = [f"| `{column.name}` | {column.comment} |\n" for column in results.columns]
    return _head("column", "what it holds") + "".join(rows)


def settings_table(names: Iterable[str] = Settings.model_fields) -> str:
    """Return the table of settings, or of some of them."""
    rows = [_head("setting", "default", "what it is")]
    for name in names:
        field = Settings.model_fields[name]
        default = "the host's name" if field.default_factory else _plain(field.default)
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |\n")
    return "".join(rows)


def command_list() -> str:
    """Return all commands, one line each, as `--help` describes them."""
    lines = [
        f"{name:<26}{command.get_short_help_str(limit=999)}\n"
        for name, command in commands_of(typer.main.get_command(app))
    ]
    return f"\n```text\n{''.join(lines)}```\n"


def rooms_table(side: str) -> str:
    """Return what each room, and each module outside a room, says that it is for."""
    found = {
        path.parent.name + "/" if path.stem == "__init__" else path.name: path
        for path in (*(REPOSITORY / side).glob("*/__init__.py"), *(REPOSITORY / side).glob("*.py"))
        if path != REPOSITORY / side / "__init__.py"
    }
    rows = [_head("room or module", "what it is for")]
    for name, path in sorted(found.items(), key=lambda one: (one[0][-1] != "/", one[0])):
        said = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        rows.append(f"| `{name}` | {' '.join(said.split(chr(10) * 2)[0].split())} |\n")
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
        ("robust_auc", "robust AUC: the mean of the AUC as they are, swapped and zoomed"),
        ("swapped_auc", "AUC on swapped films"),
        ("zoomed_auc", "AUC on zoomed films"),
        ("auc", "AUC"),
        ("sensitivity", "sensitivity at its threshold"),
        ("specificity", "specificity"),
        ("review_share", "share of films marked REVIEW"),
        ("sensitivity_outside_review", f"sensitivity, {left}"),
        ("specificity_outside_review", f"specificity, {left}"),
    ):
        if facts[name] is None and name.endswith("_auc"):  # of packages of before
            continue
        low, high = facts["intervals"][name]
        rows.append(f"| {says} | {facts[name]:.3f} | {low:.3f} to {high:.3f} |\n")
    rows.append(f"| expected calibration error | {facts['calibration_error']:.3f} | |\n")
    for prevalence in (0.01, 0.1):
        found, alarms = facts["sensitivity"] * prevalence, 1 - facts["specificity"]
        share = found / (found + alarms * (1 - prevalence))
        says = f"of films called PNEUMONIA, the share that are, where {prevalence:.0%} of all are"
        rows.append(f"| {says} | {share:.2f} | |\n")
    rows.append(f"\n[Its card]({version}/card.md) has the rest.\n")
    return "".join(rows)


TABLES = {
    "<!-- command list -->\n": command_list,
    "<!-- first settings -->\n": lambda: settings_table(FIRST_SETTINGS),
    "<!-- rooms: worker -->\n": lambda: rooms_table("worker"),
    "<!-- rooms: training -->\n": lambda: rooms_table("training"),
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


def _marked(mark: str) -> Path:
    (document,) = [one for one in documents.DOCUMENTS if mark in one.read_text(encoding="utf-8")]
    return document


@pytest.mark.parametrize("mark", TABLES)
def test_tables_made_from_the_code_are_up_to_date(mark: str) -> None:
    """Every setting, code, column, command and room stands there in the words of the code."""
    text = _marked(mark).read_text(encoding="utf-8")
    written = text.split(mark)[1].split("\n<!-- end -->")[0]
    assert written == TABLES[mark](), "run `python tests/unit/test_documents.py`"


def test_the_front_page_stays_one_page() -> None:
    """README has 250 lines at most; what is longer belongs into the READMEs of the folders."""
    assert len(documents.README.read_text(encoding="utf-8").splitlines()) <= 250


def test_every_document_is_checked() -> None:
    """No document in the project escapes these tests, but for the cards that nights write."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    found = {REPOSITORY / line for line in listed.stdout.splitlines() if "card.md" not in line}
    assert found == {*documents.DOCUMENTS, documents.CHANGELOG}


def test_changelog_entries_are_short() -> None:
    """Each has 25 words at most, and what is not released yet stands first."""
    text = documents.CHANGELOG.read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", text, re.MULTILINE)[0] == "Unreleased"
    for entry in re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE):
        assert len(entry.split()) <= 25, entry


def test_the_version_has_its_entries() -> None:
    """The changelog knows the release that pyproject.toml names."""
    text = documents.CHANGELOG.read_text(encoding="utf-8")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] in re.findall(r"^## ([\d.]+)", text, re.MULTILINE)


def test_the_model_that_readme_describes_is_the_shipped_one() -> None:
    """Its table was measured on that version: another model needs its own figures."""
    version = Registry(REPOSITORY / "models").serving()
    assert version in documents.section("## The model")
    models = (REPOSITORY / "models/README.md").read_text(encoding="utf-8")
    assert f"## The shipped model: {version}" in models


def test_every_column_of_the_view_is_explained() -> None:
    """None is left without a word, in the documents or in an export."""
    assert all(column.comment for column in results.columns)


def commands_of(group: object, name: str = "lungwatch") -> Iterator[tuple[str, Any]]:
    """Yield every command, and every command of a group of them, by its whole name."""
    for word, listed in getattr(group, "commands", {}).items():
        command = listed.load() if isinstance(listed, LazyCommand) else listed
        yield f"{name} {word}", command
        yield from commands_of(command, f"{name} {word}")


def test_every_command_and_option_is_explained() -> None:
    """Each command has its row, and each option that a row names exists."""
    section = documents.section("## Commands", within="worker/README.md")
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


def test_every_make_target_named_in_the_documents_exists() -> None:
    """They tell nobody to make what cannot be made."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    texts = "".join(path.read_text(encoding="utf-8") for path in documents.DOCUMENTS)
    named = set(re.findall(r"(?:`|^|sudo )make ([a-z-]+)", texts, re.MULTILINE))
    assert named
    assert named <= targets


@pytest.mark.parametrize("statement", documents.blocks("sql"))
def test_every_query_in_the_documents_runs(database: Database, statement: str) -> None:
    """What they show can be pasted into a client, on either database."""
    query(database, statement)


def test_what_is_said_to_be_passed_over_is() -> None:
    """Each temporary ending in the list is passed over, and an ordinary name is not."""
    endings = re.findall(r"`(\.[a-z]+)`", documents.section("### What is passed over"))
    assert len(endings) > 5
    for ending in endings:
        assert is_passed_over(f"film.jpeg{ending}"), ending
    assert not is_passed_over("film.jpeg")


@pytest.mark.parametrize(
    "document",
    [*documents.DOCUMENTS, documents.CHANGELOG],
    ids=lambda one: str(one.relative_to(REPOSITORY)),
)
def test_links_lead_somewhere(document: Path) -> None:
    """Each link within the project has its file, and a heading where it names one."""
    for link in documents.links(document.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in documents.anchors(target.read_text(encoding="utf-8")), link


def test_pictures_are_small() -> None:
    """What a document shows costs a clone little."""
    shown = [
        document.parent / link
        for document in documents.DOCUMENTS
        for link in documents.links(document.read_text(encoding="utf-8"))
        if link.endswith((".jpg", ".png", ".svg"))
    ]
    assert shown
    assert all(picture.stat().st_size < 150_000 for picture in shown)


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
    for mark, make in TABLES.items():
        document = _marked(mark)
        head, rest = document.read_text(encoding="utf-8").split(mark)
        after = rest.split("<!-- end -->", 1)[1]
        document.write_text(f"{head}{mark}{make()}\n<!-- end -->{after}", encoding="utf-8")


if __name__ == "__main__":
    _write()
    sys.exit()
