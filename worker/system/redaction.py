"""Keeps to the service what could tell of a patient: rights of new files, and words for the log.

And keeps what strangers call their files from being more than words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_OTHERS = 0o007
# The rest of a path; the names of folders can be as telling as those of films.
_REST = r"(?:/[^\s'\",;:()]*)?"
# There may be spaces in it, and an apostrophe, for which `repr` quotes by the other mark.
_TO_THE_MARK = r"(?:\\.|(?!\1).)*\1"
_QUOTED = re.compile(rf"(['\"])/{_TO_THE_MARK}")
# But for the URLs that we ourselves tell how to write.
_PATH = re.compile(r"(?<![\w.<>/-])/+(?!FILE\b|USER:)[\w.-][^\s'\",;:()]*")


def shut_out_others() -> None:
    """Make what this process makes from now on, and what it starts, its user's and group's alone.

    A stricter umask stays as it is. A film that is moved keeps the rights it came with.
    """
    os.umask(os.umask(_OTHERS) | _OTHERS)


class Discretion:
    """Words fit for a log that many may read: without paths."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        """Write these places by their names, such as the settings that they come from."""
        known = {str(path.absolute()): name for name, path in places.items()}
        known |= {str(path): name for name, path in places.items() if os.sep in str(path)}
        # The longest first: one place may lie in another.
        self._known = [
            (
                re.compile(rf"(['\"]){re.escape(path)}(?=/|\1){_TO_THE_MARK}"),
                re.compile(rf"(?<![\w/.]){re.escape(path)}(?![\w-]){_REST}"),
                f"<{known[path]}>",
            )
            for path in sorted(known, key=len, reverse=True)
        ]

    def __call__(self, words: str) -> str:
        """Return the words with known places named and other paths left out."""
        for quoted, place, name in self._known:
            words = place.sub(name, quoted.sub(rf"\1{name}\1", words))
        return _PATH.sub("<path>", _QUOTED.sub(r"\1<path>\1", words))


def shown(name: str) -> str:
    """Write a file name so that a terminal shows it and obeys nothing in it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
