"""Events are hints, from real changes; and the watcher knows when it may have missed some."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from driver import wait_for
from watchdog.utils import delayed_queue

import worker.inbox.watcher
from worker.inbox.watcher import Hint, Watcher, file_system_of
from worker.system.filenames import spell

DEADLINE = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder to watch."""
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def woken() -> threading.Event:
    """Return what is set when the watcher wakes whoever waits."""
    return threading.Event()


@pytest.fixture
def watcher(folder: Path, woken: threading.Event) -> Iterator[Watcher]:
    """Yield a watcher that follows the folder."""
    watcher = Watcher(folder, woken.set)
    follow(watcher, folder)
    assert watcher.by_events, "the tests need a local file system"
    yield watcher
    watcher.stop()


def follow(watcher: Watcher, folder: Path) -> bool:
    """Have a watcher follow the folder that stands at its path now."""
    found = folder.stat()
    return watcher.follow((found.st_dev, found.st_ino))


def told(watcher: Watcher, name: str) -> None:
    """Wait until the watcher told of a name."""
    names_until(watcher, name)


def names_until(watcher: Watcher, last: str) -> list[str]:
    """Wait until the watcher told of a name, and return all it told of till then."""
    heard: list[str] = []

    def listen() -> bool:
        heard.extend(hint.name for hint in watcher.hints())
        return last in heard

    wait_for(listen, seconds=DEADLINE, what=last)
    return heard


@pytest.mark.parametrize(
    "arrive",
    [
        lambda path: path.write_bytes(b"copied"),
        lambda path: path.touch(),
        lambda path: os.link(__file__, path) if same_disk(path) else path.touch(),
        lambda path: (
            path.with_name("film.jpg.part").touch() or path.with_name("film.jpg.part").rename(path)
        ),
        lambda path: (
            (path.parent.parent / "outside").touch()
            or (path.parent.parent / "outside").rename(path)
        ),
    ],
    ids=["written", "made", "linked", "renamed", "moved in"],
)
def test_a_film_that_arrives_is_told(
    watcher: Watcher, folder: Path, woken: threading.Event, arrive: Callable[[Path], object]
) -> None:
    """However a film gets into the folder, its name is told and whoever waits is woken."""
    arrive(folder / "film.jpg")
    told(watcher, "film.jpg")
    assert woken.is_set()


@pytest.mark.parametrize("aside", ["outside", "inbox/film.jpg.part"])
def test_a_film_that_is_moved_in_is_whole(watcher: Watcher, folder: Path, aside: str) -> None:
    """Who writes aside and renames is done with it; who writes in place may not be."""
    (folder.parent / aside).touch()
    (folder.parent / aside).rename(folder / "moved.jpg")
    (folder / "made.jpg").touch()
    hints: list[Hint] = []

    def listen() -> bool:
        hints.extend(watcher.hints())
        return "made.jpg" in {hint.name for hint in hints}

    wait_for(listen, seconds=DEADLINE, what="made.jpg")
    assert {hint.whole for hint in hints if hint.name == "moved.jpg"} == {True}
    assert {hint.whole for hint in hints if hint.name == "made.jpg"} == {False}


def test_a_film_that_is_filed_away_delays_no_other(
    watcher: Watcher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is waited for between a film that leaves and the one that comes after it."""
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=waits.append)
    monkeypatch.setattr(delayed_queue, "time", clock)
    for number in range(3):
        (folder / f"film-{number}.jpg").touch()
        told(watcher, f"film-{number}.jpg")
        (folder / f"film-{number}.jpg").rename(folder.parent / f"filed-{number}.jpg")
    assert waits == []


def same_disk(path: Path) -> bool:
    """Whether this file can be linked to a path."""
    return path.parent.stat().st_dev == Path(__file__).stat().st_dev


def test_a_film_that_grows_is_told_again(watcher: Watcher, folder: Path) -> None:
    """More bytes in a film known already are news: its wait may begin again."""
    with (folder / "film.jpg").open("wb", buffering=0) as film:
        told(watcher, "film.jpg")
        film.write(b"more")
        told(watcher, "film.jpg")


def test_names_are_told_once_and_spelt(watcher: Watcher, folder: Path) -> None:
    """A name comes once however many events it had, spelt so that it can be stored."""
    odd = b"scan-\xff\n.jpg"
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + odd))
    for _ in range(50):
        path.write_bytes(b"again")
    (folder / "last.jpg").touch()
    names = names_until(watcher, "last.jpg")
    assert names.count(spell(odd)) < 50
    assert set(names) == {spell(odd), "last.jpg"}


def test_temporary_names_and_folders_are_no_news(watcher: Watcher, folder: Path) -> None:
    """Nothing is told of a name that is passed over, nor of folders and what is in them."""
    (folder / "film.jpg.part").write_bytes(b"half")
    (folder / "deep").mkdir()
    (folder / "deep" / "film.jpg").touch()
    (folder / "last.jpg").touch()
    names = names_until(watcher, "last.jpg")
    assert set(names) == {"last.jpg"}
    assert not watcher.doubts()


def test_following_the_same_folder_is_no_news(watcher: Watcher, folder: Path) -> None:
    """Following what is followed already changes nothing."""
    assert not follow(watcher, folder)


def test_a_folder_made_again_is_followed_anew(watcher: Watcher, folder: Path) -> None:
    """After the inbox was renamed away and made again, films in the new one are told."""
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    assert follow(watcher, folder)
    (folder / "film.jpg").touch()
    told(watcher, "film.jpg")
    (folder.with_name("away") / "elsewhere.jpg").touch()
    (folder / "last.jpg").touch()
    names = names_until(watcher, "last.jpg")
    assert "elsewhere.jpg" not in names


def test_a_folder_that_is_removed_raises_doubt(watcher: Watcher, folder: Path) -> None:
    """When the inbox is deleted, that is told at once, not at the next listing."""
    folder.rmdir()
    wait_for(watcher.doubts, seconds=DEADLINE, what="a doubt about the folder that went")


def test_a_folder_made_again_with_the_same_inode_is_followed(
    watcher: Watcher, folder: Path
) -> None:
    """File systems give a number again at once: what is the same by number is another folder."""
    found = folder.stat()
    identity = (found.st_dev, found.st_ino)
    assert not watcher.follow(identity)
    folder.rmdir()
    wait_for(watcher.doubts, seconds=DEADLINE, what="a doubt about the folder that went")
    folder.mkdir()
    assert watcher.follow(identity)
    assert not watcher.follow(identity)
    (folder / "film.jpg").touch()
    told(watcher, "film.jpg")


def test_a_dead_observer_is_replaced(watcher: Watcher, folder: Path) -> None:
    """If the thread that listens has died, following the same folder is news."""
    assert watcher._observer is not None
    watcher._observer.stop()
    watcher._observer.join()
    assert follow(watcher, folder)
    (folder / "film.jpg").touch()
    told(watcher, "film.jpg")


def test_a_full_queue_raises_doubt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more hints than are kept the inbox is listed instead; a doubt is told once."""
    monkeypatch.setattr(worker.inbox.watcher, "_QUEUE", 3)
    watcher = Watcher(folder, lambda: None)
    follow(watcher, folder)
    try:
        for number in range(10):
            (folder / f"film-{number}.jpg").touch()
        wait_for(watcher.doubts, seconds=DEADLINE, what="a doubt about names that found no room")
        wait_for(lambda: not watcher.doubts(), seconds=DEADLINE)
    finally:
        watcher.stop()


_OVERFLOW = """
import sys, time
from pathlib import Path
from worker.inbox.watcher import Watcher
folder = Path(sys.argv[1])
watcher = Watcher(folder, lambda: None)
found = folder.stat()
watcher.follow((found.st_dev, found.st_ino))
print("watching", flush=True)
deadline = time.monotonic() + 60
while not watcher.doubts():
    assert time.monotonic() < deadline
    time.sleep(0.01)
print("doubt", len(watcher.hints()), flush=True)
watcher.stop()
"""


def test_a_lost_event_raises_doubt(folder: Path) -> None:
    """When the kernel's queue overflows, events are lost, and the watcher says so at once."""
    with subprocess.Popen(
        [sys.executable, "-c", _OVERFLOW, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "watching\n"
        child.send_signal(signal.SIGSTOP)
        most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
        for number in range(most // 2 + 1000):  # each is made and closed: two events
            os.close(os.open(folder / f"{number}.jpg", os.O_CREAT | os.O_WRONLY))
        child.send_signal(signal.SIGCONT)
        out, complaints = child.communicate(timeout=DEADLINE * 3)
    assert out.startswith("doubt")
    assert complaints == "", "what the log says of it is ours to word"


def test_no_watches_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system out of watches leaves the listing, which finds everything: no trouble."""

    class Observer:
        def schedule(self, *_: object, **__: object) -> None:
            raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(worker.inbox.watcher, "_Observer", Observer)
    watcher = Watcher(folder, lambda: None)
    assert follow(watcher, folder)
    assert not watcher.by_events
    assert not follow(watcher, folder)
    watcher.stop()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_no_events_from_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """On a file system whose changes come from elsewhere no events are waited for."""
    monkeypatch.setattr(
        worker.inbox.watcher, "file_system_of", lambda _: kind.split(".", maxsplit=1)[0]
    )
    watcher = Watcher(folder, lambda: None)
    assert follow(watcher, folder)
    assert not watcher.by_events
    watcher.stop()


@pytest.mark.parametrize("path", ["/proc", "/dev/shm", "/sys"])
def test_file_systems_are_known(path: str) -> None:
    """The kind of file system is what the system's own mount table says."""
    wanted = {line.split()[1]: line.split()[2] for line in _mounts()}
    if path not in wanted:
        pytest.skip(f"this machine has nothing mounted at {path}")
    assert file_system_of(Path(path)) == wanted[path]


def _mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()


def test_an_unknown_file_system(tmp_path: Path) -> None:
    """What is not there is on no file system, and that is no trouble."""
    assert file_system_of(tmp_path / "missing") == ""


def test_no_watch_to_be_had_for_a_moment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of watches, a worker lists; it has events once there are some again."""
    watcher = Watcher(folder, lambda: None)

    def none_free(_: object) -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    with monkeypatch.context() as patch:
        patch.setattr(worker.inbox.watcher._Observer, "start", none_free)
        follow(watcher, folder)
        watcher.try_again()
        without = watcher.by_events
    watcher.try_again()
    try:
        (folder / "film.jpg").touch()
        told(watcher, "film.jpg")
        assert (without, watcher.by_events) == (False, True)
    finally:
        watcher.stop()
