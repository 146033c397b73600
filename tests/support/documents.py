"""Reads the project's documents: which commands they name, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"
DOCUMENTS = (README, REPOSITORY / "models/README.md", REPOSITORY / "tests/benchmarks/README.md")
# Where the commands stand that take an installed service: test_under_systemd.py runs them.
OF_A_SERVICE = ("## As a service", "### Watching it", "### Drift")

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4} *\S.*\n)+", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(
    r"(sudo|\.venv/bin/\S+|make|lungwatch|python|git|pip|systemctl|journalctl|cp|sqlite3|pg_\w+"
    r"|KERAS_BACKEND=\w+|systemd/install\.sh|\w+\.py)(?: |$)"
)


def section(head: str, text: str | None = None) -> str:
    """Return README's part under a head, its parts of lower rank with it."""
    text = README.read_text(encoding="utf-8") if text is None else text
    rank = head.split(" ", 1)[0]
    after = text.split(f"\n{head}\n", 1)[1]
    return re.split(rf"^#{{1,{len(rank)}}} ", after, flags=re.MULTILINE)[0]


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
