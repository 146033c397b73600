"""File names: how they are stored as text, and which ones are not films.

A name is bytes to the file system and may hold any byte. `spell` writes it as text that any
database can store, and `bytes_of` returns the original bytes.
"""

from __future__ import annotations

import re

# Names of files that are still being written, or that an operating system makes.
_PASSED_OVER = re.compile(
    r"^[.~#]|(\.(part|partial|filepart|crdownload|download|tmp|temp|swp|lock|opdownload)|~|#)\Z"
    r"|^(thumbs\.db|desktop\.ini)\Z",
    re.IGNORECASE,
)


def spell(name: bytes) -> str:
    r"""Write a file name as text: valid UTF-8 as it is, `\xNN` for other bytes, `\\` for `\`.

    >>> spell(b"scan-\xff.jpg")
    'scan-\\xff.jpg'
    >>> bytes_of(spell(b"scan-\xff.jpg"))
    b'scan-\xff.jpg'
    """
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def bytes_of(spelled: str) -> bytes:
    """Return the name that `spell` wrote."""
    return re.sub(
        rb"\\(\\|x([0-9a-f]{2}))",
        lambda found: b"\\" if found[2] is None else bytes([int(found[2], 16)]),
        spelled.encode(),
    )


def is_passed_over(name: str) -> bool:
    """Whether a name is temporary or hidden: it is not a film until it is renamed."""
    return _PASSED_OVER.search(name) is not None
