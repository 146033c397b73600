"""Write and move files so that neither a reader nor a crash finds half a file or loses one."""

# File names are bytes here, which pathlib does not take.
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
# The kernel or the file system has no rename that refuses to replace.
_NO_SUCH_RENAME = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
# The file system has no hard links, or forbids one to a file of another user.
_NO_SUCH_LINK = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}
# The name is free, or it is a link, a socket or a pipe.
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
_libc = ctypes.CDLL(None, use_errno=True)

Wanted = Callable[[os.stat_result], bool]


def shipped(name: str) -> Path:
    """Return a folder shipped with this code: inside the package, or next to it in a clone."""
    package = Path(__file__).resolve().parents[1]  # the folder `worker`
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, if its file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and fsync it. Its name becomes durable by `fsync_folder`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes, *, aside: Path | None = None) -> None:
    """Write a temporary file, fsync, rename it over `path`, fsync the folder.

    Args:
        path: the file to write or replace.
        data: its new content.
        aside: the temporary file; by default a name with this process's id. A fixed name is
            overwritten by the next write, so a killed process leaves no litter.
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
    """Open a regular file for reading; a pipe, device or socket of that name is not opened.

    Args:
        path: of the file.
        follow: follow a symbolic link to a regular file.

    Raises:
        FileNotFoundError: no regular file has this name.
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
    """Another file had taken the name of the file to move."""

    def __init__(self, source: bytes, *, moved_to: bytes | None = None) -> None:
        """Record where that other file is now, if it was moved by mistake."""
        super().__init__(errno.ESTALE, "another file has its name", source)
        self.moved_to = moved_to


def move(source: bytes, target: bytes, *, wanted: Wanted | None = None) -> None:
    """Move a file and never replace one.

    Args:
        source: the present path.
        target: the new path.
        wanted: recognises the file that is meant; None for any file at `source`.

    Raises:
        FileExistsError: `target` exists.
        MistakenError: another file was at `source`; it may have been moved before this was seen.
        OSError: the move failed; the file is still at `source`.
    """
    if _libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        if number == errno.EXDEV:
            _move_across(source, target, wanted)
            return
        if number not in _NO_SUCH_RENAME:
            raise OSError(number, os.strerror(number), source, None, target)
        _link_then_unlink(source, target, wanted)
    # rename acts on a name, not on an open file: check afterwards which file was moved.
    if wanted is not None and not wanted(os.lstat(target)):
        raise MistakenError(source, moved_to=target)


def lies_across(source: bytes, target: bytes) -> bool:
    """Whether the two folders are on different mounts, so that a move has to copy."""
    nothing = b"n" * 256  # one byte longer than a name may be: no such file exists
    names = (os.path.join(source, nothing), os.path.join(target, nothing))
    _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE)
    return ctypes.get_errno() == errno.EXDEV  # the kernel checks the mounts before the file


def _link_then_unlink(source: bytes, target: bytes, wanted: Wanted | None) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        # A crash between the two calls leaves one file under both names.
        if not os.path.samestat(os.lstat(source), os.lstat(target)):
            raise
    except OSError as error:
        if error.errno == errno.EXDEV:  # bind mounts: one file system, two mounts
            _move_across(source, target, wanted)
        elif error.errno in _NO_SUCH_LINK:
            _rename_over_our_own(source, target)
        else:
            raise
        return
    _drop(source, os.lstat(target))


def _rename_over_our_own(source: bytes, target: bytes) -> None:
    """Create an empty file at `target`, then rename `source` over it.

    Only that empty file is ever replaced. A kill between the two calls leaves it there, and the
    next try finds the name taken.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    ours = os.fstat(descriptor)
    os.close(descriptor)  # some network shares refuse to replace an open file
    if os.lstat(target).st_size:
        raise FileExistsError(errno.EEXIST, "another process wrote to it", target)
    try:
        os.rename(source, target)
    except BaseException:
        with suppress(OSError):
            now = os.lstat(target)
            if not now.st_size and os.path.samestat(now, ours):
                os.unlink(target)
        raise


def _move_across(source: bytes, target: bytes, wanted: Wanted | None = None) -> None:
    """Move to another file system: copy aside, fsync, take the name, then remove the source.

    The temporary name belongs to this film alone and is removed last. After a crash it shows which
    name was taken, so the film is not copied again under another name, nor mixed up with the copy
    of a second worker.
    """
    sighted = os.lstat(source)
    if wanted is not None and not wanted(sighted):
        raise MistakenError(source)
    aside = aside_of(os.path.dirname(target), sighted.st_ino, sighted.st_mtime_ns)
    with open(aside, "ab") as copy:
        fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(aside).st_nlink == 1:  # else a run before a crash gave it its name
            try:
                _copy(source, sighted, copy)
                shutil.copystat(source, aside, follow_symlinks=False)
                os.fsync(copy.fileno())
                _name(aside, target)
            except BaseException:
                os.unlink(aside)
                raise
        elif not (os.path.lexists(target) and os.path.samestat(os.lstat(target), os.stat(aside))):
            raise FileExistsError(errno.EEXIST, "copied already, under another name", target)
        fsync_folder(Path(os.fsdecode(os.path.dirname(target))))
        _drop(source, sighted)
        with suppress(FileNotFoundError):  # without hard links it was renamed
            os.unlink(aside)


def _name(aside: bytes, target: bytes) -> None:
    """Give a copy its final name.

    Without hard links, a kill before the source is removed leaves both files.
    """
    try:
        os.link(aside, target)
    except OSError as error:
        if error.errno not in _NO_SUCH_LINK:
            raise
        _rename_over_our_own(aside, target)


def _drop(source: bytes, sighted: os.stat_result) -> None:
    """Remove a moved file's old name, unless another file has taken that name since."""
    now = os.lstat(source)
    same = (now.st_size, now.st_mtime_ns) == (sighted.st_size, sighted.st_mtime_ns)
    if same and os.path.samestat(now, sighted):
        os.unlink(source)


def aside_of(folder: bytes, inode: int, mtime_ns: int) -> bytes:
    """Return the temporary path a film is copied to before it gets its name."""
    return os.path.join(folder, b".moving-%d-%d" % (inode % (1 << 64), mtime_ns % (1 << 64)))


def _copy(source: bytes, sighted: os.stat_result, copy: BinaryIO) -> None:
    """Copy the film that was seen, and no file that replaced it since."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as original:
        if not os.path.samestat(os.fstat(descriptor), sighted):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), source)
        copy.truncate(0)
        shutil.copyfileobj(original, copy, 1 << 20)
        copy.flush()
