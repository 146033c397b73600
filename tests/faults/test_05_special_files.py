"""What is no film, films of any name and date, and films that may not be read yet."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import films
import pytest
from driver import Site, wait_for, without_rights
from swaps import report
from trials import Trial

from worker.system.filenames import spell


def test_what_is_no_film_is_left_alone(site: Site, trial: Trial, tmp_path: Path) -> None:
    """Folders, links, FIFOs, sockets and temporary names are never opened, and never in the way."""
    outside = tmp_path / "outside.jpeg"
    (outside_film,) = films.batch(1, seed=5).values()
    outside.write_bytes(outside_film)
    (site.inbox / "folder.jpg").mkdir()
    (site.inbox / "folder.jpg" / "inside.jpeg").write_bytes(outside_film)
    (site.inbox / "link.jpg").symlink_to(outside)
    os.mkfifo(site.inbox / "fifo.jpg")
    listener = socket.socket(socket.AF_UNIX)
    home = Path.cwd()
    os.chdir(site.inbox)  # a socket's path must be short
    try:
        listener.bind("socket.jpg")
    finally:
        os.chdir(home)
    (site.inbox / "upload.jpg.part").write_bytes(outside_film)
    (site.inbox / ".hidden.jpg").write_bytes(outside_film)
    before = {path.name: path.lstat().st_mode for path in site.inbox.iterdir()}
    sound = films.batch(3)
    site.drop(sound)
    site.call("run", "--once")
    listener.close()
    assert {row["file_name"] for row in site.results()} == set(sound)
    assert {path.name: path.lstat().st_mode for path in site.inbox.iterdir()} == before
    assert stat.S_ISLNK(before["link.jpg"])
    assert outside.read_bytes() == outside_film
    for name, mode in before.items():
        if stat.S_ISDIR(mode):
            shutil.rmtree(site.inbox / name)
        else:
            (site.inbox / name).unlink()
    trial.end(site, sound)


def test_names_of_any_bytes(site: Site, trial: Trial) -> None:
    """A film's name may be any bytes: it is answered, archived under them, and shown escaped."""
    names = [
        b"latin-\xe9.jpg",
        b"-rf.jpg",
        b"new\nline.jpg",
        b"n" * 251 + b".jpg",
        "雪.jpg".encode(),
    ]
    everything = {}
    for name, data in zip(names, films.batch(len(names)).values(), strict=True):
        everything[spell(name)] = data
        (Path(os.fsdecode(os.fsencode(site.inbox) + b"/" + name))).write_bytes(data)
    site.call("run", "--once")
    (day,) = site.archive.iterdir()
    assert sorted(os.fsencode(path.name) for path in day.iterdir()) == sorted(names)
    table = site.call("results").stdout
    assert r"latin-\xe9.jpg" in table.replace("\\\\", "\\")
    assert "new\nline" not in table
    assert {row["file_name"] for row in site.results()} == everything.keys()
    trial.rounds, trial.films = 1, len(names)


def test_a_film_with_an_odd_date_is_a_film(any_site: Site, trial: Trial) -> None:
    """A date centuries off, from a broken clock, neither ends the worker nor holds up others."""
    three = films.batch(3)
    any_site.drop(three)
    odd = any_site.inbox / next(iter(three))
    os.utime(odd, ns=(0, 2**63 + 10**9))
    if odd.stat().st_mtime_ns < 2**63:
        pytest.skip("this machine's file system holds no such date")
    any_site.call("run", "--once")
    trial.end(any_site, three)


def test_a_film_that_may_not_be_read_yet(site: Site, trial: Trial) -> None:
    """A film without its right to be read is waited for, and screened when it has it."""
    site.settings |= {"SCREENERS": "1"}
    everything = films.small_batch(4)
    locked = list(everything)[:2]
    site.drop(everything)
    for name in locked:
        (site.inbox / name).chmod(0)
    site.start(wrapper=without_rights())
    wait_for(lambda: report(site).get("unreadable") == len(locked), what="it says so")
    assert {row["file_name"] for row in site.results()} == everything.keys() - set(locked)
    with trial.recovery():
        for name in locked:
            (site.inbox / name).chmod(0o600)
        site.wait_until_finished(len(everything))
    trial.end(site, everything)


@pytest.mark.parametrize(
    "folder",
    ["refused", *(pytest.param(name, marks=pytest.mark.slow) for name in ("archive", "inbox"))],
)
def test_a_folder_that_may_not_be_written(site: Site, trial: Trial, folder: str) -> None:
    """Rights lost on a folder are trouble of our own, and over when they are given back."""
    site.settings |= {"SCREENERS": "1"}
    site.call("check")
    place = site.root / folder
    everything = films.small_batch(3) | {"bad.jpg": films.bad_films()["hole"].data}
    site.drop(everything)
    place.chmod(0o500)
    site.start(wrapper=without_rights())
    try:
        wait_for(lambda: "storage" in str(report(site).get("trouble")), what="it says so")
        assert site.finished() < len(everything)
    finally:
        place.chmod(0o700)
    with trial.recovery():
        site.wait_until_finished(len(everything))
    trial.end(site, everything)


def test_an_inbox_that_may_be_listed_but_not_entered(site: Site, trial: Trial) -> None:
    """Rights that show films and let none be looked at are trouble, told of, and no quiet end."""
    site.settings |= {"SCREENERS": "1"}
    everything = films.small_batch(3)
    site.drop(everything)
    site.inbox.chmod(0o600)
    try:
        once = site.start("--once", wrapper=without_rights())
        assert once.wait(120) == 1, "it left every film unseen"
        site.start(wrapper=without_rights())
        wait_for(lambda: "storage" in str(report(site).get("trouble")), what="it says so")
        assert "storage" in site.call("status", status=1).stdout
        assert site.results() == []
    finally:
        site.inbox.chmod(0o700)
    with trial.recovery():
        site.wait_until_finished(len(everything))
    trial.end(site, everything)
