"""Reads a labelled film once more, after it was found: it must still be the one that was found."""

from __future__ import annotations

import hashlib
from pathlib import Path

from training.console import needed
from worker.errors import DataError
from worker.system.files import open_regular
from worker.system.redaction import shown


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
