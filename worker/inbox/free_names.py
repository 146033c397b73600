"""A free name for a film in a folder: its own, or one like it.

Names are tried in a fixed order, so a name that was taken is found again.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

LONGEST_NAME = 255  # bytes on Linux file systems; shares and NTFS count characters
_LONGEST_EXTENSION = 16  # a longer extension counts as part of the stem
_PLAIN_EXTENSION = re.compile(rb"\.[0-9A-Za-z]{1,15}\Z")
# Errors of a folder that cannot hold this name, although it could hold another.
_UNFIT = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}

Result = TypeVar("Result")


def take_name(name: bytes, scan_id: int, take: Callable[[bytes], Result]) -> Result:
    """Try names until one can be taken, and return what `take` returns for it.

    Args:
        name: the first name to try.
        scan_id: of the film; further names contain it.
        take: takes a name, or raises FileExistsError if it is taken.

    Raises:
        FileExistsError: no name is free.
        OSError: from `take`, unless it concerns the name.
    """
    for names in _families(name, scan_id):
        for candidate in names:
            try:
                return take(candidate)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno not in _UNFIT:
                    raise
                break
    raise FileExistsError(errno.EEXIST, "no name is free", name)


def taken_names(folder: bytes, name: bytes, scan_id: int) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield the existing files, with their facts, under names that `take_name` may have taken.

    Raises:
        OSError: the folder cannot be read.
    """
    for names in _families(name, scan_id):
        for number, candidate in enumerate(names):
            path = os.path.join(folder, candidate)
            try:
                facts = os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                if number > 0:
                    break
                continue  # the file with the plain name may be gone since
            except OSError as error:
                if error.errno not in _UNFIT:
                    raise
                break
            yield candidate, facts


def cut(name: bytes, longest: int) -> bytes:
    """Cut a name to at most `longest` bytes, not inside a UTF-8 character."""
    end = longest
    while len(name) > longest and end > longest - 4 and name[end] & 0xC0 == 0x80:
        end -= 1
    return name[:end]


def _families(name: bytes, scan_id: int) -> Iterator[Iterator[bytes]]:
    """Yield names like the file's own, then plain ones for a folder that can hold none of those."""
    yield _like(name, scan_id)
    extension = _PLAIN_EXTENSION.search(name)
    yield _like(b"scan-%d" % scan_id + (extension[0] if extension else b""), scan_id)


def _like(name: bytes, scan_id: int) -> Iterator[bytes]:
    """Yield a name, then the same with the scan's id in it."""
    stem, extension = os.path.splitext(name)
    if len(extension) > _LONGEST_EXTENSION:
        stem, extension = name, b""
    again = (b".%d-%d" % (scan_id, number) for number in range(2, 1000))
    for number in (b"", b".%d" % scan_id, *again):
        yield cut(stem, LONGEST_NAME - len(number) - len(extension)) + number + extension
