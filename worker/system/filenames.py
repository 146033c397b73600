"""File names: how they are written as text, which are no films', and which are free in a folder.

Names are bytes to the file system and anything may stand in them; `spell` writes them so that
any database can store them and `bytes_of` gives the very bytes back.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

# Names that something else is still writing to, or that no person put there.
_PASSED_OVER = re.compile(
    r"^[.~#]|(\.(part|partial|filepart|crdownload|download|tmp|temp|swp|lock|opdownload)|~|#)\Z"
    r"|^(thumbs\.db|desktop\.ini)\Z",
    re.IGNORECASE,
)
# What a folder says of a name that it cannot hold, where others would do.
NAME_TROUBLE = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
LONGEST_NAME = 255  # bytes, where Linux keeps names itself; shares and NTFS count letters
_LONGEST_EXTENSION = 16  # more than this behind a dot is part of the name
_PLAIN_EXTENSION = re.compile(rb"\.[0-9A-Za-z]{1,15}\Z")


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


def names_to_try(name: bytes, scan_id: int) -> Iterator[Iterator[bytes]]:
    """Yield names like a file's own, then those for a folder that can hold none of them."""
    yield free_names(name, scan_id)
    extension = _PLAIN_EXTENSION.search(name)
    yield free_names(b"scan-%d" % scan_id + (extension[0] if extension else b""), scan_id)


def free_names(name: bytes, scan_id: int) -> Iterator[bytes]:
    """Yield names to try, in order: the file's own, then with the scan's number in it."""
    stem, extension = os.path.splitext(name)
    if len(extension) > _LONGEST_EXTENSION:
        stem, extension = name, b""
    again = (b".%d-%d" % (scan_id, number) for number in range(2, 1000))
    for number in (b"", b".%d" % scan_id, *again):
        yield cut(stem, LONGEST_NAME - len(number) - len(extension)) + number + extension


def cut(name: bytes, longest: int) -> bytes:
    """Cut a name to so many bytes; where it is UTF-8, between two characters."""
    end = longest
    while len(name) > longest and end > longest - 4 and name[end] & 0xC0 == 0x80:
        end -= 1
    return name[:end]
