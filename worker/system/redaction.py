"""Protects patients' data: permissions of new files, and log text without paths.

It also makes file names safe to print on a terminal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_OTHERS = 0o007
# The rest of a path. Names of folders can identify a patient too.
_REST = r"(?:/[^\s'\",;:()]*)?"
# A quoted path may hold spaces, and an apostrophe if `repr` chose the other quotation mark.
_TO_THE_MARK = r"(?:\\.|(?!\1).)*\1"
_QUOTED = re.compile(rf"(['\"])/{_TO_THE_MARK}")
# The placeholders of URLs in our own messages stay.
_PATH = re.compile(r"(?<![\w.<>/-])/+(?!FILE\b|USER:)[\w.-][^\s'\",;:()]*")


def shut_out_others() -> None:
    """Restrict files made from now on, by this process and its children, to its user and group.

    A stricter umask stays as it is. A film that is moved keeps its permissions.
    """
    os.umask(os.umask(_OTHERS) | _OTHERS)


class Discretion:
    """Removes paths from text, so that it is fit for a log that many people can read."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        """Replace these paths by their names, for example the settings they come from."""
        known = {str(path.absolute()): name for name, path in places.items()}
        known |= {str(path): name for name, path in places.items() if os.sep in str(path)}
        # The longest first, because one place may lie inside another.
        self._known = [
            (
                re.compile(rf"(['\"]){re.escape(path)}(?=/|\1){_TO_THE_MARK}"),
                re.compile(rf"(?<![\w/.]){re.escape(path)}(?![\w-]){_REST}"),
                f"<{known[path]}>",
            )
            for path in sorted(known, key=len, reverse=True)
        ]

    def __call__(self, words: str) -> str:
        """Return the text with known places replaced by their names, other paths by `<path>`."""
        for quoted, place, name in self._known:
            words = place.sub(name, quoted.sub(rf"\1{name}\1", words))
        return _PATH.sub("<path>", _QUOTED.sub(r"\1<path>\1", words))


def shown(name: str) -> str:
    """Return a file name with control characters escaped, so that a terminal only shows it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
