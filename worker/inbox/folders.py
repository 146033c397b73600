"""The inbox and the archive and refused folders: list files, look at them, move them.

Nothing here opens a film, follows a link, deletes, or overwrites.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from worker.errors import FilmStuck, StorageTrouble
from worker.inbox.free_names import take_name, taken_names
from worker.inbox.sidecar import write_why
from worker.system.filenames import bytes_of, is_passed_over, spell
from worker.system.files import MistakenError, aside_of, fsync_folder, lies_across, move
from worker.system.folders import Folders
from worker.types import Recorded, Sighting

# Copying to another mount blocks everything else, and no film is larger than this.
_LARGEST_COPY = 256 << 20  # bytes
_ROOM = 16 << 20  # bytes; with this much free, a film that does not fit is too large
# Errors of one film while others can be moved: another user's in a sticky folder, or immutable.
_THIS_FILM = {errno.EPERM, errno.EACCES, errno.EBUSY, errno.ETXTBSY}


class Inbox:
    """The inbox folder, and where its files go."""

    def __init__(self, folders: Folders) -> None:
        """Set the three folders. Nothing is opened."""
        self.folder = folders.inbox
        self.archive = folders.archive
        self.refused = folders.refused
        self.others: dict[str, int] = {}  # files the last listing ignored, by kind
        self._durable: set[Path] = set()  # folders of a day whose own name is durable

    def identity(self) -> tuple[int, int]:
        """Return (device, inode) of the inbox.

        Raises:
            StorageTrouble: it was removed, renamed or unmounted; or it may be listed but not
                entered, so that no film can be looked at.
        """
        try:
            facts = os.stat(os.path.join(os.fsencode(self.folder), b"."))
        except OSError as error:
            raise StorageTrouble(f"the inbox cannot be reached: {error.strerror}") from error
        return (facts.st_dev, facts.st_ino)

    def names(self) -> Iterator[str]:
        """Yield the names in the inbox that may be films, in no order.

        Other files are counted by kind in `others` when the listing ends.

        Raises:
            StorageTrouble: the folder cannot be listed.
        """
        others: Counter[str] = Counter()
        try:
            with os.scandir(os.fsencode(self.folder)) as entries:
                for entry in entries:
                    name = spell(entry.name)
                    kind = _passed_over_as(entry, name)
                    if kind is None:
                        yield name
                    else:
                        others[kind] += 1
        except OSError as error:
            raise StorageTrouble(f"the inbox cannot be listed: {error.strerror}") from error
        self.others = dict(others)

    def look(self, name: str) -> Sighting | None:
        """Return a file's sighting, or None if there is no regular file; links are not followed.

        Raises:
            FilmStuck: this file cannot be looked at.
            StorageTrouble: the inbox cannot be reached.
        """
        try:
            facts = os.stat(self._path(name), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a NUL in the name
            self.identity()  # raises if the inbox itself is gone
            return None
        except OSError as error:
            self.identity()
            raise FilmStuck(f"a film cannot be looked at: {error.strerror}") from error
        return sighting_of(name, facts)

    def file_away(self, scan: Recorded) -> str | None:
        """Move a recorded scan's file to its folder, once.

        A refused file gets a JSON file with the reason next to it. After a crash the file is either
        in the inbox or in its folder; calling this again finishes the job.

        Returns:
            The path below the folder, or None if the file is gone or may still be in the inbox.

        Raises:
            FilmStuck: this file cannot be moved.
            StorageTrouble: no file can be moved now.
        """
        root = self.archive if scan.refusal is None else self.refused
        try:
            return self._file_away(scan, root / scan.day)
        except OSError as error:
            sentence = f"a film cannot be moved to the {root.name} folder: {error.strerror}"
            if error.errno in _THIS_FILM and self._may_move_to(root / scan.day):
                raise FilmStuck(sentence) from error
            raise StorageTrouble(sentence) from error

    def _file_away(self, scan: Recorded, folder: Path) -> str | None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.look(scan.sighting.name) == scan.sighting:
            name: bytes | None = self._move(scan, folder)
        else:  # moved before a crash, or removed by someone
            name = _where_moved(scan, folder)
            there = os.fsencode(folder)
            aside = aside_of(there, scan.sighting.inode, scan.sighting.mtime_ns)
            if os.path.lexists(aside) and not lies_across(os.fsencode(self.folder), there):
                # It was copied from another mount and perhaps not removed there. That mount is
                # gone, and what is mounted at the inbox now does not show it.
                return None
            with suppress(FileNotFoundError):
                os.unlink(aside)
        if name is None:
            return None
        if scan.refusal is not None:
            write_why(folder, name, scan)
        return f"{folder.name}/{spell(name)}"

    def _move(self, scan: Recorded, folder: Path) -> bytes | None:
        """Move a scan's file into a folder, and return its name there.

        Return None if another film has taken its name since; that film stays in the inbox.
        """
        source = self._path(scan.sighting.name)
        size_bytes = scan.sighting.size_bytes
        if size_bytes > _ROOM and lies_across(os.fsencode(self.folder), os.fsencode(folder)):
            _check_copy(size_bytes, folder)

        def take(name: bytes) -> bytes:
            target = os.path.join(os.fsencode(folder), name)
            move(source, target, wanted=partial(_is_as_sighted, scan.sighting))
            return name

        try:
            return take_name(bytes_of(scan.sighting.name), scan.scan_id, take)
        except FileExistsError as error:
            raise FilmStuck(f"no name is free for scan {scan.scan_id} in {folder.name}") from error
        except MistakenError as mistake:
            if mistake.moved_to is not None:
                self._take_in(mistake.moved_to, scan.sighting.name, scan.scan_id)
            return None

    def _may_move_to(self, folder: Path) -> bool:
        """Whether both folders permit moves, so that the error concerns this film alone."""
        wanted = os.W_OK | os.X_OK
        return all(os.access(one, wanted, effective_ids=True) for one in (self.folder, folder))

    def bring_back(self, filed_as: str | None, name: str, scan_id: int) -> str | None:
        """Move a refused file back into the inbox, under its own name or a free one like it.

        A file that was kept in the inbox (`filed_as` is None) gets the present time, which makes it
        a new sighting.

        Returns:
            None, or the reason why it failed.
        """
        if filed_as is None:
            return self._touch(name)
        try:
            self._take_in(self._refused_at(filed_as), name, scan_id)
        except FileExistsError:
            return "no name is free in the inbox"
        except OSError as error:
            if self.has_left(filed_as):
                return "its file is no longer in the refused folder"
            return f"its file cannot be moved: {error.strerror}"
        return None

    def _take_in(self, source: bytes, name: str, scan_id: int) -> None:
        """Move a file into the inbox, under this name or a free one like it."""
        inbox = os.fsencode(self.folder)
        take_name(bytes_of(name), scan_id, lambda free: move(source, os.path.join(inbox, free)))

    def has_left(self, filed_as: str) -> bool:
        """Whether a refused file is gone from its place, while its folder exists."""
        source = self._refused_at(filed_as)
        return not os.path.lexists(source) and os.path.isdir(os.path.dirname(source))

    def _refused_at(self, filed_as: str) -> bytes:
        day, _, name = filed_as.partition("/")
        return os.path.join(os.fsencode(self.refused / day), bytes_of(name))

    def _touch(self, name: str) -> str | None:
        if os.path.isabs(bytes_of(name)):
            return "its film is in an archive: touch the file, then run `lungwatch backfill` again"
        try:
            os.utime(self._path(name), follow_symlinks=False)
        except OSError as error:
            return f"its file cannot be touched: {error.strerror}"
        return None

    def make_durable(self, days: set[str]) -> None:
        """Fsync the folders, so that a batch of moves survives a power cut.

        Raises:
            StorageTrouble: a folder cannot be synced.
        """
        try:
            for folder in (root / day for day in days for root in (self.archive, self.refused)):
                if folder.is_dir():
                    fsync_folder(folder)
                    if folder not in self._durable:
                        fsync_folder(folder.parent)
                        self._durable.add(folder)
            fsync_folder(self.folder)
        except OSError as error:
            raise StorageTrouble(f"moves cannot be made durable: {error.strerror}") from error

    def _path(self, name: str) -> bytes:
        return os.path.join(os.fsencode(self.folder), bytes_of(name))


def _signed(number: int) -> int:
    """Wrap a number into signed 64 bits, which databases can hold."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _check_copy(size_bytes: int, folder: Path) -> None:
    """Refuse to copy a film that would block the others for long, or does not fit.

    Raises:
        FilmStuck: it is too large.
        OSError: the folder's free space cannot be read.
    """
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    if size_bytes > _LARGEST_COPY or (size_bytes > free_bytes >= _ROOM):
        raise FilmStuck(f"{size_bytes:,} bytes are too many to copy to {folder.parent.name}")


def _is_as_sighted(sighting: Sighting, facts: os.stat_result) -> bool:
    """Whether a file may be the one sighted: same size, and same time or inode.

    A rename changes the inode on some file systems, and the time on others.
    """
    now = sighting_of(sighting.name, facts)
    if now is None or now.size_bytes != sighting.size_bytes:
        return False
    return now.mtime_ns == sighting.mtime_ns or now.inode == sighting.inode


def _passed_over_as(entry: os.DirEntry[bytes], name: str) -> str | None:
    """Return the kind of a file that is ignored, or None if it may be a film."""
    try:
        if entry.is_symlink():
            return "link"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        if not entry.is_file(follow_symlinks=False):
            return "special"
    except OSError:  # it is gone or unreadable; `look` will tell
        return None
    return "temporary" if is_passed_over(name) else None


def sighting_of(name: str, facts: os.stat_result) -> Sighting | None:
    """Return the sighting of a `stat` result, or None if it is not a regular file."""
    if not stat.S_ISREG(facts.st_mode):
        return None
    return Sighting(
        name=name,
        size_bytes=facts.st_size,
        mtime_ns=_signed(facts.st_mtime_ns),
        inode=_signed(facts.st_ino),
    )


def _where_moved(scan: Recorded, folder: Path) -> bytes | None:
    """Return the name of a scan's file in a folder, whether it was renamed or copied there."""
    copied = None
    for name, facts in taken_names(os.fsencode(folder), bytes_of(scan.sighting.name), scan.scan_id):
        there = sighting_of(scan.sighting.name, facts)
        if there == scan.sighting:
            return name
        # Take the last: the plain name may belong to a twin, names with the scan's id do not.
        if there is not None and replace(there, inode=scan.sighting.inode) == scan.sighting:
            copied = name
    return copied
