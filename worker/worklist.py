"""Which films an archive holds: those below a folder, or those that a manifest lists."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.errors import DataError, not_installed
from worker.inbox import is_passed_over, spell

_COLUMN = "path"  # of a manifest
_ROWS = 4096  # of a manifest, at a time


def names_in(source: Path) -> Iterator[str]:
    """Stream the films of an archive, by whole paths as `inbox.spell` writes them.

    Args:
        source: a folder, whose films are found however deep they lie; links are not followed, and
            names that are passed over in an inbox are here. Or a Parquet file with a column
            `path`, where a relative path is taken from the file's own folder.

    Raises:
        DataError: it is neither, or cannot be read.
    """
    try:
        is_folder = stat.S_ISDIR(source.stat().st_mode)
    except OSError as error:
        raise DataError(f"{source}: {error.strerror}") from error
    whole = source.resolve()
    if is_folder:
        return _below(os.fsencode(whole))
    if source.suffix != ".parquet":
        raise DataError(f"{source}: neither a folder nor a Parquet file with a column '{_COLUMN}'")
    return _listed(_parquet(whole), whole.parent)


def fence_around(source: Path) -> Path:
    """Return the folder that whoever reads an archive's films need not look out of."""
    return source.resolve() if source.is_dir() else Path("/")


def _below(folder: bytes) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        shown = os.fsdecode(folder)
        raise DataError(f"{shown} cannot be listed: {error.strerror}") from error
    for entry in entries:
        if is_passed_over(spell(entry.name)):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)
        elif entry.is_file(follow_symlinks=False):
            yield spell(entry.path)


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - only who has one needs it
    except ImportError as error:
        raise DataError(f"{path.name}: to read it {not_installed('pyarrow')}") from error
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ArrowException) as error:
        raise DataError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from error
    if _COLUMN not in file.schema_arrow.names:
        raise DataError(f"{path.name}: it has no column '{_COLUMN}'")
    return file


def _listed(file: Any, folder: Path) -> Iterator[str]:
    base = os.fsencode(folder)
    for batch in file.iter_batches(batch_size=_ROWS, columns=[_COLUMN]):
        for path in batch.column(0).to_pylist():
            if path:
                yield spell(os.path.normpath(os.path.join(base, os.fsencode(path))))
