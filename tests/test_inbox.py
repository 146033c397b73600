"""The inbox: what is seen in it, and how its files get where they belong whatever happens."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scans import SHA256

import worker.files
from worker.errors import FilmRefused, FilmStuck, RefusalCode, StorageTrouble
from worker.inbox import Inbox, bytes_of, is_passed_over, spell
from worker.records import Recorded

DAY = "2026-03-04"
FILM = b"\xff\xd8 the bytes of a film"
REFUSAL = FilmRefused(RefusalCode.TOO_SMALL, "The picture is too small.", measured=95, limit=96)


class Libc:
    """A C library whose renameat2 always fails with this error."""

    def __init__(self, number: int) -> None:
        """Fail with this errno."""
        self.number = number

    def renameat2(self, *_: Any) -> int:
        """Fail."""
        ctypes.set_errno(self.number)
        return -1


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    """Return an empty inbox with its folders beside it."""
    (tmp_path / "inbox").mkdir()
    return Inbox(tmp_path / "inbox", archive=tmp_path / "archive", refused=tmp_path / "refused")


@pytest.fixture(params=["rename", "link", "copy", "another disk"])
def any_way(
    request: pytest.FixtureRequest, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inbox]:
    """Yield an inbox in each of the ways that the system can make a file move."""
    elsewhere = None
    match request.param:
        case "link":  # the file system has no rename that does not replace
            monkeypatch.setattr(worker.files, "_libc", Libc(errno.EINVAL))
        case "copy":  # two mounts of one file system
            monkeypatch.setattr(worker.files, "_libc", Libc(errno.EXDEV))
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
        films = {path for path in standing(root / DAY) if not path.endswith(".json")}
        assert films == {(place or "").partition("/")[2]} | taken, f"killed at {instant}"
        assert len(standing(root)) == len(films) * (1 if refusal is None else 2)
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

    for name in ("link", "unlink", "replace", "fsync", "mkdir", "utime"):
        setattr(os, name, counted(getattr(os, name)))
    shutil.copyfileobj = counted(shutil.copyfileobj)
    libc = Libc(0)
    libc.renameat2 = counted(worker.files._libc.renameat2)  # type: ignore[method-assign]
    worker.files._libc = libc  # type: ignore[assignment]


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
        broken.setattr(worker.files, "_libc", Libc(number))
        told = f"archive folder: {os.strerror(number)}"
        with pytest.raises(FilmStuck if number == errno.EACCES else StorageTrouble, match=told):
            inbox.file_away(scan)
    assert standing(inbox.folder) == {"film.jpg": FILM}
    assert inbox.file_away(scan) == f"{DAY}/film.jpg"


def test_a_full_disk_leaves_nothing_behind(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a copy to another disk finds no room, no half of it stays there."""

    def full(_source: Any, copy: Any, _size: int) -> None:
        copy.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(worker.files, "_libc", Libc(errno.EXDEV))
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
    other = Inbox(any_way.folder, archive=any_way.archive, refused=any_way.refused)
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
        away.setattr(worker.files, "_libc", Libc(errno.EXDEV))
        away.setattr(worker.files, "_drop", gone)
        with pytest.raises(StorageTrouble):
            inbox.file_away(scan)
    inbox.folder.rename(share)
    inbox.folder.mkdir()  # what it was mounted over
    assert inbox.file_away(scan) is None
    inbox.folder.rmdir()
    share.rename(inbox.folder)
    monkeypatch.setattr(worker.files, "_libc", Libc(errno.EXDEV))
    assert inbox.file_away(scan) == f"{DAY}/film.jpg"
    assert standing(inbox.folder) == {}
    assert standing(inbox.archive) == {f"{DAY}/film.jpg": FILM}


def test_a_link_put_in_its_place_is_not_followed(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film replaced by a link at the last instant is not copied: nothing outside is read."""
    monkeypatch.setattr(worker.files, "_libc", Libc(errno.EXDEV))
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

    monkeypatch.setattr(worker.files, "fsync_folder", replaced)
    worker.files._move_across(os.fsencode(source), os.fsencode(target))
    assert target.read_bytes() == b"the first"
    assert source.read_bytes() == b"the second"
