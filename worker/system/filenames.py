"""File names: how they are written as text, and which are no films'.

Names are bytes to the file system and anything may stand in them; `spell` writes them so that
any database can store them and `bytes_of` gives the very bytes back.
"""

from __future__ import annotations

import re

# Names that something else is still writing to, or that no person put there.
_PASSED_OVER = re.compile(
    r"^[.~#]|(\.(part|partial|filepart|crdownload|download|tmp|temp|swp|lock|opdownload)|~|#)\Z"
    r"|^(thumbs\.db|desktop\.ini)\Z",
    re.IGNORECASE,
)


def spell(name: bytes) -> str:
    r"""Write a file name as text: UTF-8 where it is, `\xNN` for other bytes, `\\` for `\`.

    >>> spell(b"scan-\xff.jpg")
    'scan-\\xff.jpg'
    >>> bytes_of(spell(b"scan-\xff.jpg"))
    b'scan-\xff.jpg'
    """
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def bytes_of(spelled: str) -> bytes:
    """Give back the name that `spell` wrote."""
    return re.sub(
        rb"\\(\\|x([0-9a-f]{2}))",
        lambda found: b"\\" if found[2] is None else bytes([int(found[2], 16)]),
        spelled.encode(),
    )


def is_passed_over(name: str) -> bool:
    """Whether a name is temporary or hidden: not a film until it is renamed."""
    return _PASSED_OVER.search(name) is not None
