"""The inbox and the two folders films leave it for: list, look, archive, refuse.

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

# A copy to another mount holds everything else up, and what is so large is no film.
_LARGEST_COPY = 256 << 20  # bytes
_ROOM = 16 << 20  # bytes free, with which it is the film that is too large, and not the disk full
# What keeps one film from being moved where others can be: another's in a sticky folder, immutable.
_THIS_FILM = {errno.EPERM, errno.EACCES, errno.EBUSY, errno.ETXTBSY}


class Inbox:
    """The inbox folder, and where its files go."""

    def __init__(self, folders: Folders) -> None:
        """Name the three folders. Nothing is opened."""
        self.folder = folders.inbox
        self.archive = folders.archive
        self.refused = folders.refused
        self.others: dict[str, int] = {}  # kinds of what the last listing passed over, counted
        self._durable: set[Path] = set()  # days' folders whose own names are

    def identity(self) -> tuple[int, int]:
        """Return (device, inode) of the inbox as it is now.

        Raises:
            StorageTrouble: it is not there: removed, renamed away, or not mounted; or it may not
                be entered, so that none of its films can be looked at, though it may be listed.
        """
        try:
            facts = os.stat(os.path.join(os.fsencode(self.folder), b"."))
        except OSError as error:
            raise StorageTrouble(f"the inbox cannot be reached: {error.strerror}") from error
        return (facts.st_dev, facts.st_ino)

    def names(self) -> Iterator[str]:
        """Stream the names in the inbox that could be films, in no order.

        What lies there and is never read is counted on the way, and told by `others` at the end.

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
        """Return what stands under a name if it is a regular file, without following links.

        Raises:
            FilmStuck: this one cannot be looked at.
            StorageTrouble: the inbox cannot be reached.
        """
        try:
            facts = os.stat(self._path(name), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a NUL in the name
            self.identity()  # an inbox that is not there says nothing of what is in it
            return None
        except OSError as error:
            self.identity()
            raise FilmStuck(f"a film cannot be looked at: {error.strerror}") from error
        return sighting_of(name, facts)

    def file_away(self, scan: Recorded) -> str | None:
        """Move a recorded scan's file to its folder; do nothing twice.

        A refused one gets a JSON beside it that says why. A crash at any instant leaves either
        the file in the inbox or the file in its place, and calling again finishes the job.

        Returns:
            The path below its folder, or None where the file is no longer anywhere, or cannot be
            told to be gone from the inbox.

        Raises:
            FilmStuck: this one cannot be moved.
            StorageTrouble: none can be moved now.
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
        else:  # moved before a crash, or taken away by someone before it was filed
            name = _where_moved(scan, folder)
            there = os.fsencode(folder)
            aside = aside_of(there, scan.sighting.inode, scan.sighting.mtime_ns)
            if os.path.lexists(aside) and not lies_across(os.fsencode(self.folder), there):
                # It was copied from another mount, and not seen to go from there. What is the
                # inbox now is what that one was mounted over, and says nothing of it.
                return None
            with suppress(FileNotFoundError):
                os.unlink(aside)
        if name is None:
            return None
        if scan.refusal is not None:
            write_why(folder, name, scan)
        return f"{folder.name}/{spell(name)}"

    def _move(self, scan: Recorded, folder: Path) -> bytes | None:
        """Move a scan's file into a folder, and return the name it got there.

        Or None, where another film took its name since it was looked at: that one stays here.
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
            raise FilmStuck(f"no name will do for scan {scan.scan_id} in {folder.name}") from error
        except MistakenError as mistake:
            if mistake.moved_to is not None:
                self._take_in(mistake.moved_to, scan.sighting.name, scan.scan_id)
            return None

    def _may_move_to(self, folder: Path) -> bool:
        """Whether both folders would let a film pass, so that it is the film that will not."""
        wanted = os.W_OK | os.X_OK
        return all(os.access(one, wanted, effective_ids=True) for one in (self.folder, folder))

    def bring_back(self, filed_as: str | None, name: str, scan_id: int) -> str | None:
        """Move a refused file back into the inbox, under its own name or a free one like it.

        One that was kept in the inbox (`filed_as` is None) is given the present time: a new
        sighting of it.

        Returns:
            None, or a sentence that says why it could not be done.
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
        """Whether a refused film has left its place, whose folder is there to say so."""
        source = self._refused_at(filed_as)
        return not os.path.lexists(source) and os.path.isdir(os.path.dirname(source))

    def _refused_at(self, filed_as: str) -> bytes:
        day, _, name = filed_as.partition("/")
        return os.path.join(os.fsencode(self.refused / day), bytes_of(name))

    def _touch(self, name: str) -> str | None:
        if os.path.isabs(bytes_of(name)):
            return "its film lies in an archive: touch it, and `lungwatch backfill` again"
        try:
            os.utime(self._path(name), follow_symlinks=False)
        except OSError as error:
            return f"its file cannot be touched: {error.strerror}"
        return None

    def make_durable(self, days: set[str]) -> None:
        """Make the moves of a batch survive a power cut.

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
    """Fold a number into the 64 bits with a sign that a database holds."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _check_copy(size_bytes: int, folder: Path) -> None:
    """Let no film so large be copied that others would have to wait, or found no room.

    Raises:
        FilmStuck: it stays where it is.
        OSError: the folder cannot be asked how much it holds.
    """
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    if size_bytes > _LARGEST_COPY or (size_bytes > free_bytes >= _ROOM):
        raise FilmStuck(f"{size_bytes:,} bytes are too many to copy to {folder.parent.name}")


def _is_as_sighted(sighting: Sighting, facts: os.stat_result) -> bool:
    """Whether this may be the file that was sighted: of its size, and of its time or its number.

    With another name some file systems give a file another number, and some another time.
    """
    now = sighting_of(sighting.name, facts)
    if now is None or now.size_bytes != sighting.size_bytes:
        return False
    return now.mtime_ns == sighting.mtime_ns or now.inode == sighting.inode


def _passed_over_as(entry: os.DirEntry[bytes], name: str) -> str | None:
    """Return as what a name is passed over, or None where it could be a film."""
    try:
        if entry.is_symlink():
            return "link"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        if not entry.is_file(follow_symlinks=False):
            return "special"
    except OSError:  # it went away, or cannot be looked at: `look` will say
        return None
    return "temporary" if is_passed_over(name) else None


def sighting_of(name: str, facts: os.stat_result) -> Sighting | None:
    """Return the sighting of a `stat` result, or None where it is no regular file."""
    if not stat.S_ISREG(facts.st_mode):
        return None
    return Sighting(
        name=name,
        size_bytes=facts.st_size,
        mtime_ns=_signed(facts.st_mtime_ns),
        inode=_signed(facts.st_ino),
    )


def _where_moved(scan: Recorded, folder: Path) -> bytes | None:
    """Return the name under which a scan's file stands in a folder, renamed there or copied."""
    copied = None
    for name, facts in taken_names(os.fsencode(folder), bytes_of(scan.sighting.name), scan.scan_id):
        there = sighting_of(scan.sighting.name, facts)
        if there == scan.sighting:
            return name
        # The last such: its own name may be a twin's, those with its number are its alone.
        if there is not None and replace(there, inode=scan.sighting.inode) == scan.sighting:
            copied = name
    return copied
