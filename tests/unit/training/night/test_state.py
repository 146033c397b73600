"""What stands between nights: one at a time, on record however it ends, and not twice the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from databases import execute, make_newer, query

from training.night import record as record_module
from training.night.record import code_digest, made_with, recording
from training.night.state import LAST, LOCK, NightUnderway, alone, last_night, remember
from worker.db.engine import Database
from worker.db.training_runs import Ruling, TrainingRuns
from worker.errors import DatabaseTrouble, DataError
from worker.model.registry import Registry

REPOSITORY = Path(__file__).resolve().parents[4]
WORK = {"seed": 20, "data_digest": "aa", "code": "bb"}
HOLDER = """
import sys
from pathlib import Path
from training.night.state import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(models: Path) -> subprocess.Popen[str]:
    """Return a process that holds the lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(models)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_one_night_at_a_time(tmp_path: Path) -> None:
    """A second one is told whose the first is; after it, the folder is free."""
    with hold(tmp_path) as holder:
        with pytest.raises(NightUnderway, match=f"process {holder.pid}$"), alone(tmp_path):
            pass
        holder.communicate()
    with alone(tmp_path):
        assert (tmp_path / LOCK).read_text(encoding="ascii") == f"{os.getpid()}\n"


def test_a_killed_night_leaves_no_lock(tmp_path: Path) -> None:
    """The kernel frees it: nobody has to clear up after a power cut."""
    with hold(tmp_path) as holder:
        holder.kill()
    with alone(tmp_path):
        pass


def test_the_lock_is_no_model(tmp_path: Path) -> None:
    """The registry does not take what stands between nights for a package."""
    with alone(tmp_path):
        remember(tmp_path, WORK, champion=None, challenger="drawn-1")
        assert Registry(tmp_path).versions() == []


def test_the_same_work_for_the_same_champion_is_not_new(tmp_path: Path) -> None:
    """It is what the last night did, and its model is named."""
    assert last_night(tmp_path, WORK, champion=None) is None
    remember(tmp_path, WORK, champion="drawn-1", challenger="drawn-2")
    again = dict(reversed(WORK.items()))
    last = last_night(tmp_path, again, champion="drawn-1")
    assert last is not None
    assert (last.challenger, last.drifting) == ("drawn-2", False)


@pytest.mark.parametrize("name", WORK)
def test_any_change_of_the_work_is_new(tmp_path: Path, name: str) -> None:
    """Other films, another recipe, other code."""
    remember(tmp_path, WORK, champion="drawn-1", challenger="drawn-2")
    assert last_night(tmp_path, WORK | {name: "other"}, champion="drawn-1") is None


@pytest.mark.parametrize("champion", [None, "drawn-0", "drawn-2"])
def test_another_champion_is_new(tmp_path: Path, champion: str | None) -> None:
    """Promoted by hand, or rolled back to: what is to be beaten is not what it was."""
    remember(tmp_path, WORK, champion="drawn-1", challenger="drawn-2")
    assert last_night(tmp_path, WORK, champion=champion) is None


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[]", b"null", b"{}", b"\xff"])
def test_a_spoilt_memory_costs_a_night_and_nothing_else(tmp_path: Path, spoilt: bytes) -> None:
    """Whatever is in the file, the night runs as if it were new."""
    (tmp_path / LAST).write_bytes(spoilt)
    assert last_night(tmp_path, WORK, champion=None) is None


def test_without_a_database_there_is_no_record(tmp_path: Path) -> None:
    """Everything can be said, nothing is kept, and nobody counts looks."""
    with recording(None, tmp_path, say=pytest.fail) as record:
        record.note(seed=20)
        assert record.look("aa") is None
        record.close(Ruling.HELD, ["HELD: no"])
    assert list(tmp_path.iterdir()) == []


def test_a_night_is_on_record_with_what_it_runs_on(
    database_url: str, tmp_path: Path, open_database: Callable[[str], Database]
) -> None:
    """Host and folder, code and libraries, from the first moment; closed with its verdict."""
    runs = TrainingRuns(open_database(database_url))
    with recording(database_url, tmp_path, say=pytest.fail) as record:
        (night,) = runs.nights()
        assert night["verdict"] is None
        assert night["details"]["place"].endswith(f":{tmp_path}")
        assert night["details"]["code"] == code_digest()
        assert night["details"]["libraries"]["keras"] == made_with()["libraries"]["keras"]
        record.note(seed=20)
        record.close(Ruling.HELD, ["HELD: no"], champion="drawn-1", challenger="drawn-2")
    (night,) = runs.nights()
    assert (night["verdict"], night["champion"]) == ("held", "drawn-1")
    assert night["details"]["seed"] == 20


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (DataError("one film with two labels: a, b"), "failed"),
        (MemoryError(), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(143), "interrupted"),
    ],
)
def test_a_night_that_stops_is_on_record_with_why(
    database_url: str,
    tmp_path: Path,
    open_database: Callable[[str], Database],
    error: BaseException,
    verdict: str,
) -> None:
    """By an error or by being told to, and the error goes on to whoever started it."""
    with pytest.raises(type(error)), recording(database_url, tmp_path, say=pytest.fail):
        raise error
    (night,) = TrainingRuns(open_database(database_url)).nights()
    assert night["verdict"] == verdict
    assert night["reasons"][0].startswith(type(error).__name__)
    assert str(error) in night["reasons"][0] or verdict == "interrupted"
    assert night["finished_at"] is not None


def test_a_night_with_its_verdict_keeps_it_though_what_follows_fails(
    database_url: str, tmp_path: Path, open_database: Callable[[str], Database]
) -> None:
    """A promotion that is on record was one, whatever went wrong after."""

    def night() -> None:
        with recording(database_url, tmp_path, say=pytest.fail) as record:
            record.close(Ruling.PROMOTED, ["ok: yes"])
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        night()
    assert TrainingRuns(open_database(database_url)).nights()[0]["verdict"] == "promoted"


def test_a_first_night_makes_the_tables(
    empty_database_url: str, tmp_path: Path, open_database: Callable[[str], Database]
) -> None:
    """Training may come before the first film: the database need not be there yet."""
    with recording(empty_database_url, tmp_path, say=pytest.fail) as record:
        record.close(Ruling.UNCHANGED, [])
    rows = query(open_database(empty_database_url), "SELECT verdict FROM training_runs")
    assert rows == [{"verdict": "unchanged"}]


def test_a_night_on_a_newer_schema(database: Database, tmp_path: Path) -> None:
    """It runs where the schema allows this release, and says so; else it stops before it begins."""
    url, said = database.url.render_as_string(hide_password=False), list[str]()
    make_newer(database)
    with recording(url, tmp_path, say=said.append) as record:
        record.look("aa")
        record.close(Ruling.UNCHANGED, [])
    (sentence,) = said
    assert "schema 9999 of a newer release" in sentence
    assert query(database, "SELECT verdict FROM training_runs") == [{"verdict": "unchanged"}]
    execute(database, "UPDATE schema_compatibility SET oldest_release = '9.0.0'")
    with (
        pytest.raises(DatabaseTrouble, match=r"9\.0\.0 or newer"),
        recording(url, tmp_path, say=pytest.fail),
    ):
        pytest.fail("it began")


def test_a_database_that_is_away_stops_the_night_at_once(tmp_path: Path) -> None:
    """No hours of training whose outcome could not be written down."""
    url = f"postgresql+psycopg://nobody@/nothing?host={tmp_path}"
    with pytest.raises(DatabaseTrouble), recording(url, tmp_path, say=pytest.fail):
        pytest.fail("it began")


def test_a_database_that_goes_away_does_not_hide_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first trouble is the one that is raised; that it is not on record is said."""

    def away(*_: object, **__: object) -> None:
        raise DatabaseTrouble("gone")

    said: list[str] = []
    url = f"sqlite:///{tmp_path / 'l.db'}"

    def night() -> None:
        with recording(url, tmp_path, say=said.append):
            monkeypatch.setattr(TrainingRuns, "close", away)
            raise DataError("leak")

    with pytest.raises(DataError, match="leak"):
        night()
    assert said == ["the end of this night could not be recorded: gone"]


def test_the_code_digest_covers_every_module_of_a_night(tmp_path: Path) -> None:
    """One line changed, wherever it lies, gives another digest; a part of no night does not."""
    packages = [tmp_path / name for name in ("training", "worker")]
    for package in packages:
        shutil.copytree(REPOSITORY / package.name, package)
    modules = [
        path
        for package in packages
        for path in sorted(package.rglob("*.py"))
        if f"{package.name}/{path.relative_to(package).parts[0]}" not in record_module._NO_PART
    ]
    digests = [code_digest(packages)]
    assert digests == [code_digest()]
    for path in modules[:: len(modules) // 12]:
        path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        digests.append(code_digest(packages))
    assert len(set(digests)) == len(digests) > 12


def test_the_code_digest_covers_what_training_imports() -> None:
    """No module of the worker that is loaded with training lies in a part that is left out."""
    script = (
        "import pkgutil, importlib, sys, training\n"
        "for one in pkgutil.walk_packages(training.__path__, 'training.'):\n"
        "    importlib.import_module(one.name)\n"
        "print(*(one.__file__ for name, one in sys.modules.items() if name[:7] == 'worker.'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    loaded = {Path(path).relative_to(REPOSITORY).parts[1] for path in done.stdout.split()}
    assert len(loaded) > 3
    assert not loaded & {part.removeprefix("worker/") for part in record_module._NO_PART}


def test_what_is_remembered_is_json_that_holds_no_film(tmp_path: Path) -> None:
    """Versions and a digest: nothing of whose films they were."""
    remember(tmp_path, WORK, champion=None, challenger="drawn-1")
    kept = json.loads((tmp_path / LAST).read_bytes())
    assert kept.keys() == {"work", "champion", "challenger", "drifting"}
    assert kept["champion"] is None
