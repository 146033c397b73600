"""The inbox and the two folders films leave it for: list, look, archive, refuse.

Names are bytes to the file system and anything may stand in them; `spell` writes them so that
any database can store them and `bytes_of` gives the very bytes back. Nothing here opens a film,
follows a link, deletes, or overwrites.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from worker.errors import StorageTrouble
from worker.files import fsync_folder, write_atomically
from worker.records import Recorded, Sighting

# Names that something else is still writing to, or that no person put there.
_PASSED_OVER = re.compile(
    r"^[.~#]|(\.(part|partial|filepart|crdownload|download|tmp|temp|swp|lock|opdownload)|~|#)$"
    r"|^(thumbs\.db|desktop\.ini)$",
    re.IGNORECASE,
)
_LONGEST_NAME = 255  # bytes, on every file system in use
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
# A rename that the kernel or the file system cannot do without replacing.
_NO_SUCH_RENAME = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
_libc = ctypes.CDLL(None, use_errno=True)


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


class Inbox:
    """The inbox folder, and where its files go."""

    def __init__(self, inbox: Path, *, archive: Path, refused: Path) -> None:
        """Name the three folders. Nothing is opened."""
        self.folder = inbox
        self.archive = archive
        self.refused = refused
        self._days: set[str] = set()  # whose folders' own names are durable

    def identity(self) -> tuple[int, int]:
        """Return (device, inode) of the inbox as it is now.

        Raises:
            StorageTrouble: it is not there: removed, renamed away, or not mounted.
        """
        try:
            found = self.folder.stat()
        except OSError as error:
            raise StorageTrouble(f"the inbox cannot be reached: {error.strerror}") from error
        return (found.st_dev, found.st_ino)

    def names(self) -> Iterator[str]:
        """Stream the names in the inbox that could be films, in no order.

        Raises:
            StorageTrouble: the folder cannot be listed.
        """
        try:
            with os.scandir(os.fsencode(self.folder)) as entries:
                for entry in entries:
                    name = spell(entry.name)
                    if not is_passed_over(name):
                        yield name
        except OSError as error:
            raise StorageTrouble(f"the inbox cannot be listed: {error.strerror}") from error

    def look(self, name: str) -> Sighting | None:
        """Return what stands under a name if it is a regular file, without following links.

        Raises:
            StorageTrouble: the folder itself cannot be reached.
        """
        try:
            found = os.stat(self._path(name), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageTrouble(f"the inbox cannot be read: {error.strerror}") from error
        return sighting_of(name, found)

    def count_others(self) -> dict[str, int]:
        """Count what lies in the inbox and is never read: folders, links, special files."""
        kinds: dict[str, int] = {}
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        kind = "temporary" if is_passed_over(entry.name) else None
                    elif entry.is_symlink():
                        kind = "link"
                    else:
                        kind = "folder" if entry.is_dir(follow_symlinks=False) else "special"
                    if kind:
                        kinds[kind] = kinds.get(kind, 0) + 1
        except OSError as error:
            raise StorageTrouble(f"the inbox cannot be listed: {error.strerror}") from error
        return kinds

    def file_away(self, scan: Recorded) -> str | None:
        """Move a recorded scan's file to its folder; do nothing twice.

        A refused one gets a JSON beside it that says why. A crash at any instant leaves either
        the file in the inbox or the file in its place, and calling again finishes the job.

        Returns:
            The path below its folder, or None where the file is no longer anywhere.

        Raises:
            StorageTrouble: the move cannot be made now.
        """
        root = self.archive if scan.refusal is None else self.refused
        try:
            return self._file_away(scan, root / scan.day)
        except OSError as error:
            raise StorageTrouble(
                f"a film cannot be moved to the {root.name} folder: {error.strerror}"
            ) from error

    def _file_away(self, scan: Recorded, folder: Path) -> str | None:
        folder.mkdir(parents=True, exist_ok=True)
        source = self._path(scan.sighting.name)
        still_there = self.look(scan.sighting.name) == scan.sighting
        for name in _free_names(bytes_of(scan.sighting.name), scan.scan_id):
            place = os.path.join(os.fsencode(folder), name)
            if still_there:
                try:
                    move(source, place)
                except FileExistsError:
                    continue
            elif not os.path.lexists(place):
                return None  # taken away by someone before it was filed
            elif not self._was_moved_to(place, scan.sighting):
                continue
            if scan.refusal is not None:
                _write_why(folder, name, scan)
            return f"{folder.name}/{spell(name)}"
        raise StorageTrouble(f"no name is free for scan {scan.scan_id} in {folder.name}")

    def bring_back(self, filed_as: str, name: str, scan_id: int) -> str | None:
        """Move a refused file back into the inbox, under its own name or a free one like it.

        Returns:
            None, or a sentence that says why it could not be done.
        """
        day, _, filed_name = filed_as.partition("/")
        source = os.path.join(os.fsencode(self.refused / day), bytes_of(filed_name))
        for free in _free_names(bytes_of(name), scan_id):
            try:
                move(source, os.path.join(os.fsencode(self.folder), free))
            except FileExistsError:
                continue
            except FileNotFoundError:
                return "its file is no longer in the refused folder"
            except OSError as error:
                return f"its file cannot be moved: {error.strerror}"
            return None
        return "no name is free in the inbox"

    def make_durable(self, days: set[str]) -> None:
        """Make the moves of a batch survive a power cut.

        Raises:
            StorageTrouble: a folder cannot be synced.
        """
        try:
            for day in days:
                for root in (self.archive, self.refused):
                    if (root / day).is_dir():
                        fsync_folder(root / day)
                    if day not in self._days:
                        fsync_folder(root)
            self._days |= days
            fsync_folder(self.folder)
        except OSError as error:
            raise StorageTrouble(f"moves cannot be made durable: {error.strerror}") from error

    def _was_moved_to(self, place: bytes, sighting: Sighting) -> bool:
        """Whether the file of a sighting stands at a place, renamed there or copied across."""
        try:
            found = os.stat(place, follow_symlinks=False)
        except OSError:
            return False
        there = sighting_of(sighting.name, found)
        if there is None or found.st_dev == self.folder.stat().st_dev:
            return there == sighting
        return replace(there, inode=sighting.inode) == sighting

    def _path(self, name: str) -> bytes:
        return os.path.join(os.fsencode(self.folder), bytes_of(name))


def sighting_of(name: str, found: os.stat_result) -> Sighting | None:
    """Return the sighting of a `stat` result, or None where it is no regular file."""
    if not stat.S_ISREG(found.st_mode):
        return None
    return Sighting(
        name=name,
        size_bytes=found.st_size,
        mtime_ns=found.st_mtime_ns,
        inode=found.st_ino - (1 << 64) if found.st_ino >= 1 << 63 else found.st_ino,
    )


def why_refused(scan: Recorded) -> bytes:
    """Return the JSON that lies beside a refused file: no more than its row holds."""
    refusal = scan.refusal
    if refusal is None:
        raise ValueError(f"scan {scan.scan_id} was not refused")
    why = {
        "scan_id": scan.scan_id,
        "file_name": scan.sighting.name,
        "sha256": scan.sha256,
        "refusal_code": refusal.code.value,
        "sentence": refusal.sentence,
        "measured": refusal.measured,
        "limit": refusal.limit,
        "what_to_do": refusal.code.meaning,
    }
    return json.dumps(why, indent=2, ensure_ascii=False).encode() + b"\n"


def move(source: bytes, target: bytes) -> None:
    """Move a file and never replace one.

    Raises:
        FileExistsError: something stands at `target`.
        OSError: the move cannot be made; the file is still at `source`.
    """
    if _libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number in _NO_SUCH_RENAME:
        _link_then_unlink(source, target)
    elif number == errno.EXDEV:
        _move_across(source, target)
    else:
        raise OSError(number, os.strerror(number), source, None, target)


def _link_then_unlink(source: bytes, target: bytes) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        # A crash between the two calls leaves one file under both names.
        if not os.path.samestat(os.lstat(source), os.lstat(target)):
            raise
    os.unlink(source)


def _move_across(source: bytes, target: bytes) -> None:
    """Move to another file system: copy aside, fsync, take the name, then drop the source."""
    aside = os.path.join(os.path.dirname(target), b".moving-%d" % os.getpid())
    try:
        with open(source, "rb") as original, open(aside, "wb") as copy:
            shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        shutil.copystat(source, aside, follow_symlinks=False)
        os.link(aside, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside)
    fsync_folder(Path(os.fsdecode(os.path.dirname(target))))
    os.unlink(source)


def _free_names(name: bytes, scan_id: int) -> Iterator[bytes]:
    """Yield names to try, in order: the file's own, then with the scan's number in it."""
    yield name
    stem, extension = os.path.splitext(name)
    for number in (b".%d" % scan_id, *(b".%d-%d" % (scan_id, again) for again in range(2, 1000))):
        yield stem[: _LONGEST_NAME - len(number) - len(extension)] + number + extension


def _write_why(folder: Path, name: bytes, scan: Recorded) -> None:
    """Write the JSON beside a refused file, unless it is there from before a crash."""
    why = why_refused(scan)
    stem = name[: _LONGEST_NAME - len(b".1234567890123456789-999.json")]
    for candidate in _free_names(stem + b".json", scan.scan_id):
        path = folder / os.fsdecode(candidate)
        if not path.exists():
            write_atomically(path, why)
            return
        if path.read_bytes() == why:
            return
