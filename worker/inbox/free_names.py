"""A film's own name in a folder, or one like it where that is taken or the folder cannot hold it.

The names are tried in the same order every time, so that what got one of them is found again.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

LONGEST_NAME = 255  # bytes, where Linux keeps names itself; shares and NTFS count letters
_LONGEST_EXTENSION = 16  # more than this behind a dot is part of the name
_PLAIN_EXTENSION = re.compile(rb"\.[0-9A-Za-z]{1,15}\Z")
# What a folder says of a name that it cannot hold, where others would do.
_UNFIT = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}

Result = TypeVar("Result")


def take_name(name: bytes, scan_id: int, take: Callable[[bytes], Result]) -> Result:
    """Try names until one can be taken, and return what `take` returns for it.

    Args:
        name: the one to begin with.
        scan_id: of the film, whose number makes names its own.
        take: takes a name, or raises FileExistsError where it is taken.

    Raises:
        FileExistsError: no name will do.
        OSError: what `take` raises, unless it is about the name.
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
    raise FileExistsError(errno.EEXIST, "no name will do", name)


def taken_names(folder: bytes, name: bytes, scan_id: int) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield those names that `take_name` may have taken and something stands under, with its facts.

    Raises:
        OSError: the folder cannot be looked into.
    """
    for names in _families(name, scan_id):
        for number, candidate in enumerate(names):
            path = os.path.join(folder, candidate)
            try:
                facts = os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                if number > 0:
                    break
                continue  # what had the plain name may have gone since
            except OSError as error:
                if error.errno not in _UNFIT:
                    raise
                break
            yield candidate, facts


def cut(name: bytes, longest: int) -> bytes:
    """Cut a name to so many bytes; where it is UTF-8, between two characters."""
    end = longest
    while len(name) > longest and end > longest - 4 and name[end] & 0xC0 == 0x80:
        end -= 1
    return name[:end]


def _families(name: bytes, scan_id: int) -> Iterator[Iterator[bytes]]:
    """Yield names like a file's own, then those for a folder that can hold none of them."""
    yield _like(name, scan_id)
    extension = _PLAIN_EXTENSION.search(name)
    yield _like(b"scan-%d" % scan_id + (extension[0] if extension else b""), scan_id)


def _like(name: bytes, scan_id: int) -> Iterator[bytes]:
    """Yield a name, then the same with the scan's number in it."""
    stem, extension = os.path.splitext(name)
    if len(extension) > _LONGEST_EXTENSION:
        stem, extension = name, b""
    again = (b".%d-%d" % (scan_id, number) for number in range(2, 1000))
    for number in (b"", b".%d" % scan_id, *again):
        yield cut(stem, LONGEST_NAME - len(number) - len(extension)) + number + extension
