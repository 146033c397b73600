"""A network share's stand-in: a FUSE file system that shows one flat folder.

    python tests/support/fuse.py MOUNT_POINT FOLDER CONTROL

Speaks the kernel's own protocol (linux/fuse.h, 7.31), so that it needs no library; it needs root
and /dev/fuse. What is written into FOLDER beneath it appears at MOUNT_POINT without an event. While
a file `stale` stands in CONTROL, every read fails with ESTALE, and `stale-met` is made. `LETTERS`
in a name beneath is shown as 150 letters of two bytes each: a share counts letters, and takes 255.
"""

# Names of films are bytes, which pathlib does not take.
# ruff: noqa: PTH108, PTH118, PTH208

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

_HEADER = struct.Struct("<IIQQIIIHH")
_ROOT = 1
LETTERS = "Ф" * 150
_LETTERS_BENEATH = b"LETTERS"


class Code(IntEnum):
    """What the kernel asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    UNLINK = 10
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    BATCH_FORGET = 42


_WITHOUT_ANSWER = (Code.FORGET, Code.BATCH_FORGET)


class Share:
    """The file system: a folder of files, without folders in it."""

    def __init__(self, folder: Path, control: Path) -> None:
        """Show `folder`; be told how to fail in `control`."""
        self._folder = os.fsencode(folder)
        self._control = control
        self._names: dict[int, bytes] = {_ROOT: b""}  # by node
        self._nodes: dict[bytes, int] = {b"": _ROOT}

    def answer(  # noqa: C901, PLR0911 - a table of requests
        self, code: int, node: int, body: bytes
    ) -> bytes:
        """Return the answer to a request; an OSError is an answer as well."""
        match code:
            case Code.INIT:
                return struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, 0)
            case Code.LOOKUP:
                name = body.rstrip(b"\0")
                found = os.lstat(self._path(name))
                known = self._nodes.setdefault(name, len(self._names) + 1)
                self._names[known] = name
                return struct.pack("<QQQQII", known, 0, 0, 0, 0, 0) + _attributes(found)
            case Code.GETATTR:
                found = os.lstat(self._path(self._names[node]))
                return struct.pack("<QII", 0, 0, 0) + _attributes(found)
            case Code.UNLINK:
                os.unlink(self._path(body.rstrip(b"\0")))
                return b""
            case Code.OPEN:
                flags = struct.unpack_from("<I", body)[0] & os.O_ACCMODE
                descriptor = os.open(self._path(self._names[node]), flags | os.O_NOFOLLOW)
                return struct.pack("<QII", descriptor, 1, 0)  # direct: what is beneath is true
            case Code.READ:
                return self._read(body)
            case Code.RELEASE:
                os.close(struct.unpack_from("<Q", body)[0])
                return b""
            case Code.OPENDIR:
                return struct.pack("<QII", 0, 0, 0)
            case Code.READDIR:
                return self._list(body)
            case Code.STATFS:
                return struct.pack(
                    "<QQQQQIIII24x", 1 << 20, 1 << 20, 1 << 20, 99, 99, 4096, 255, 4096, 0
                )
            case Code.FLUSH | Code.RELEASEDIR | Code.FSYNCDIR | Code.ACCESS:
                return b""
        raise OSError(errno.ENOSYS, "not known")

    def _path(self, name: bytes) -> bytes:
        beneath = name.replace(LETTERS.encode(), _LETTERS_BENEATH)
        return os.path.join(self._folder, beneath) if name else self._folder

    def _read(self, body: bytes) -> bytes:
        descriptor, offset, size = struct.unpack_from("<QQI", body)
        if (self._control / "stale").exists():
            (self._control / "stale-met").touch()
            raise OSError(errno.ESTALE, "stale")
        return os.pread(descriptor, size, offset)

    def _list(self, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        told = b""
        names = sorted(os.listdir(self._folder))
        for number, beneath in enumerate(names[offset:], start=offset + 1):
            name = beneath.replace(_LETTERS_BENEATH, LETTERS.encode())
            entry = struct.pack("<QQII", number, number, len(name), 0) + name
            entry += bytes(-len(entry) % 8)
            if len(told) + len(entry) > size:
                break
            told += entry
        return told


def _attributes(found: os.stat_result) -> bytes:
    times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    return struct.pack(
        "<6Q10I",
        *(found.st_ino, found.st_size, found.st_blocks),
        *(time // 10**9 for time in times),
        *(time % 10**9 for time in times),
        *(found.st_mode, found.st_nlink, found.st_uid, found.st_gid, 0, 4096, 0),
    )


def main(mount_point: Path, folder: Path, control: Path) -> None:
    """Mount and serve until unmounted or killed."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(mount_point)
    if libc.mount(b"lungwatch-test", target, b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(mount_point))
    print("mounted", flush=True)  # noqa: T201 - whoever started it waits for this
    share = Share(folder, control)
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return  # unmounted
            raise
        _, code, unique, node, _, _, pid, *_ = _HEADER.unpack_from(request)
        if code == Code.READDIR and struct.unpack_from("<QQ", request, _HEADER.size)[1] == 0:
            with (control / "listed-by").open("a", encoding="ascii") as listings:
                listings.write(f"{pid}\n")
        try:
            answer, number = share.answer(code, node, request[_HEADER.size :]), 0
        except OSError as error:
            answer, number = b"", -(error.errno or errno.EIO)
        if code not in _WITHOUT_ANSWER:
            with suppress(FileNotFoundError):  # whoever asked is gone
                os.write(device, struct.pack("<IiQ", 16 + len(answer), number, unique) + answer)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
