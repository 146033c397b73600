"""Small file systems in memory, to be filled up, made read-only, and mounted over things."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_DETACH = 2  # MNT_DETACH: at once, whoever still uses it
_libc = ctypes.CDLL(None, use_errno=True)


class Volume:
    """A mounted file system."""

    def __init__(self, folder: Path) -> None:
        """Know where it is."""
        self.folder = folder
        self._ballast = folder / ".ballast"

    def fill(self) -> None:
        """Leave room for nothing more."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for size in (1 << 16, 1 << 12, 1):
                while _fits(descriptor, size):
                    pass
        finally:
            os.close(descriptor)
        assert os.statvfs(self.folder).f_bavail == 0

    def use_up_names(self) -> None:
        """Leave room for no new file, though there is room for bytes."""
        number = 0
        while os.statvfs(self.folder).f_favail:
            (self.folder / f".ballast-{number}").touch()
            number += 1

    def free(self) -> None:
        """Take away what filled it."""
        for path in self.folder.glob(".ballast*"):
            path.unlink()

    def remount(self, mode: str) -> None:
        """Make it read-only (`ro`), or writable again (`rw`)."""
        subprocess.run(["mount", "-o", f"remount,{mode}", self.folder], check=True)


@contextmanager
def volume(folder: Path, *, options: str = "size=8m") -> Iterator[Volume]:
    """Mount a file system on a folder for as long as the block lasts; skip where none may be."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system to fill up")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "lungwatch-test", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this machine mounts no file system: {done.stderr.strip()}")
    try:
        yield Volume(folder)
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    """Unmount, whoever still has something open there."""
    if _libc.umount2(os.fsencode(folder), _DETACH) and ctypes.get_errno() != errno.EINVAL:
        raise OSError(ctypes.get_errno(), "cannot unmount", str(folder))


def _fits(descriptor: int, size: int) -> bool:
    try:
        return os.write(descriptor, bytes(size)) > 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
