"""Reads the project's documents: which commands, tables and links they have, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"
CHANGELOG = REPOSITORY / "CHANGELOG.md"
# What people follow: all but the changelog and the cards of models, which a night writes.
DOCUMENTS = (
    README,
    *(
        REPOSITORY / path
        for path in (
            *("worker/README.md", "training/README.md", "systemd/README.md"),
            *("models/README.md", "models/EXPERIMENTS.md", "tests/README.md"),
        )
    ),
)
# Where the commands stand that take an installed service: test_under_systemd.py runs them.
OF_A_SERVICE = ("## Install", "## Day to day", "## Monitoring", "## Drift")

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4} *\S.*\n)+", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(
    r"(sudo|\.venv/bin/\S+|make|lungwatch|python|git|pip|systemctl|journalctl|cp|sqlite3|pg_\w+"
    r"|KERAS_BACKEND=\w+|systemd/install\.sh|\w+\.py)(?: |$)"
)


def section(head: str, within: str | None = None) -> str:
    """Return the section with this heading and its subsections.

    Only one document may have the heading, unless a document is named.
    """
    paths = DOCUMENTS if within is None else (REPOSITORY / within,)
    texts = [path.read_text(encoding="utf-8") for path in paths]
    (after,) = [part for text in texts for part in text.split(f"\n{head}\n")[1:]]
    rank = head.split(" ", 1)[0]
    return re.split(rf"^#{{1,{len(rank)}}} ", after, flags=re.MULTILINE)[0]


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language in all documents."""
    found = [one for path in DOCUMENTS for one in _FENCED.findall(path.read_text("utf-8"))]
    return [block for name, block in found if name == language]


def links(text: str) -> list[str]:
    """Return the targets of a text's links within the project."""
    return re.findall(r"\]\((?!https?:)([^)]+)\)", _FENCED.sub("", text))


def anchors(text: str) -> set[str]:
    """Return what a link can point to in a text: its headings, as GitHub names them."""
    heads = re.findall(r"^#+ (.*)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def commands(text: str) -> list[str]:
    """Return the commands in a text, each once, in their order.

    They stand as lines in a block, without what is said beside them, or as code in a sentence.
    """
    found = [
        line.split("  # ")[0].strip()
        for language, block in _FENCED.findall(text)
        if language in ("", "sh")
        for line in block.replace("\\\n", "").splitlines()
    ]
    text = _FENCED.sub("", text)
    for block in _INDENTED.findall(text):
        found += [" ".join(line.split()) for line in block.replace("\\\n", "").splitlines()]
    found += _SPAN.findall(_INDENTED.sub("", text))
    return list(dict.fromkeys(one.replace("\\|", "|") for one in found if _is_command(one)))


def table(text: str) -> Iterator[list[str]]:
    """Yield the rows of the tables in a text, cell by cell, without their heads."""
    for line in re.findall(r"^\| ?(.*) \|$", text, re.MULTILINE):
        yield re.split(r" \| ", line)


def spans(text: str) -> list[str]:
    """Return what stands as code in a text, with `|` as a reader sees it."""
    return [one.replace("\\|", "|") for one in _SPAN.findall(text)]


def _is_command(text: str) -> bool:
    found = _COMMAND.match(text)
    # A name alone may be a thing: `lungwatch` is a user, too. What has a word after it is no name.
    return found is not None and (found[0] != text or found[1].startswith("KERAS"))
