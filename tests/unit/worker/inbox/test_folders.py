"""The inbox: what is seen in it, and how its files get where they belong whatever happens."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scans import SHA256

import worker.inbox.folders
import worker.system.files
from worker.errors import FilmRefused, FilmStuck, RefusalCode, StorageTrouble
from worker.inbox.folders import Inbox
from worker.inbox.sidecar import find_why
from worker.system.filenames import bytes_of, is_passed_over, spell
from worker.system.folders import Folders
from worker.types import Recorded, Sighting

DAY = "2026-03-04"
FILM = b"\xff\xd8 the bytes of a film"
REFUSAL = FilmRefused(RefusalCode.TOO_SMALL, "The picture is too small.", measured=95, limit=96)


_LIBC = worker.system.files._libc


class Libc:
    """A C library whose renameat2 always fails with this error."""

    def __init__(self, number: int) -> None:
        """Fail with this errno."""
        self.number = number

    def renameat2(self, _1: int, source: bytes, _2: int, target: bytes, flags: int) -> int:
        """Fail, but for what stays on its mount."""
        same_folder = source.rpartition(b"/")[0] == target.rpartition(b"/")[0]
        if self.number == errno.EXDEV and same_folder:
            return int(_LIBC.renameat2(_1, source, _2, target, flags))
        ctypes.set_errno(self.number)
        return -1


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    """Return an empty inbox with its folders beside it."""
    (tmp_path / "inbox").mkdir()
    return Inbox(
        Folders(
            inbox=tmp_path / "inbox", archive=tmp_path / "archive", refused=tmp_path / "refused"
        )
    )


def _no_second_names(*_: Any, **__: Any) -> None:
    """In the place of `os.link`: as for another's file, or where there are no hard links."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["rename", "link", "no link", "copy", "another disk"])
def any_way(
    request: pytest.FixtureRequest, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inbox]:
    """Yield an inbox in each of the ways that the system can make a file move."""
    elsewhere = None
    match request.param:
        case "link":  # the file system has no rename that does not replace
            monkeypatch.setattr(worker.system.files, "_libc", Libc(errno.EINVAL))
        case "no link":  # nor hard links, or it allows none on another's file
            monkeypatch.setattr(worker.system.files, "_libc", Libc(errno.EINVAL))
            monkeypatch.setattr(os, "link", _no_second_names)
        case "copy":  # two mounts of one file system
            monkeypatch.setattr(worker.system.files, "_libc", Libc(errno.EXDEV))
        case "another disk":
            shm = Path("/dev/shm")
            if not os.access(shm, os.W_OK) or shm.stat().st_dev == inbox.folder.stat().st_dev:
                pytest.skip("this machine has one file system")
            elsewhere = Path(tempfile.mkdtemp(prefix="lungwatch-", dir=shm))
            inbox.archive, inbox.refused = elsewhere / "archive", elsewhere / "refused"
    yield inbox
    if elsewhere is not None:
        shutil.rmtree(elsewhere)


def drop(inbox: Inbox, name: bytes = b"film.jpg", data: bytes = FILM, mtime_ns: int = 0) -> None:
    """Put a file into the inbox."""
    path = Path(os.fsdecode(os.fsencode(inbox.folder) + b"/" + name))
    path.write_bytes(data)
    if mtime_ns:
        os.utime(path, ns=(mtime_ns, mtime_ns))


def recorded(inbox: Inbox, name: bytes = b"film.jpg", **changes: Any) -> Recorded:
    """Return the record of a scan of a file in the inbox."""
    seen = inbox.look(spell(name))
    assert seen is not None
    facts: dict[str, Any] = {
        "scan_id": 17,
        "sighting": seen,
        "day": DAY,
        "sha256": SHA256,
        "refusal": None,
    }
    return Recorded(**(facts | changes))


def standing(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its path in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }


# Names


@given(st.binary())
def test_spelling_is_reversible(name: bytes) -> None:
    """Any bytes at all come back from their spelling, which any database can store."""
    assert bytes_of(spell(name)) == name
    assert spell(name).encode("utf-8").decode("utf-8") == spell(name)


@given(st.binary(), st.binary())
def test_no_two_names_are_spelt_alike(one: bytes, other: bytes) -> None:
    """Different names have different spellings."""
    assert (spell(one) == spell(other)) == (one == other)


@pytest.mark.parametrize("name", ["film.jpg", "röntgen 🩻.jpeg", "a b.JPG", "-rf"])
def test_usual_names_are_spelt_as_they_are(name: str) -> None:
    """A name that a person can read is stored as they know it."""
    assert spell(os.fsencode(name)) == name


TEMPORARY = [
    *(f"film.jpg.{end}" for end in ("part", "partial", "filepart", "crdownload", "download")),
    *(f"film.jpg.{end}" for end in ("tmp", "temp", "swp", "lock", "opdownload", "PART", "Tmp")),
    *("film.jpg~", "#film.jpg#", "~film.jpg", "~$film.jpg", ".film.jpg", ".film.jpg.Xy12", "."),
    *("Thumbs.db", "desktop.ini", ".DS_Store", ".nfs0000", ".fuse_hidden1"),
]
FILMS = [
    *("film.jpg", "film.JPEG", "film", "film.jpg.1", "part.jpg", "temp.jpeg", "tmp", "a.partly"),
    *("film.part.jpg", "film~1.jpg", "a#b.jpg", "thumbs.db.jpg", "film.jpg.part\n", "x~\n", "-a"),
]


@pytest.mark.parametrize(
    ("name", "temporary"),
    [*((name, True) for name in TEMPORARY), *((name, False) for name in FILMS)],
)
def test_temporary_names_are_passed_over(inbox: Inbox, name: str, temporary: bool) -> None:  # noqa: FBT001
    """A name that something is still writing to is no film yet; any other is listed."""
    assert is_passed_over(name) == temporary
    if name != ".":
        drop(inbox, os.fsencode(name))
        assert list(inbox.names()) == ([] if temporary else [name])
        assert inbox.others == ({"temporary": 1} if temporary else {})


# Looking


def test_look_at_a_file(inbox: Inbox) -> None:
    """A file is seen with its size, its time to the nanosecond, and its inode."""
    drop(inbox, mtime_ns=1_700_000_000_123_456_789)
    seen = inbox.look("film.jpg")
    found = (inbox.folder / "film.jpg").stat()
    assert seen is not None
    assert (seen.size_bytes, seen.mtime_ns, seen.inode) == (
        len(FILM),
        1_700_000_000_123_456_789,
        found.st_ino,
    )


def make_special(inbox: Inbox) -> dict[str, Callable[[Path], Any]]:
    """Return what else than a film can stand under a film's name, and how it gets there."""
    outside = inbox.folder.parent / "outside.jpg"
    outside.write_bytes(FILM)
    bound = socket.socket(socket.AF_UNIX)

    def listen(path: Path) -> None:
        with bound:
            bound.bind(str(path))

    return {
        "link": lambda path: path.symlink_to(outside),
        "dangling": lambda path: path.symlink_to("nowhere"),
        "loop": lambda path: path.symlink_to(path),
        "fifo": os.mkfifo,
        "socket": listen,
        "folder": lambda path: path.mkdir(),
    }


def test_only_files_are_seen(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, FIFOs, sockets and folders are no films whatever their names; they are counted."""
    makers = make_special(inbox)
    monkeypatch.chdir(inbox.folder)  # a socket's path may be no longer than 107 bytes
    for name, make in makers.items():
        make(Path(f"{name}.jpg"))
        assert inbox.look(f"{name}.jpg") is None
    assert inbox.look("missing.jpg") is None
    assert list(inbox.names()) == []
    assert inbox.others == {"link": 3, "special": 2, "folder": 1}


def test_a_hard_link_is_a_film(inbox: Inbox) -> None:
    """A second name of one file is a film like any other."""
    drop(inbox)
    (inbox.folder / "again.jpg").hardlink_to(inbox.folder / "film.jpg")
    assert replace(recorded(inbox).sighting, name="again.jpg") == inbox.look("again.jpg")


def test_an_inbox_that_is_gone(inbox: Inbox) -> None:
    """A missing inbox is trouble of our own, and is known again by its identity."""
    before = inbox.identity()
    inbox.folder.rename(inbox.folder.with_name("away"))
    with pytest.raises(StorageTrouble, match="cannot be reached"):
        inbox.identity()
    with pytest.raises(StorageTrouble, match="cannot be listed"):
        list(inbox.names())
    inbox.folder.mkdir()
    assert inbox.identity() != before


# Filing away


def test_an_archived_film(any_way: Inbox) -> None:
    """A screened film lies in the archive under its day and its name, as it was, its time too."""
    drop(any_way, mtime_ns=1_600_000_000_987_654_321)
    mode = (any_way.folder / "film.jpg").stat().st_mode
    assert any_way.file_away(recorded(any_way)) == f"{DAY}/film.jpg"
    any_way.make_durable({DAY})
    place = any_way.archive / DAY / "film.jpg"
    assert standing(any_way.archive) == {f"{DAY}/film.jpg": FILM}
    assert place.stat().st_mtime_ns == 1_600_000_000_987_654_321
    assert place.stat().st_mode == mode
    assert standing(any_way.folder) == {}


def test_a_refused_film(any_way: Inbox) -> None:
    """A refused film lies beside a JSON that says why, and that holds no more than its row."""
    drop(any_way)
    scan = recorded(any_way, refusal=REFUSAL)
    assert any_way.file_away(scan) == f"{DAY}/film.jpg"
    found = standing(any_way.refused)
    why = json.loads(found.pop(f"{DAY}/film.jpg.json"))
    assert found == {f"{DAY}/film.jpg": FILM}
    assert why == {
        "scan_id": scan.scan_id,
        "file_name": "film.jpg",
        "sha256": SHA256,
        "refusal_code": "too_small",
        "sentence": REFUSAL.sentence,
        "measured": "95",
        "limit": "96",
        "what_to_do": RefusalCode.TOO_SMALL.meaning,
    }


def test_another_film_by_the_name_of_the_json(
    any_way: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film that is filed as `film.jpg.json` while that JSON goes to the disk is not replaced."""
    drop(any_way)
    (any_way.folder / "film.jpg.json").write_bytes(b"another film")
    other = recorded(any_way, b"film.jpg.json", refusal=REFUSAL, scan_id=18)
    sync = os.fsync

    def file_the_other(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        assert any_way.file_away(other) == f"{DAY}/film.jpg.json"
        sync(descriptor)

    scan = recorded(any_way, refusal=REFUSAL)
    monkeypatch.setattr(os, "fsync", file_the_other)
    assert any_way.file_away(scan) == f"{DAY}/film.jpg"
    found = standing(any_way.refused)
    assert found[f"{DAY}/film.jpg.json"] == b"another film"
    assert len(found) == 4
    assert find_why(any_way.refused / DAY, b"film.jpg", scan.scan_id)


def test_a_huge_film_by_the_name_of_the_json(any_way: Inbox) -> None:
    """What stands under the JSON's name is never read whole: it may be larger than the memory."""
    drop(any_way)
    day = any_way.refused / DAY
    day.mkdir(parents=True)
    with (day / "film.jpg.json").open("wb") as huge:
        huge.truncate(1 << 40)
    scan = recorded(any_way, refusal=REFUSAL)
    assert any_way.file_away(scan) == f"{DAY}/film.jpg"
    why = find_why(day, b"film.jpg", scan.scan_id)
    assert why == day / f"film.jpg.{scan.scan_id}.json"


def test_the_json_behind_a_strangers(any_way: Inbox) -> None:
    """It is found by its number, also once the file that had its plain name has gone."""
    drop(any_way)
    day = any_way.refused / DAY
    day.mkdir(parents=True)
    (day / "film.jpg.json").mkdir()
    scan = recorded(any_way, refusal=REFUSAL)
    any_way.file_away(scan)
    for _ in range(2):
        why = find_why(day, b"film.jpg", scan.scan_id)
        assert why == day / f"film.jpg.{scan.scan_id}.json"
        if (day / "film.jpg.json").exists():
            (day / "film.jpg.json").rmdir()


@pytest.mark.parametrize(
    "data", [b'{"scan_id": 17, "mine": "of another program"}', b"[" * 60_000, b"17", b""]
)
def test_what_only_looks_like_the_json(any_way: Inbox, data: bytes) -> None:
    """A file that some other program left beside a film is not taken for what we wrote."""
    day = any_way.refused / DAY
    day.mkdir(parents=True)
    (day / "film.jpg.json").write_bytes(data)
    assert find_why(day, b"film.jpg", 17) is None


@pytest.mark.parametrize("refusal", [None, REFUSAL])
@pytest.mark.parametrize(
    "name",
    [
        b"film.jpg",
        b"film",
        b"x" * 251 + b".jpg",
        b"x." + b"y" * 253,
        b"\xff" * 255,
        b"two\nlines.jpg",
        b"-rf",
        b"film.json",
    ],
    ids=lambda name: ascii(name)[:20] if isinstance(name, bytes) else None,
)
def test_nothing_is_overwritten(any_way: Inbox, name: bytes, refusal: FilmRefused | None) -> None:
    """Films of one name all find a place, however long it is and whatever stands there already."""
    root = any_way.archive if refusal is None else any_way.refused
    day = root / DAY
    day.mkdir(parents=True)
    for other in (name, name[:224] + b".json"):
        (day / os.fsdecode(other)).write_bytes(b"another's")
    before = standing(day)
    places = {}
    numbers = (17, 17, 17) if refusal is None else (17, 18, 19)  # a number may be taken as well
    for again, number in enumerate(numbers):
        drop(any_way, name, b"film %d" % again)
        place = any_way.file_away(recorded(any_way, name, refusal=refusal, scan_id=number))
        assert place is not None
        places[place.partition("/")[2]] = b"film %d" % again
    found = standing(day)
    assert len(places) == 3
    assert places.items() <= {spell(os.fsencode(at)): data for at, data in found.items()}.items()
    assert before.items() <= found.items()
    assert len(found) == len(before) + (3 if refusal is None else 6)
    assert standing(any_way.folder) == {}


def test_a_disk_that_gives_a_file_the_time_of_its_move(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film that got another time with its place is the same film, and stays in its place."""

    class Touching(Libc):
        def renameat2(self, _1: int, source: bytes, _2: int, target: bytes, flags: int) -> int:
            done = int(_LIBC.renameat2(_1, source, _2, target, flags))
            if done == 0:
                os.utime(target, ns=(7, 7))
            return done

    monkeypatch.setattr(worker.system.files, "_libc", Touching(0))
    drop(inbox)
    assert inbox.file_away(recorded(inbox)) == f"{DAY}/film.jpg"
    assert standing(inbox.archive) == {f"{DAY}/film.jpg": FILM}


def test_a_share_that_lies_on_two_disks(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the server knows that a folder is on another disk, films are copied too."""
    link = os.link

    def across(source: bytes, target: bytes, **options: Any) -> None:
        if source.rpartition(b"/")[0] != target.rpartition(b"/")[0]:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target, **options)

    monkeypatch.setattr(worker.system.files, "_libc", Libc(errno.EINVAL))
    monkeypatch.setattr(os, "link", across)
    drop(inbox)
    assert inbox.file_away(recorded(inbox)) == f"{DAY}/film.jpg"
    assert standing(inbox.archive) == {f"{DAY}/film.jpg": FILM}
    assert standing(inbox.folder) == {}


@pytest.mark.parametrize("size_bytes", [100 << 30, 100 << 20], ids=["any disk", "this disk"])
def test_what_is_too_large_to_copy(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    """It stays in the inbox: nobody waits for a copy of gigabytes, or finds the disk full of it."""
    monkeypatch.setattr(worker.system.files, "_libc", Libc(errno.EXDEV))
    free = SimpleNamespace(f_bavail=64 << 20, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    drop(inbox)
    with (inbox.folder / "film.jpg").open("r+b") as film:
        film.truncate(size_bytes)
    scan = recorded(inbox, refusal=REFUSAL)
    with pytest.raises(FilmStuck, match="too many to copy"):
        inbox.file_away(scan)
    assert standing(inbox.refused) == {}
    drop(inbox, b"other.jpg")
    assert inbox.file_away(recorded(inbox, b"other.jpg", refusal=REFUSAL)) == f"{DAY}/other.jpg"
    free.f_bavail = 1 << 20  # and where there is no room for anything, that is our own trouble
    if size_bytes < 1 << 30:
        monkeypatch.setattr(worker.system.files, "_copy", _no_room)
        with pytest.raises(StorageTrouble, match="No space left"):
            inbox.file_away(scan)


def _no_room(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("refusal", [None, REFUSAL])
@pytest.mark.parametrize("again", [False, True], ids=["", "and another that one's"])
def test_a_film_that_takes_the_name_of_one_that_is_filed(
    any_way: Inbox,
    refusal: FilmRefused | None,
    again: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is never filed as the other, whose result it has no part in: it stays to be screened."""
    drop(any_way)
    scan = recorded(any_way, refusal=refusal)
    look, lstat = any_way.look, os.lstat

    def look_then_replace(name: str) -> Sighting | None:
        found = look(name)
        drop(any_way, data=b"another film")
        return found

    def stat_then_drop(path: Any) -> os.stat_result:
        found = lstat(path)
        if again and not standing(any_way.folder):
            drop(any_way, data=b"a third")
        return found

    monkeypatch.setattr(any_way, "look", look_then_replace)
    monkeypatch.setattr(os, "lstat", stat_then_drop)
    assert any_way.file_away(scan) is None
    monkeypatch.undo()
    found = standing(any_way.folder)
    assert found["film.jpg"] in (b"another film", b"a third")
    assert b"another film" in found.values()
    assert standing(any_way.archive) == standing(any_way.refused) == {}


@pytest.mark.parametrize("refusal", [None, REFUSAL])
@pytest.mark.parametrize("twin", [False, True])
def test_a_crash_at_any_instant(any_way: Inbox, refusal: FilmRefused | None, twin: bool) -> None:  # noqa: FBT001
    """After a kill before any one call, filing again finishes the job: one film, one place.

    A twin, an earlier film of the same name, bytes and time, is not taken for it.
    """
    root = any_way.archive if refusal is None else any_way.refused
    taken = {"film.jpg"} if twin else set()
    for instant in range(1, 30):
        shutil.rmtree(root, ignore_errors=True)
        if twin:
            drop(any_way, mtime_ns=10**18)
            any_way.file_away(recorded(any_way, scan_id=5, refusal=refusal))
        drop(any_way, mtime_ns=10**18)
        scan = recorded(any_way, refusal=refusal)
        died = dies_at(instant, lambda: any_way.file_away(scan))  # noqa: B023 - called at once
        place = any_way.file_away(scan)
        assert any_way.file_away(scan) == place, "filed once, it stays where it is"
        found = {path: data for path, data in standing(root / DAY).items() if data}
        films = {path for path in found if not path.endswith(".json")}
        assert films == {(place or "").partition("/")[2]} | taken, f"killed at {instant}"
        assert len(found) == len(films) * (1 if refusal is None else 2)
        empty = len(standing(root)) - len(found)  # a name that it had taken when it was killed
        assert empty <= (died and os.link is _no_second_names)
        assert set(standing(root / DAY).values()) >= {FILM}
        assert standing(any_way.folder) == {}
        if not died:
            assert instant > 1
            return
    pytest.fail("it never ran to its end")


def dies_at(instant: int, action: Callable[[], Any]) -> bool:
    """Do something in a child that is killed before its n-th call of those that change a disk.

    Returns:
        Whether it came so far.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child does nothing but this
        child = os.fork()
    if child == 0:
        try:
            _die_at(instant)
            action()
        except BaseException:  # noqa: BLE001 - it must not come back into the tests
            os._exit(3)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def _die_at(instant: int) -> None:
    """Arrange for this process to end before its n-th call of those that change a disk."""
    calls = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == instant:
                os._exit(9)
            return call(*args, **kwargs)

        return wrapped

    for name in ("link", "unlink", "rename", "replace", "fsync", "mkdir", "utime"):
        setattr(os, name, counted(getattr(os, name)))
    shutil.copyfileobj = counted(shutil.copyfileobj)
    libc = Libc(0)
    libc.renameat2 = counted(worker.system.files._libc.renameat2)  # type: ignore[method-assign]
    worker.system.files._libc = libc  # type: ignore[assignment]


@pytest.mark.parametrize(
    "number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK], ids=errno.errorcode.get
)
@pytest.mark.parametrize("way", [errno.EINVAL, errno.EXDEV], ids=errno.errorcode.get)
def test_a_disk_without_second_names(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, way: int, number: int
) -> None:
    """Where a file can have no second name films are filed all the same, and none replaced."""

    def link(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(worker.system.files, "_libc", Libc(way))
    monkeypatch.setattr(os, "link", link)
    for scan_id in (17, 18):
        drop(inbox, data=b"film %d" % scan_id)
        assert inbox.file_away(recorded(inbox, scan_id=scan_id)) is not None
    filed = {f"{DAY}/film.jpg": b"film 17", f"{DAY}/film.18.jpg": b"film 18"}
    assert standing(inbox.archive) == filed
    assert standing(inbox.folder) == {}


def test_a_name_taken_for_a_move_that_fails_is_free_again(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No empty file stays behind, and what another put there in the meantime does."""
    monkeypatch.setattr(worker.system.files, "_libc", Libc(errno.EINVAL))
    monkeypatch.setattr(os, "link", _no_second_names)
    drop(inbox)
    scan = recorded(inbox)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", full)
        with pytest.raises(StorageTrouble, match="No space left"):
            inbox.file_away(scan)
    assert standing(inbox.archive) == {}
    close = os.close
    written: list[int] = []

    def close_then_write(descriptor: int) -> None:
        close(descriptor)
        place = inbox.archive / DAY / "film.jpg"
        if not written and place.exists():
            written.append(place.write_bytes(b"another's"))

    monkeypatch.setattr(os, "close", close_then_write)
    assert inbox.file_away(scan) == f"{DAY}/film.17.jpg"
    filed = {f"{DAY}/film.jpg": b"another's", f"{DAY}/film.17.jpg": FILM}
    assert standing(inbox.archive) == filed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
def test_a_film_of_another_user_where_links_to_it_are_forbidden(tmp_path: Path) -> None:
    """On a share without the rename that does not replace, another's film is archived as any."""
    protected = Path("/proc/sys/fs/protected_hardlinks")
    if not protected.exists() or protected.read_text(encoding="ascii").strip() != "1":
        pytest.skip("this machine does not forbid links to another user's file")
    for name in ("inbox", "archive", "refused"):
        (tmp_path / name).mkdir()
    film = tmp_path / "inbox" / "film.jpg"
    film.write_bytes(FILM)
    film.chmod(0o644)
    os.chown(film, 65534, 65534)
    script = tmp_path / "file.py"
    script.write_text(_FILE_AS_ON_NFS, encoding="utf-8")
    wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    if shutil.which(wrapper[0]) is None:
        pytest.skip("setpriv is not installed, to take root's rights away")
    repository = Path(__file__).resolve().parents[4]
    done = subprocess.run(
        [*wrapper, sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "2026-03-04/film.jpg\n", done.stderr
    assert standing(tmp_path / "archive") == {"2026-03-04/film.jpg": FILM}
    assert standing(tmp_path / "inbox") == {}


_FILE_AS_ON_NFS = """
import ctypes, errno
from pathlib import Path
import worker.system.files
from worker.inbox.folders import Inbox
from worker.system.folders import Folders
from worker.types import Recorded

class Nfs:
    def renameat2(self, *_):
        ctypes.set_errno(errno.EINVAL)
        return -1

worker.system.files._libc = Nfs()
inbox = Inbox(Folders(inbox=Path("inbox"), archive=Path("archive"), refused=Path("refused")))
seen = inbox.look("film.jpg")
print(inbox.file_away(
    Recorded(scan_id=1, sighting=seen, day="2026-03-04", sha256=None, refusal=None)
))
"""


def test_a_film_that_vanished(any_way: Inbox) -> None:
    """A film that someone took away before it was filed is nowhere, and no trouble."""
    drop(any_way)
    scan = recorded(any_way, refusal=REFUSAL)
    (any_way.folder / "film.jpg").unlink()
    assert any_way.file_away(scan) is None
    assert standing(any_way.refused) == {}


def test_a_film_that_was_replaced(any_way: Inbox) -> None:
    """Another film that now has its name is not taken for it, and stays to be screened."""
    drop(any_way)
    scan = recorded(any_way)
    (any_way.folder / "film.jpg").unlink()
    drop(any_way, data=b"a newer film")
    assert any_way.file_away(scan) is None
    assert standing(any_way.folder) == {"film.jpg": b"a newer film"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
def test_a_move_that_fails_is_tried_again(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A full, broken or closed disk is trouble of our own; the film stays until it is over."""
    drop(inbox)
    scan = recorded(inbox)
    with monkeypatch.context() as broken:
        broken.setattr(worker.system.files, "_libc", Libc(number))
        told = f"archive folder: {os.strerror(number)}"
        with pytest.raises(FilmStuck if number == errno.EACCES else StorageTrouble, match=told):
            inbox.file_away(scan)
    assert standing(inbox.folder) == {"film.jpg": FILM}
    assert inbox.file_away(scan) == f"{DAY}/film.jpg"


@pytest.mark.parametrize("letter", ["Ф", "雪", "🩻"])
def test_a_long_name_is_cut_between_letters(inbox: Inbox, letter: str) -> None:
    """Where a name must be cut to take a number, no letter is halved, and the ending stays."""
    size = len(letter.encode())
    for padding in range(size):
        name = b"x" * padding + letter.encode() * ((251 - padding) // size) + b".jpg"
        for scan_id in (17 + 2 * padding, 18 + 2 * padding):
            drop(inbox, name)
            place = inbox.file_away(recorded(inbox, name, scan_id=scan_id))
            assert place is not None
            assert "\\x" not in place, "it is UTF-8 still"
            assert place.endswith(".jpg")
            assert len(place.partition("/")[2].encode()) > 230
    assert len(standing(inbox.archive)) == 2 * size


@pytest.mark.parametrize("refusal", [None, REFUSAL])
@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL])
@pytest.mark.parametrize("name", [b"a: b\xff.jpg", b"film" * 50 + b".jpg", b"\xff" * 255])
def test_a_name_that_the_folder_cannot_hold(
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
    name: bytes,
    number: int,
    refusal: FilmRefused | None,
) -> None:
    """Too long, or with letters that its file system has not: the film gets a plain name."""
    root = inbox.archive if refusal is None else inbox.refused
    _holds_plain_names(monkeypatch, root, number)
    drop(inbox, name)
    scan = recorded(inbox, name, refusal=refusal)
    place = inbox.file_away(scan)
    extension = ".jpg" if name.endswith(b".jpg") else ""
    assert place == f"{DAY}/scan-17{extension}"
    assert inbox.file_away(scan) == place, "filed once, it stays where it is"
    found = standing(root / DAY)
    assert found.pop(f"scan-17{extension}") == FILM
    assert list(found) == ([] if refusal is None else [f"scan-17{extension}.json"])
    assert standing(inbox.folder) == {}
    if refusal is not None:
        assert find_why(root / DAY, f"scan-17{extension}".encode(), 17)


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL])
def test_a_folder_that_holds_no_name_for_a_film(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """If not even a plain name will do it is this film that is stuck, and no other."""

    def none_will_do(source: bytes, target: bytes, **_: Any) -> None:
        raise OSError(number, os.strerror(number), source, None, target)

    monkeypatch.setattr(worker.inbox.folders, "move", none_will_do)
    drop(inbox)
    with pytest.raises(FilmStuck, match="no name is free"):
        inbox.file_away(recorded(inbox))
    assert standing(inbox.folder) == {"film.jpg": FILM}


def _holds_plain_names(monkeypatch: pytest.MonkeyPatch, root: Path, number: int) -> None:
    """Have a folder refuse names that are long or not plain, as other systems' disks do."""

    def checked(path: Any) -> None:
        name = os.fsencode(path).rpartition(b"/")[2]
        below = os.fsencode(path).startswith(os.fsencode(root))
        if below and (len(name) > 100 or re.search(rb"[^-.0-9A-Za-z]", name)):
            raise OSError(number, os.strerror(number), path)

    def move(source: bytes, target: bytes, **wanted: Any) -> None:
        checked(target)
        worker.system.files.move(source, target, **wanted)

    def stat(path: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int):
            checked(path)
        return real(path, **options)

    real = os.stat
    monkeypatch.setattr(worker.inbox.folders, "move", move)
    monkeypatch.setattr(os, "stat", stat)


def test_a_full_disk_leaves_nothing_behind(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a copy to another disk finds no room, no half of it stays there."""

    def full(_source: Any, copy: Any, _size: int) -> None:
        copy.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(worker.system.files, "_libc", Libc(errno.EXDEV))
    monkeypatch.setattr(shutil, "copyfileobj", full)
    drop(inbox)
    with pytest.raises(StorageTrouble, match="No space left"):
        inbox.file_away(recorded(inbox))
    assert standing(inbox.archive) == {}
    assert standing(inbox.folder) == {"film.jpg": FILM}


def test_two_workers_copy_the_same_film(any_way: Inbox) -> None:
    """Two workers that finish the same film's filing leave one film in one place."""
    drop(any_way)
    scan = recorded(any_way)
    first = any_way.file_away(scan)
    other = Inbox(Folders(inbox=any_way.folder, archive=any_way.archive, refused=any_way.refused))
    assert other.file_away(scan) == first
    assert standing(any_way.archive) == {f"{DAY}/film.jpg": FILM}


def test_a_share_that_goes_away_before_its_film_is_dropped(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied, and the share gone before the source is: an empty mount point does not say it went.

    Were it taken for filed, the film would be there again with the share, and screened twice.
    """
    drop(inbox)
    scan, share = recorded(inbox), inbox.folder.with_name("share")

    def gone(*_: Any) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    with monkeypatch.context() as away:
        away.setattr(worker.system.files, "_libc", Libc(errno.EXDEV))
        away.setattr(worker.system.files, "_drop", gone)
        with pytest.raises(StorageTrouble):
            inbox.file_away(scan)
    inbox.folder.rename(share)
    inbox.folder.mkdir()  # what it was mounted over
    assert inbox.file_away(scan) is None
    inbox.folder.rmdir()
    share.rename(inbox.folder)
    monkeypatch.setattr(worker.system.files, "_libc", Libc(errno.EXDEV))
    assert inbox.file_away(scan) == f"{DAY}/film.jpg"
    assert standing(inbox.folder) == {}
    assert standing(inbox.archive) == {f"{DAY}/film.jpg": FILM}


def test_a_link_put_in_its_place_is_not_followed(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film replaced by a link at the last instant is not copied: nothing outside is read."""
    monkeypatch.setattr(worker.system.files, "_libc", Libc(errno.EXDEV))
    drop(inbox)
    scan = recorded(inbox)
    secret = inbox.folder.parent / "secret"
    secret.write_bytes(b"not yours")
    film, lstat = inbox.folder / "film.jpg", os.lstat

    def lstat_then_swap(path: Any, **kwargs: Any) -> os.stat_result:
        found = lstat(path, **kwargs)
        if os.fsencode(path) == os.fsencode(film):
            film.unlink()
            film.symlink_to(secret)
        return found

    monkeypatch.setattr(os, "lstat", lstat_then_swap)
    with pytest.raises(StorageTrouble):
        inbox.file_away(scan)
    assert standing(inbox.archive) == {}
    assert film.is_symlink()


def test_folders_of_a_day_are_made_durable_once_there(inbox: Inbox) -> None:
    """A day that saw only predictions needs no refused folder to be durable."""
    drop(inbox)
    inbox.file_away(recorded(inbox))
    inbox.make_durable({DAY})
    assert not inbox.refused.exists()
    inbox.archive.rename(inbox.archive.with_name("away"))
    inbox.folder.rmdir()
    with pytest.raises(StorageTrouble, match="durable"):
        inbox.make_durable({DAY})


# Bringing back


def test_a_refused_film_comes_back(any_way: Inbox) -> None:
    """A refused film can be moved back into the inbox under the name that it came with."""
    drop(any_way, b"scan-\xff.jpg")
    scan = recorded(any_way, b"scan-\xff.jpg", refusal=REFUSAL)
    place = any_way.file_away(scan)
    assert place is not None
    assert any_way.bring_back(place, scan.sighting.name, scan.scan_id) is None
    assert inbox_names(any_way) == [b"scan-\xff.jpg"]
    drop(any_way, b"scan-\xff.jpg", b"newer")
    assert any_way.bring_back(place, scan.sighting.name, scan.scan_id) == (
        "its file is no longer in the refused folder"
    )


def test_a_film_that_comes_back_replaces_none(any_way: Inbox) -> None:
    """If its name is taken in the inbox, a film comes back under one like it."""
    drop(any_way)
    scan = recorded(any_way, refusal=REFUSAL)
    place = any_way.file_away(scan)
    assert place is not None
    drop(any_way, data=b"newer")
    assert any_way.bring_back(place, "film.jpg", scan.scan_id) is None
    assert standing(any_way.folder) == {"film.jpg": b"newer", "film.17.jpg": FILM}


def inbox_names(inbox: Inbox) -> list[bytes]:
    """Return the names in the inbox as bytes."""
    return sorted(os.fsencode(path.name) for path in inbox.folder.iterdir())


def test_a_film_that_takes_the_name_in_mid_copy_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a film is copied to another disk another takes its name: that one is not dropped."""
    inbox, archive = tmp_path / "inbox", tmp_path / "archive"
    for folder in (inbox, archive):
        folder.mkdir()
    source, target = inbox / "film.jpg", archive / "film.jpg"
    source.write_bytes(b"the first")

    def replaced(_folder: Path) -> None:
        (tmp_path / "upload").write_bytes(b"the second")
        (tmp_path / "upload").rename(source)

    monkeypatch.setattr(worker.system.files, "fsync_folder", replaced)
    worker.system.files._move_across(os.fsencode(source), os.fsencode(target))
    assert target.read_bytes() == b"the first"
    assert source.read_bytes() == b"the second"
