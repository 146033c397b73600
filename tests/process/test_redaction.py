"""What could tell of a patient stays with the service: not in a log, and not for others."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import films
import pytest
from driver import Site, wait_for

from worker.system.redaction import Discretion, shut_out_others

pytestmark = pytest.mark.slow

# As exports name them, with a patient's name, number or date of birth.
_NAMES = ("Mustermann^Erika.jpg", "person1234_bacteria_5678.jpeg", "IM-4711 *2019-03-04.jpeg")


def _named(round_: str) -> dict[str, bytes]:
    """Return films of such names, and as many that break off."""
    sound = dict(zip(_NAMES, films.batch(len(_NAMES)).values(), strict=True))
    sound = {f"{round_}-{name}": data for name, data in sound.items()}
    return sound | {f"torn-{name}": data[: len(data) // 2] for name, data in sound.items()}


def _run_through_trouble(site: Site) -> dict[str, bytes]:
    """Screen and refuse, have an archive that cannot be written and a model that is not there."""
    site.settings |= {"INCOMPLETE_SECONDS": "0"}
    everything = _named("1")
    site.drop(everything)
    worker = site.start(wrapper=("sh", "-c", 'umask 0; exec "$@"', "sh"))
    site.wait_until_finished(len(everything))

    away = site.archive.with_name("away")
    site.archive.rename(away)
    site.archive.write_bytes(b"a file in its place")
    site.drop(_named("2"))
    everything |= _named("2")
    wait_for(lambda: "cannot be moved" in site.log(), what="trouble is said")
    site.archive.unlink()
    away.rename(site.archive)
    site.wait_until_finished(len(everything))

    champion = site.models / "CHAMPION"
    champion.chmod(0o600)
    champion.write_text("20990101-00000000\n")
    wait_for(lambda: "model refused" in site.log(), what="a model that is not there is refused")
    assert site.stop(worker) == 0
    return everything


@pytest.mark.parametrize("log_format", ["json", "plain"])
def test_a_log_names_no_film_and_no_path(site: Site, log_format: str) -> None:
    """Whatever happened: a log is read by more people than the films are."""
    site.settings |= {"LOG_FORMAT": log_format}
    everything = _run_through_trouble(site)
    log = site.log()
    rows = site.results()
    assert len(rows) == len(everything)
    for row in rows:
        assert row["sha256"][:12] in log, "each is told, by its digest"
        assert row["file_name"] not in log
    for telling in ("Mustermann", "Erika", "person", "bacteria", "IM-4711", "2019-03-04"):
        assert telling not in log, telling
    for folder in (site.root, site.inbox, site.archive, site.refused, site.models):
        assert str(folder) not in log


def test_at_debug_a_log_names_films(site: Site) -> None:
    """Who asks for it gets it, and so knows that the names above were to be had."""
    site.settings |= {"LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json"}
    site.drop(_named("1"))
    site.call("run", "--once", status=None)
    everything = _named("2")
    site.drop(everything)
    log = site.call("run", "--once").stdout
    named = {line.get("file_name") for line in map(json.loads, log.splitlines())}
    assert everything.keys() <= named


@pytest.mark.parametrize("setting", ["INBOX", "MODELS", "DATABASE_URL"])
def test_a_start_that_fails_names_no_path(site: Site, setting: str) -> None:
    """Settings that are wrong are named, and what they hold is left to who may read them."""
    missing = site.root / "Doe^Jane"
    missing.write_bytes(b"a file in the place of a folder")
    site.settings[setting] = "mysql://x/" if setting == "DATABASE_URL" else str(missing / "x")
    ended = site.call("run", status=2)
    assert f"LUNGWATCH_{setting}" in ended.stderr
    assert str(site.root) not in ended.stdout + ended.stderr
    assert "Doe" not in ended.stdout + ended.stderr


def test_what_the_service_makes_is_not_for_others(site: Site) -> None:
    """Folders, rows, reasons and models are the user's and group's alone, whatever the umask."""
    _run_through_trouble(site)
    site.settings |= {"MODELS": str(site.root / "seeded")}
    site.call("run", "--once", status=None)
    made = [site.archive, site.refused]
    made += [path for folder in made for path in folder.rglob("*")]
    made.append(site.root / "seeded")
    made += site.root.glob("lungwatch.db*")
    films_ = {path for path in made if path.name in _everybody(site)}
    assert films_, "films keep the rights they came with: their folders shut others out"
    for path in set(made) - films_:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o007, path


def _everybody(site: Site) -> set[str]:
    return {row["file_name"] for row in site.results()}


def test_a_stricter_umask_stays(tmp_path: Path) -> None:
    """Who lets nobody in but the user is not overruled."""
    before = os.umask(0o077)
    try:
        shut_out_others()
        (tmp_path / "file").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("words", "fit"),
    [
        ("cannot read /srv/in/Doe^Jane.jpg: no rights", "cannot read <INBOX>: no rights"),
        ("'/srv/in': gone", "'<INBOX>': gone"),
        ("/srv/in/models/CHAMPION is empty", "<MODELS> is empty"),
        ("var/archive/2026-11-24 is full", "<ARCHIVE> is full"),
        ('on socket "/run/pg/.s.PGSQL.5432" failed', 'on socket "<path>" failed'),
        ("is '/srv/x/Doe, Jane/in': gone", "is '<path>': gone"),
        ('gone: "/srv/x/O\'Brien Anna.jpeg"', 'gone: "<path>"'),
        ('gone: "/srv/in/O\'Brien Anna.jpeg"', 'gone: "<INBOX>"'),
        ("'/srv/in/Doe, Jane.jpg' -> 'var/archive/Doe, Jane.jpg'", "'<INBOX>' -> '<ARCHIVE>'"),
        (r"""gone: '/srv/x/O\'Brien "Anna" B.jpeg' now""", "gone: '<path>' now"),
        (
            "use sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
            "use sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
        ),
        ("took 3/4 of 20 films/s, and/or", "took 3/4 of 20 films/s, and/or"),
        ("results in sqlite:////srv/db/rows.db", "results in sqlite:<path>"),
        ("/srv/inner is another's", "<path> is another's"),
    ],
)
def test_paths_are_left_out(words: str, fit: str) -> None:
    """The site's own are told by name, so that an operator knows where to look."""
    places = {"INBOX": "/srv/in", "MODELS": "/srv/in/models", "ARCHIVE": "var/archive"}
    assert Discretion({name: Path(path) for name, path in places.items()})(words) == fit
