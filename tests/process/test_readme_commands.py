"""Each command that the documents name is run: here, or by the test that is named for it.

What begins with `lungwatch` is run as it stands there, and with each option that its row in the
table of commands names. The place has films, labels, refusals and two models. Words in capitals are
filled in.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import documents
import films
import pytest
from checkout import copy_project
from driver import Site, wait_for
from packages import copy_package

from worker.model.registry import Registry

REPOSITORY = documents.REPOSITORY
_CONTRIBUTING = "## Contributing"
# What is not run here, and the test that runs it; a folder or an address may differ there.
RUN_BY = {
    "lungwatch explain 1 -o evidence.png": "test_readme_commands.py",
    "lungwatch backfill /films --engine ray --address head-node:6379": "test_ray_cluster.py",
    "lungwatch backfill FOLDER --engine ray": "test_ray_cluster.py",
    "lungwatch backfill FOLDER --address HOST:PORT": "test_ray_cluster.py",
    "python -m training.retrain": "test_retrain.py",
    ".venv/bin/python -m training.retrain --data DIR": "test_retrain.py",
    "make model DATA=chest_xray": "test_download.py",
    "make model DATA=chest_xray SIZES=FILE.csv": "test_download.py",
    ".venv/bin/python -m training.robustness models/VERSION TREE --originals DIR": (
        "test_robustness.py"
    ),
    ".venv/bin/python -m training.robustness models/VERSION TREE --swapped": "test_robustness.py",
    ".venv/bin/python -m training.robustness models/VERSION TREE --swapped --crops 0.83,0.8": (
        "test_robustness.py"
    ),
    "make wheels": "test_under_systemd.py",
    "make install": "test_under_systemd.py",
}
# What no test runs, and why.
NOT_RUN = {
    "git clone": "whoever runs this has done it",
    "git log -1": "it is git's own",
    "git pull": "there is nothing to pull from",
    "make test": "it runs this",
    "make test-all": "it runs this too",
    "make test-slow": "`make test-all` runs the same tests",
    "make check": "`make test` begins with it",
    "make lock": "it takes uv and asks the registries; test_documents.py reads what came of it",
    "make soak": "it takes hours; `make test-all` runs the same tests for a few rounds",
    ".venv/bin/pytest tests/faults/test_06_damage.py --soak -k no_damaged": "as `make soak`",
    "make model DATA=chest_xray ADULTS=FOLDER": "it takes films that are not here",
    "make bench": "it takes minutes",
    "make profile": "it may not be allowed to look into processes",
    "KERAS_BACKEND=jax": "JAX is not among the packages",
    "sudo /opt/lungwatch/bin/python -m pip install pyarrow": "as in a clone, in another folder",
}

# What fetches packages into the environment of a clone.
FETCHED = (
    "make training",
    ".venv/bin/python -m pip install pyarrow",
    ".venv/bin/python -m pip install 'ray[data]'",
)


def every_command() -> list[str]:
    """Return all that the documents name, each once."""
    texts = [path.read_text(encoding="utf-8") for path in documents.DOCUMENTS]
    return list(dict.fromkeys(one for text in texts for one in documents.commands(text)))


def with_options() -> list[str]:
    """Return what begins with `lungwatch`: as it stands, and with each option its row names."""
    found = [one for one in every_command() if one.startswith("lungwatch ")]
    for head, told in documents.table(documents.section("## Commands", within="worker/README.md")):
        options = [one for one in documents.spans(told) if one.startswith("--")]
        found += [f"{documents.spans(head)[0]} {option}" for option in options]
    return [one for one in found if one not in RUN_BY]


def filled_in(command: str, site: Site) -> list[str]:
    """Return the words of a command, with what this place has in place of what stands for it."""
    root = site.root
    other, serving = sorted(one.name for one in site.models.iterdir() if one.is_dir())
    scans = {row["file_name"]: str(row["scan_id"]) for row in site.results()}
    refused, screened = scans["text.jpg"], scans["later.jpeg"]
    csv = "--csv" in command
    stands_for = {
        "SCAN": refused if " retry " in command else screened,
        "NORMAL|PNEUMONIA": "NORMAL",
        "NAME": "Ada",
        "TEXT": "seen twice",
        "REASON": "because",
        "VERSION": other,
        "[VERSION]": other,
        "A": other,
        "B": serving,
        "N": "1",
        "FOLDER": str(root / "films"),
        "FILE": str(root / ("labels.csv" if csv else "out.csv")),
        "FILE.png": str(root / "out.png"),
        "FILE.html": str(root / "out.html"),
    }
    words = [word for word in shlex.split(command)[1:] if word != "..." or "--why" in command]
    filled = [stands_for.get(word, word) for word in words]
    left = [word for word in filled if word.isupper() and word not in ("NORMAL", "REVIEW")]
    assert not left, f"{command}: what is {left}?"
    return filled


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return a place where films were screened by two models and refused, and one was labelled."""
    site = Site(tmp_path_factory.mktemp("furnished"))
    site.drop(films.small_batch(3) | {"text.jpg": b"hello"})
    site.call("run", "--once")
    first = Registry(site.models).serving()
    copy_package(site.models / first, site.models, version="later-1")
    site.call("models", "promote", "later-1")
    site.drop({"later.jpeg": films.jpeg(films.draw(77))})
    site.call("run", "--once")
    site.call("label", "later.jpeg", "PNEUMONIA", "--by", "Ben")
    scan = next(row["scan_id"] for row in site.results() if row["file_name"] == "later.jpeg")
    (site.root / "labels.csv").write_text(f"scan,label,by\n{scan},NORMAL,Ada\n", encoding="utf-8")
    (site.root / "films").mkdir()
    for name, data in films.small_batch(2, seed=50).items():
        (site.root / "films" / name).write_bytes(data)
    return site


@pytest.fixture
def place(furnished: Site, tmp_path: Path) -> Iterator[Site]:
    """Yield a copy of that place, for a command to do in it what it likes."""
    shutil.copytree(furnished.root, tmp_path / "place", symlinks=True)
    site = Site(tmp_path / "place", fresh=True)  # nothing is imported before a command is called
    yield site
    site.end()


@pytest.mark.slow
@pytest.mark.parametrize("command", with_options())
def test_it_can_be_done_as_it_stands(command: str, place: Site) -> None:
    """Each command, and each option of its row, does what it is there for, and says so by 0."""
    words = filled_in(command, place)
    if words == ["run"] or words[0] == "status":
        worker = place.start()
        wait_for(lambda: place.call("status", status=None).returncode == 0, what="it is well")
        if words == ["run"]:
            assert place.stop(worker) == 0
            return
    place.call(*words)


def test_every_command_is_run_by_a_test() -> None:
    """What begins with `lungwatch`, above; the others below, elsewhere, or not, with the reason."""
    known = {*with_options(), *RUN_BY, *NOT_RUN, *FETCHED}
    for head in (
        *("## Quick start", _CONTRIBUTING, "## Backup and restore"),
        *documents.OF_A_SERVICE,
    ):
        known.update(documents.commands(documents.section(head)))
    assert [one for one in every_command() if one not in known] == []
    assert {*RUN_BY.values()} <= {path.name for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert {*RUN_BY, *NOT_RUN, *FETCHED} - {*every_command()} <= {
        one for one in RUN_BY if one.startswith("lungwatch backfill FOLDER ")
    }, "no document names these any more"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project in which all is there that `make dev` would fetch."""
    folder = copy_project(tmp_path_factory.mktemp("clone") / "lungwatch")
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    # Else the copy would install itself into the environment that it borrows.
    fresh = subprocess.run(["make", "--question", "dev"], cwd=folder, check=False)
    assert fresh.returncode == 0, "run `make dev` first"
    return folder


def told(command: str, *, within: Path) -> str:
    """Run a command as a user would type it, and return what it said."""
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=within,
        env={name: it for name, it in os.environ.items() if "LUNGWATCH" not in name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, command + done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", FETCHED)
def test_what_it_says_to_fetch_can_be_fetched(command: str, clone: Path) -> None:
    """Where it is there already it stays as it is."""
    told(command, within=clone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [one for one in documents.commands(documents.section(_CONTRIBUTING)) if one not in NOT_RUN],
)
def test_what_contributors_are_told_works(command: str, clone: Path) -> None:
    """Each command, in a copy of the project."""
    told(command, within=clone)


def test_a_query_waits_for_a_worker_that_writes(tmp_path: Path) -> None:
    """Where SQLite is old, whoever reads is shut out while a row is written: the query waits."""
    (query,) = (
        one
        for one in documents.commands(documents.section("## Quick start"))
        if one.startswith("sqlite3 ")
    )
    (tmp_path / "var").mkdir()
    database = tmp_path / "var" / "lungwatch.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as worker:
        worker.execute("CREATE TABLE results (file_name TEXT)")
        worker.execute("BEGIN EXCLUSIVE")
        worker.execute("INSERT INTO results VALUES ('a.jpeg')")
        with subprocess.Popen(
            shlex.split(query), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as asking:
            wait_for(
                lambda: asking.poll() is not None or _has_open(asking.pid, database),
                what="the query has come to the database",
            )
            worker.execute("COMMIT")
            assert asking.communicate(timeout=60) == (b"file_name = a.jpeg\n", b"")


def _has_open(pid: int, path: Path) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    return any(one.resolve() == path for one in folder.iterdir())


def as_shown(text: str) -> str:
    """Return output without what differs each time: times, last digits, trailing blanks."""
    text = re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d+)?)?", "WHEN", text)
    text = re.sub(r"\d+\.\d{4,}", lambda found: f"{float(found[0]):.3f}", text)
    return re.sub(r" +$", "", text, flags=re.MULTILINE).strip()


def test_the_quick_start(data: Path, clone: Path) -> None:
    """What the first page says, line by line: the film that it drops gets the row that it shows."""
    section = documents.section("## Quick start")
    start, copy, ask, query, *_, explain = documents.commands(section)
    table, row = re.findall(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    (film,) = data.glob(f"originals/*/{copy.split()[1]}")
    (clone / film.name).symlink_to(film)
    with subprocess.Popen(
        ["sh", "-c", f"exec {start}"],
        cwd=clone,
        env={name: it for name, it in os.environ.items() if "LUNGWATCH" not in name},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        try:
            wait_for((clone / "inbox").is_dir, what="there is an inbox")
            told(copy, within=clone)
            archive = clone / "var" / "archive"
            wait_for(lambda: [*archive.rglob(film.name)], what="the film is archived")
            assert as_shown(told(ask, within=clone)) == as_shown(table)
            assert as_shown(told(query, within=clone)) == as_shown(row)
            told(f".venv/bin/{explain}", within=clone)
        finally:
            os.killpg(running.pid, signal.SIGTERM)
