"""Files that a night needs: trouble with one is told in a sentence, a film found is read again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.errors import DataError
from worker.system.files import open_regular
from worker.system.redaction import shown


@contextmanager
def needed(what: str, path: Path) -> Iterator[None]:
    """Make of trouble with a file a line for everybody; its path, below, is not for a log.

    Args:
        what: cannot be done without it, in words.
        path: of the file, or of the folder that it lies in.

    Raises:
        DataError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise DataError(f"{what} ({why}):\n  {shown(str(path))}") from error


def read_again(path: Path, sha256: str | None) -> bytes:
    """Return the bytes of a film.

    Args:
        path: where it was found.
        sha256: of the bytes that were found there; None where nobody has looked yet.

    Raises:
        DataError: it cannot be read, or there is another film in its place.
    """
    with needed("a film cannot be read", path), open_regular(path, follow=True) as file:
        film = file.read()
    if sha256 is not None and hashlib.sha256(film).hexdigest() != sha256:
        raise DataError(f"a film was replaced since it was found:\n  {shown(str(path))}")
    return film
