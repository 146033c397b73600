"""Writing and moving so that a reader, or a crash, never finds half a file or loses one."""

# Names of films are bytes, which pathlib does not take.
# ruff: noqa: PTH104, PTH108, PTH116, PTH118, PTH120, PTH123

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
# A rename that the kernel or the file system cannot do without replacing.
_NO_SUCH_RENAME = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
# A second name that the file system does not know, or that is forbidden for another's file.
_NO_SUCH_LINK = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}
# Nothing has that name, or what has it is not opened as a file is: a link, a socket.
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
_libc = ctypes.CDLL(None, use_errno=True)

Wanted = Callable[[os.stat_result], bool]


def shipped(name: str) -> Path:
    """Return a folder that comes with this code: inside the package, or beside it in a clone."""
    package = Path(__file__).resolve().parents[1]  # the folder `worker`
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where its file system has a way to."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file, and have its bytes on the disk; its name is for `fsync_folder`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes, *, aside: Path | None = None) -> None:
    """Write aside, fsync, rename over `path`, fsync the folder.

    `aside` is a name of this process's own, unless one is given: one that whoever writes this
    very file again uses too, so that a kill leaves nothing that is never cleared away.
    """
    aside = aside or path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_durably(aside, data)
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    fsync_folder(path.parent)


def open_regular(path: Path | bytes, *, follow: bool = False) -> BufferedReader:
    """Open a regular file to be read, and nothing that has taken its name: no pipe, no device.

    Args:
        path: of the file.
        follow: a link too, to such a file.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise FileNotFoundError(errno.ENOENT, error.strerror, path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "no regular file is in its place", path)
    return open(descriptor, "rb")


class MistakenError(OSError):
    """Another file had taken the name of the one that was to be moved."""

    def __init__(self, source: bytes, *, moved_to: bytes | None = None) -> None:
        """Say where it stands now, if it was moved in place of the other."""
        super().__init__(errno.ESTALE, "another file has its name", source)
        self.moved_to = moved_to


def move(source: bytes, target: bytes, *, wanted: Wanted | None = None) -> None:
    """Move a file and never replace one.

    Args:
        source: its path.
        target: its path to be.
        wanted: tells the file that is meant, if not just any that stands at `source`.

    Raises:
        FileExistsError: something stands at `target`.
        MistakenError: it was not the wanted file; or it was not found out before it was moved.
        OSError: the move cannot be made; the file is still at `source`.
    """
    if _libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        if number == errno.EXDEV:
            _move_across(source, target, wanted)
            return
        if number not in _NO_SUCH_RENAME:
            raise OSError(number, os.strerror(number), source, None, target)
        _link_then_unlink(source, target, wanted)
    # There is no rename of a file that is open: only of whatever has its name by then.
    if wanted is not None and not wanted(os.lstat(target)):
        raise MistakenError(source, moved_to=target)


def lies_across(source: bytes, target: bytes) -> bool:
    """Whether a file that moves from one folder to the other is copied: they are two mounts."""
    nothing = b"n" * 256  # a byte longer than any name, so that nothing can be there to move
    names = (os.path.join(source, nothing), os.path.join(target, nothing))
    _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE)
    return ctypes.get_errno() == errno.EXDEV  # said before it is looked for


def _link_then_unlink(source: bytes, target: bytes, wanted: Wanted | None) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        # A crash between the two calls leaves one file under both names.
        if not os.path.samestat(os.lstat(source), os.lstat(target)):
            raise
    except OSError as error:
        if error.errno == errno.EXDEV:  # one mount here, and two where it comes from
            _move_across(source, target, wanted)
        elif error.errno in _NO_SUCH_LINK:
            _rename_over_our_own(source, target)
        else:
            raise
        return
    _drop(source, os.lstat(target))


def _rename_over_our_own(source: bytes, target: bytes) -> None:
    """Take a name with an empty file, and rename over that: it is all that is ever replaced.

    A kill between the two leaves the empty file. Whoever tries again finds that name taken.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    ours = os.fstat(descriptor)
    os.close(descriptor)  # a rename over what is open fails on some shares
    if os.lstat(target).st_size:
        raise FileExistsError(errno.EEXIST, "another's meanwhile", target)
    try:
        os.rename(source, target)
    except BaseException:
        with suppress(OSError):
            now = os.lstat(target)
            if not now.st_size and os.path.samestat(now, ours):
                os.unlink(target)
        raise


def _move_across(source: bytes, target: bytes, wanted: Wanted | None = None) -> None:
    """Move to another file system: copy aside, fsync, take the name, then drop the source.

    The name aside is the film's alone and goes last, so that after a crash it tells which name
    was taken: the film is neither copied again under another, nor mixed with a second worker's.
    """
    sighted = os.lstat(source)
    if wanted is not None and not wanted(sighted):
        raise MistakenError(source)
    aside = aside_of(os.path.dirname(target), sighted.st_ino, sighted.st_mtime_ns)
    with open(aside, "ab") as copy:
        fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(aside).st_nlink == 1:  # and not named before a crash
            try:
                _copy(source, sighted, copy)
                shutil.copystat(source, aside, follow_symlinks=False)
                os.fsync(copy.fileno())
                _name(aside, target)
            except BaseException:
                os.unlink(aside)
                raise
        elif not (os.path.lexists(target) and os.path.samestat(os.lstat(target), os.stat(aside))):
            raise FileExistsError(errno.EEXIST, "named otherwise", target)
        fsync_folder(Path(os.fsdecode(os.path.dirname(target))))
        _drop(source, sighted)
        with suppress(FileNotFoundError):  # it was renamed, where there are no second names
            os.unlink(aside)


def _name(aside: bytes, target: bytes) -> None:
    """Give a copy its name. Without second names a kill before the source goes leaves a copy."""
    try:
        os.link(aside, target)
    except OSError as error:
        if error.errno not in _NO_SUCH_LINK:
            raise
        _rename_over_our_own(aside, target)


def _drop(source: bytes, sighted: os.stat_result) -> None:
    """Drop a name whose film stands elsewhere now; another film that took it meanwhile stays."""
    now = os.lstat(source)
    same = (now.st_size, now.st_mtime_ns) == (sighted.st_size, sighted.st_mtime_ns)
    if same and os.path.samestat(now, sighted):
        os.unlink(source)


def aside_of(folder: bytes, inode: int, mtime_ns: int) -> bytes:
    """Return where a film is copied to before it gets its name."""
    return os.path.join(folder, b".moving-%d-%d" % (inode % (1 << 64), mtime_ns % (1 << 64)))


def _copy(source: bytes, sighted: os.stat_result, copy: BinaryIO) -> None:
    """Copy the film that was sighted, and nothing that took its place."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as original:
        if not os.path.samestat(os.fstat(descriptor), sighted):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), source)
        copy.truncate(0)
        shutil.copyfileobj(original, copy, 1 << 20)
        copy.flush()
