"""Reading of files that a night needs, with errors in a sentence."""

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
    """Turn an OSError into a sentence, with the path on a line of its own, which logs leave out.

    Args:
        what: the sentence, for example "a film cannot be read".
        path: of the file, or of its folder.

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
        path: of the film.
        sha256: of the bytes found there before; None to accept any.

    Raises:
        DataError: it cannot be read, or was replaced by another film.
    """
    with needed("a film cannot be read", path), open_regular(path, follow=True) as file:
        film = file.read()
    if sha256 is not None and hashlib.sha256(film).hexdigest() != sha256:
        raise DataError(f"a film was replaced since it was found:\n  {shown(str(path))}")
    return film
