"""Lists the films of an archive: those below a folder, or those in a Parquet file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.errors import DataError, StorageTrouble, not_installed
from worker.system.filenames import is_passed_over, spell

_COLUMN = "path"  # of a Parquet file
_ROWS = 4096  # of a Parquet file, at a time


def names_in(source: Path) -> Iterator[str]:
    """Return an iterator over the films of an archive: absolute paths, as `filenames.spell` writes.

    Args:
        source: a folder, which is searched at any depth, without following links and without the
            names that an inbox ignores. Or a Parquet file with a column `path`; a relative path
            starts at the file's folder.

    Returns:
        An iterator that raises StorageTrouble while the archive is away, and can be resumed.

    Raises:
        DataError: it is neither, or cannot be read. A truncated list raises later.
    """
    try:
        is_folder = stat.S_ISDIR(source.stat().st_mode)
    except OSError as error:
        raise DataError(f"{source}: {error.strerror}") from error
    whole = source.resolve()
    if is_folder:
        return _Below(os.fsencode(whole))
    if source.suffix != ".parquet":
        raise DataError(f"{source}: neither a folder nor a Parquet file with a column '{_COLUMN}'")
    return _listed(_parquet(whole), whole.parent)


def fence_around(source: Path) -> Path:
    """Return the folder that contains all films of an archive."""
    return source.resolve() if source.is_dir() else Path("/")


class _Below(Iterator[str]):
    """The films below a folder, by name within each folder.

    A folder that cannot be listed is yielded itself, so that it is counted as missing.
    """

    def __init__(self, root: bytes) -> None:
        self._root = root
        try:
            self._left = _entries(root)
        except OSError as error:
            shown = os.fsdecode(root)
            raise DataError(f"{shown} cannot be listed: {error.strerror}") from error

    def __next__(self) -> str:
        while self._left:
            entry = self._left[-1]
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
                is_film = entry.is_file(follow_symlinks=False)
            except OSError:  # reading it will give the reason
                is_folder, is_film = False, True
            if is_folder:
                below = self._below(entry.path)
                self._left.pop()
                if below is None:
                    return spell(entry.path)
                self._left.extend(below)
            else:
                self._left.pop()
                if is_film:
                    return spell(entry.path)
        raise StopIteration

    def _below(self, folder: bytes) -> list[os.DirEntry[bytes]] | None:
        """List a folder; None if only this folder cannot be listed."""
        try:
            return _entries(folder)
        except OSError:
            try:
                os.stat(self._root)
            except OSError as error:
                away = f"the archive cannot be reached: {error.strerror}"
                raise StorageTrouble(away) from error
            return None


def _entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    """Return the entries of a folder that may be films or folders, the last name first."""
    with os.scandir(folder) as entries:
        could_be_films = [one for one in entries if not is_passed_over(spell(one.name))]
    return sorted(could_be_films, key=lambda entry: entry.name, reverse=True)


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet, types  # noqa: PLC0415 - optional
    except ImportError as error:
        raise DataError(f"{path.name}: reading it {not_installed('pyarrow')}") from error
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ArrowException) as error:
        raise DataError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from error
    if _COLUMN not in file.schema_arrow.names:
        raise DataError(f"{path.name}: it has no column '{_COLUMN}'")
    kind = file.schema_arrow.field(_COLUMN).type
    if not (types.is_string(kind) or types.is_large_string(kind)):
        raise DataError(f"{path.name}: its column '{_COLUMN}' is of {kind}, not of strings")
    return file


def _listed(file: Any, folder: Path) -> Iterator[str]:
    from pyarrow import ArrowException  # noqa: PLC0415 - `file` is from it

    base = os.fsencode(folder)
    try:
        for batch in file.iter_batches(batch_size=_ROWS, columns=[_COLUMN]):
            for path in batch.column(0).to_pylist():
                if path:
                    yield spell(os.path.normpath(os.path.join(base, os.fsencode(path))))
    except (OSError, ArrowException) as error:
        raise DataError(f"the list cannot be read further: {str(error).splitlines()[0]}") from error
