"""What a night says, to a terminal and to a log: whatever films are called, it is said."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from training.console import OfFilms, printer, say_error
from training.io import needed
from worker.errors import DataError


def listening(monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> io.BytesIO:
    """Return what reaches an end that takes its own letters alone, as a terminal does."""
    sink = io.BytesIO()
    stream = io.TextIOWrapper(sink, encoding=encoding, errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    return sink


@pytest.mark.parametrize("terminal", [True, False])
def test_names_that_are_no_utf8_end_no_night(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool
) -> None:
    """Such letters are written in ASCII; all others stay as they are."""
    said = listening(monkeypatch)
    say = printer({}, terminal=terminal)
    say(OfFilms("set aside: train/M\udcfcller1.jpeg is refused as truncated"))
    say("M\udcfcller: train 1 NORMAL + 1 PNEUMONIA, Müller")
    lines = said.getvalue().decode("utf-8").splitlines()
    if terminal:
        assert lines[0] == r"set aside: train/M\udcfcller1.jpeg is refused as truncated"
    assert lines[1] == r"M\udcfcller: train 1 NORMAL + 1 PNEUMONIA, Müller"


def test_a_terminal_obeys_nothing_in_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may hold what clears a screen; it is shown."""
    said = listening(monkeypatch)
    printer({}, terminal=True)(OfFilms("set aside: \x1b[2J.jpeg"))
    assert said.getvalue() == b"set aside: \\x1b[2J.jpeg\n"


def test_a_terminal_without_our_letters_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a locale of another century."""
    said = listening(monkeypatch, "ascii")
    printer({}, terminal=True)("Müller: 1 film")
    assert said.getvalue() == b"M\\xfcller: 1 film\n"


def test_trouble_with_a_file_names_it_to_a_person_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A log gets what is wrong; a terminal the path as well."""
    path = tmp_path / "O'Brien, Anna.jpeg"
    with pytest.raises(DataError) as caught, needed("a film cannot be read", path):
        path.read_bytes()
    told = []
    for terminal in (False, True):
        said = listening(monkeypatch)
        say_error(printer({}, terminal=terminal), caught.value)
        told.append(said.getvalue().decode().splitlines())
    matter = "error: a film cannot be read (No such file or directory):"
    assert told[1] == [matter, f"  {path}"]
    assert told[0][0] == matter
    assert "Brien" not in told[0][1]
