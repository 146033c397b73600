"""Installed, run, hurt, upgraded and removed under a real systemd, as an operator would.

The machine is a Debian in a container. Where none can be had the tests are skipped, saying why. The
tests are one story and stand in its order.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import documents
import machines
import pytest
from checkout import copy_project
from driver import wait_for
from machines import Machine
from packages import copy_package

from worker.db.schema import REVISION
from worker.model.registry import Registry
from worker.monitoring.journald import message_id

REPOSITORY = Path(__file__).resolve().parents[2]
_KEPT = REPOSITORY / "var" / "trial"  # what is the same for every run
_STATE = "/var/lib/lungwatch"
_WORKER = "lungwatch-worker.service"
_METRICS = "LUNGWATCH_METRICS_FILE=/run/lungwatch/lungwatch.prom\n"
# As a site would: what takes a minute or a night is made to take seconds.
_DROP_INS = {
    f"{_WORKER}.d": "[Service]\nRestartSec=1\nWatchdogSec=4\n",
    "lungwatch-retrain.service.d": (
        "[Service]\nExecStart=\nExecStart=/opt/lungwatch/bin/python -m training.retrain "
        "--data /films --cache /var/cache/lungwatch --report /var/lib/lungwatch/report "
        "--epochs 1 --side-pixels 64\n"
    ),
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Machine]:
    """Boot a fresh machine, with a copy of this project and the wheels that it needs."""
    if reason := machines.why_not():
        pytest.skip(reason)
    debian, wheels = _KEPT / "debian", REPOSITORY / "var" / "wheels"
    if not debian.is_dir():
        half = _KEPT / "half"
        shutil.rmtree(half, ignore_errors=True)
        half.parent.mkdir(parents=True, exist_ok=True)
        if reason := machines.build(half):
            pytest.skip(f"Debian cannot be built: {reason}")
        half.rename(debian)
    subprocess.run(["make", "-s", "wheels"], cwd=REPOSITORY, check=True)
    folder = tmp_path_factory.mktemp("machine")
    subprocess.run(["cp", "-a", str(debian), str(folder / "tree")], check=True)
    source = copy_project(folder / "source")
    shows = {source: "/src", wheels: "/wheels", data / "originals": "/films"}
    with machines.booted(folder / "tree", shows=shows, log=folder / "console.log") as one:
        yield one


def drop(machine: Machine, films: Sequence[Path]) -> None:
    """Drop films into the inbox, as a sender who is in the service's group does."""
    for film in films:
        place = f"{_STATE}/inbox/{film.name}"
        source = f"/films/{film.parent.name}/{film.name}"
        machine.run(f"install -m 640 -g lungwatch {source} {place}.part && mv {place}.part {place}")


def rows(machine: Machine) -> list[dict[str, Any]]:
    """Return what the installed command says was screened, newest first."""
    found: list[dict[str, Any]] = json.loads(machine.run("lungwatch results --format json"))
    return found


def state(machine: Machine, unit: str, what: str) -> str:
    """Return a property of a unit."""
    return machine.run(f"systemctl show --property={what} --value {unit}").strip()


def wait_for_rows(machine: Machine, count: int) -> list[dict[str, Any]]:
    """Wait until so many films have their row."""
    wait_for(lambda: len(rows(machine)) >= count, every=0.2, what=f"{count} rows")
    return rows(machine)


@pytest.fixture(scope="module")
def some_films(data: Path) -> list[Path]:
    """Return films of both classes, enough for the story."""
    found = [sorted((data / "originals" / kind).iterdir())[:6] for kind in ("NORMAL", "PNEUMONIA")]
    return [film for pair in zip(*found, strict=True) for film in pair]


def test_installed_it_is_ready(machine: Machine) -> None:
    """One command makes user, folders, environment, units and settings, and starts it."""
    told = machine.run("make -s -C /src install WHEELS=/wheels")
    assert told.index("Installs Lungwatch") < told.index("The worker was down")
    assert state(machine, _WORKER, "ActiveState") == "active"
    for timer in ("lungwatch-retrain.timer", "lungwatch-drift.timer"):
        assert state(machine, timer, "ActiveState") == "active"
    modes = machine.run(f"stat -c '%n %U %G %a' {_STATE} {_STATE}/inbox /etc/lungwatch/*")
    assert modes.splitlines() == [
        f"{_STATE} lungwatch lungwatch 750",
        f"{_STATE}/inbox lungwatch lungwatch 2770",
        "/etc/lungwatch/credentials root root 700",
        "/etc/lungwatch/lungwatch.env root lungwatch 640",
    ]
    # From a folder that the service's user may not even look at.
    assert "FAIL" not in machine.run("mkdir -m 700 /shut && cd /shut && lungwatch check")
    assert machine.run("systemctl is-system-running").strip() == "running"


def test_films_become_rows(machine: Machine, some_films: list[Path]) -> None:
    """What is dropped is screened and archived, behind a whole fence, and the journal has it."""
    drop(machine, some_films[:2])
    found = wait_for_rows(machine, 2)
    assert {Path(row["file_name"]).name for row in found} == {film.name for film in some_films[:2]}
    assert machine.run(f"find {_STATE}/archive -type f | wc -l").strip() == "2"
    assert machine.run(f"ls {_STATE}/inbox") == ""
    assert machine.run("lungwatch status")
    screened = machine.run(f"journalctl -u {_WORKER} MESSAGE_ID={message_id('screened')} -o json")
    entries = [json.loads(line) for line in screened.splitlines()]
    assert {entry["LUNGWATCH_SCAN_ID"] for entry in entries} == {
        str(row["scan_id"]) for row in found
    }
    missing = f"journalctl -u {_WORKER} -o cat MESSAGE_ID={message_id('screeners not fenced in')}"
    # A kernel may lack Landlock; of what it has the unit takes nothing away.
    for line in machine.run(missing, status=None).splitlines():
        assert line.endswith(
            "missing=no Landlock: the kernel does not have it, or it is switched off"
        )
    assert json.loads(machine.run("lungwatch status --json"))["well"] is True


def test_reloaded_it_serves_another_model(
    machine: Machine, some_films: list[Path], tmp_path: Path
) -> None:
    """A promotion and a reload: the next film's row names the new model, and nobody was away."""
    shipped = Registry(REPOSITORY / "models")
    package = copy_package(shipped.folder(shipped.serving()), tmp_path, version="trial-1")
    shutil.copytree(package, machine.tree / _STATE.lstrip("/") / "models" / "trial-1")
    machine.run(f"chown -R lungwatch: {_STATE}/models/trial-1")
    before = state(machine, _WORKER, "MainPID")
    machine.run("lungwatch models promote trial-1 --why trial && systemctl reload lungwatch-worker")
    wait_for(lambda: machine.says("lungwatch status", "trial-1"), every=0.2)
    drop(machine, some_films[2:3])
    assert wait_for_rows(machine, 3)[0]["model_version"] == "trial-1"
    assert state(machine, _WORKER, "MainPID") == before


def test_killed_it_is_started_again(machine: Machine, some_films: list[Path]) -> None:
    """Films dropped while it is dead are screened when systemd has started it again."""
    for unit, text in _DROP_INS.items():
        folder = machine.tree / "etc/systemd/system" / unit
        folder.mkdir()
        (folder / "trial.conf").write_text(text)
    machine.run("systemctl daemon-reload && systemctl restart lungwatch-worker")
    machine.run(f"systemctl kill --signal=KILL --kill-whom=main {_WORKER}")
    drop(machine, some_films[3:5])
    assert len(wait_for_rows(machine, 5)) == 5
    assert int(state(machine, _WORKER, "NRestarts")) >= 1


def test_stuck_it_is_ended_by_the_watchdog(machine: Machine, some_films: list[Path]) -> None:
    """A worker that no longer comes round its loop is noticed, ended and started again."""
    before = int(state(machine, _WORKER, "NRestarts"))
    machine.run(f"systemctl kill --signal=STOP --kill-whom=main {_WORKER}")
    wait_for(lambda: int(state(machine, _WORKER, "NRestarts")) > before, every=0.2)
    assert "Watchdog timeout" in machine.run(f"journalctl -u {_WORKER} -o cat")
    drop(machine, some_films[5:6])
    assert len(wait_for_rows(machine, 6)) == 6


def test_a_night_begins_by_its_timer(machine: Machine, some_films: list[Path]) -> None:
    """It runs to its verdict in its own class, and films that come meanwhile are screened."""
    timer = machine.tree / "etc/systemd/system/lungwatch-retrain.timer.d"
    timer.mkdir()
    every = "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/5\nRandomizedDelaySec=0\nAccuracySec=1s\n"
    (timer / "trial.conf").write_text(every)
    machine.run("systemctl daemon-reload && systemctl restart lungwatch-retrain.timer")
    night = "lungwatch-retrain.service"
    wait_for(lambda: state(machine, night, "ActiveState") == "activating", every=0.2)
    shutil.rmtree(timer)
    machine.run("systemctl daemon-reload && systemctl stop lungwatch-retrain.timer")
    drop(machine, some_films[6:8])
    assert len(wait_for_rows(machine, 8)) == 8
    wait_for(lambda: state(machine, night, "ActiveState") != "activating", seconds=600, every=0.5)
    journal = machine.run(f"journalctl -u {night} -o cat")
    assert state(machine, night, "Result") == "success", journal
    assert len(machine.run(f"ls {_STATE}/models").split()) > 3, journal


def test_drift_is_looked_for(machine: Machine) -> None:
    """Within its sandbox; of eight films it says that there is nothing to tell yet."""
    machine.run("systemctl start lungwatch-drift.service")
    assert machine.says("journalctl -u lungwatch-drift.service -o cat", "No result yet")


# Of the documents' commands what is done elsewhere in this story, and what there is no place for.
_ELSEWHERE = {
    *("sudo make install", "sudo make install WHEELS=var/wheels", "make wheels"),
    *("sudo make uninstall", "sudo systemctl stop lungwatch.target"),
    *("git pull", "sudo make install BACKUP=made"),
    "sudo usermod --append --groups lungwatch NAME",
    "sudo /opt/lungwatch/bin/python -m pip install pyarrow",
}


def test_what_the_documents_say_can_be_done(machine: Machine) -> None:
    """Each command that the documents have for operators works as it stands there."""
    found = [
        one
        for head in documents.OF_A_SERVICE
        for one in documents.commands(documents.section(head))
    ]
    assert {*found, "sudo /opt/lungwatch/bin/python -m pip install pyarrow"} >= _ELSEWHERE
    for command in dict.fromkeys(found):
        if command in _ELSEWHERE:
            continue
        filled = command.removeprefix("sudo ").replace("1234", "1")
        filled = filled.replace("MESSAGE_ID=...", f"MESSAGE_ID={message_id('screened')}")
        if " edit " in filled:  # an editor takes a terminal
            filled = f'script -qec "SYSTEMD_EDITOR=true {filled}" /dev/null'
        machine.run(f"cd /src && SYSTEMD_PAGER= {filled}")


def test_whoever_is_in_the_group_sends_and_asks(machine: Machine, some_films: list[Path]) -> None:
    """A user of the machine who has joined the group drops films and sees what came of them."""
    join = next(
        one for one in documents.commands(documents.section("## Install")) if "usermod" in one
    )
    machine.run(f"useradd ada && {join.removeprefix('sudo ').replace('NAME', 'ada')}")
    before = len(rows(machine))
    film = f"/films/{some_films[0].parent.name}/{some_films[0].name}"
    machine.run(f"runuser -u ada -- cp {film} {_STATE}/inbox/from-ada.jpeg")
    wait_for_rows(machine, before + 1)
    told = json.loads(machine.run("runuser -u ada -- lungwatch results --format json"))
    assert [row["file_name"] for row in told if row["file_name"] == "from-ada.jpeg"]
    machine.run("runuser -u ada -- lungwatch status")
    # A label is what a night learns from: that takes more than the group.
    label = f"lungwatch label {told[0]['scan_id']} NORMAL --by ada"
    assert machine.says(f"runuser -u ada -- {label}", "readonly")
    machine.run(label)


# What 0.1.0 left: its number, and its schema with the rows that there are.
_TO_0_1_0 = """
from importlib.metadata import distribution
from alembic import command
from alembic.config import Config
from worker.db.engine import Database
from worker.system.files import shipped

config = Config()
config.set_main_option("script_location", str(shipped("migrations")))
with Database("sqlite:////var/lib/lungwatch/lungwatch.db").writing() as connection:
    config.attributes["connection"] = connection
    command.downgrade(config, "0005")
path = distribution("lungwatch").locate_file("lungwatch-VERSION.dist-info/METADATA")
path.write_text(path.read_text().replace("\\nVersion: VERSION\\n", "\\nVersion: 0.1.0\\n"))
"""


def make_it_0_1_0(machine: Machine) -> None:
    """Have the installed release and its database pass for 0.1.0."""
    script = machine.tree / "usr/local/to_0_1_0.py"
    script.write_text(_TO_0_1_0.replace("VERSION", version("lungwatch")))
    machine.run(f"systemctl stop {_WORKER} && /opt/lungwatch/bin/python /usr/local/{script.name}")
    # As root it made the journal's file, if any, its own.
    machine.run(f"chown lungwatch: {_STATE}/lungwatch.db*")


def test_0_1_0_upgraded_keeps_everything(machine: Machine, some_films: list[Path]) -> None:
    """The same command again: a backup, then another release, with rows, model and settings."""
    settings = machine.tree / "etc/lungwatch/lungwatch.env"
    settings.write_text(settings.read_text() + "LUNGWATCH_WORKER_NAME=ward-7\n" + _METRICS)
    before, serving = rows(machine), machine.run("cat /var/lib/lungwatch/models/CHAMPION")
    release = machine.run("readlink /opt/lungwatch")
    make_it_0_1_0(machine)
    started = time.monotonic()
    told = machine.run("make -s -C /src install WHEELS=/wheels")
    assert "Upgrades Lungwatch" in told
    copy = f"{_STATE}/lungwatch-0.1.0.db"
    assert f"The database is copied to {copy}." in told
    assert machine.run(f"stat -c '%U %a' {copy}").strip() == "lungwatch 640"
    with closing(sqlite3.connect(machine.tree / copy.lstrip("/"))) as saved:
        assert saved.execute("SELECT version_num FROM alembic_version").fetchall() == [("0005",)]
        assert saved.execute("SELECT count(*) FROM results").fetchone() == (len(before),)
    assert f"at {REVISION}" in machine.run("lungwatch check")
    away = int(told.split("was down for ")[1].split(" s")[0])
    assert away < time.monotonic() - started
    assert machine.run("readlink /opt/lungwatch") != release
    assert rows(machine) == before
    assert machine.run("cat /var/lib/lungwatch/models/CHAMPION") == serving
    assert "ward-7" in settings.read_text()
    drop(machine, some_films[8:9])
    assert len(wait_for_rows(machine, 10)) == 10
    wait_for(lambda: machine.says("lungwatch status", "ward-7"), every=0.2)
    # Whoever takes numbers to Prometheus is in no group of ours.
    numbers = "runuser -u nobody -- cat /run/lungwatch/lungwatch.prom"
    wait_for(lambda: machine.says(numbers, "lungwatch_screened_total"), every=0.2)


def test_the_command_has_the_service_s_settings(machine: Machine) -> None:
    """An inbox on a share, a pattern, a URL: in lungwatch.env they are one thing to both."""
    settings = machine.tree / "etc/lungwatch/lungwatch.env"
    before = settings.read_text()
    drop_in = machine.tree / "etc/systemd/system" / f"{_WORKER}.d" / "network-share.conf"
    shutil.copy(REPOSITORY / "systemd" / drop_in.name, drop_in)
    more = (
        "LUNGWATCH_INBOX='/mnt/films'",
        "LUNGWATCH_PATIENT_PATTERN='^(\\d+)_'",
        f"LUNGWATCH_DATABASE_URL=sqlite:///{_STATE}/lungwatch.db?timeout=9&cached_statements=99",
    )
    settings.write_text(before + "\n".join(more))
    machine.run("install -d -o lungwatch -g lungwatch -m 2770 /mnt/films")
    machine.run("systemctl daemon-reload && systemctl restart lungwatch-worker")
    shown = machine.tree / "usr/local/shown"
    shown.mkdir()
    (shown / "lungwatch").write_text("#!/bin/sh\nexec env\n")
    (shown / "lungwatch").chmod(0o755)
    pid = state(machine, _WORKER, "MainPID")
    of_both = [
        {line for line in machine.run(command).splitlines() if line.startswith("LUNGWATCH_")}
        for command in (
            f"tr '\\0' '\\n' < /proc/{pid}/environ",
            f"LUNGWATCH_BIN=/{shown.relative_to(machine.tree)} lungwatch",
        )
    ]
    assert of_both[0] - of_both[1] == {"LUNGWATCH_LOG_FORMAT=journal"}
    assert "LUNGWATCH_INBOX=/mnt/films" in of_both[0]
    assert r"LUNGWATCH_PATIENT_PATTERN=^(\d+)_" in of_both[0]
    assert "FAIL" not in machine.run("lungwatch check")
    drop_in.unlink()
    settings.write_text(before)
    machine.run("systemctl daemon-reload && systemctl restart lungwatch-worker")


def test_a_password_reaches_it_by_a_credential(machine: Machine) -> None:
    """The database's URL comes from a file of root's: it stands in no environment."""
    url = f"sqlite:///{_STATE}/other.db"
    secret = "/etc/lungwatch/credentials/lungwatch_database_url"
    machine.run(f"umask 077 && printf %s {url} > {secret}")
    folder = machine.tree / "etc/systemd/system" / f"{_WORKER}.d"
    shutil.copy(REPOSITORY / "systemd" / "postgres-password.conf", folder)
    machine.run("systemctl daemon-reload && systemctl restart lungwatch-worker")
    assert rows(machine) == [], "the command goes to the same database"
    pid = state(machine, _WORKER, "MainPID")
    assert "DATABASE_URL" not in machine.run(f"cat /proc/{pid}/environ")
    # Who may not read it is not answered from the database before.
    assert "use sudo" in machine.run("runuser -u ada -- lungwatch results", status=2)
    (folder / "postgres-password.conf").unlink()
    machine.run(f"rm {secret} && systemctl daemon-reload && systemctl restart lungwatch-worker")
    assert len(rows(machine)) == 10


def test_stopped_it_has_nothing_in_hand(machine: Machine, some_films: list[Path]) -> None:
    """Within its time, cleanly; what was dropped is screened or still in the inbox."""
    drop(machine, some_films[9:12])
    machine.run("systemctl stop lungwatch.target")
    wait_for(lambda: state(machine, _WORKER, "ActiveState") == "inactive", every=0.2)
    assert state(machine, _WORKER, "Result") == "success"
    left = machine.run(f"ls {_STATE}/inbox").split()
    assert len(rows(machine)) + len(left) == 13


def test_uninstalled_it_leaves_what_is_theirs(machine: Machine) -> None:
    """Units, command and environment are gone; films, results, models and settings are not."""
    told = machine.run("make -s -C /src uninstall")
    assert "Kept: /var/lib/lungwatch" in told
    gone = f"/opt/lungwatch /opt/lungwatch-releases /usr/local/bin/lungwatch {_STATE}/nothing"
    assert machine.run(f"ls -d {gone} 2>/dev/null", status=None) == ""
    assert "not-found" in state(machine, _WORKER, "LoadState")
    assert machine.run(f"ls -d {_STATE}/lungwatch.db {_STATE}/archive/* /etc/lungwatch/*.env")
    assert machine.run("systemctl --failed --plain --no-legend") == ""


def test_the_machine_shuts_down(machine: Machine) -> None:
    """In good order."""
    assert machine.power_off() == 0
