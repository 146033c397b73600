"""The units, as systemd itself reads them, and what the worker does under them."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import films
import pytest
from driver import Site

from worker.settings import PREFIX, Settings

UNITS = Path(__file__).resolve().parent.parent / "systemd"
SERVICES = [
    "lungwatch-worker.service",
    "lungwatch-retrain.service",
    "lungwatch-drift.service",
]
_BIN = "/opt/lungwatch/bin"


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


def _directives(name: str, section: str = "Service") -> dict[str, list[str]]:
    """Return a unit's directives, each with its values in order."""
    found: dict[str, list[str]] = {}
    text = (UNITS / name).read_text(encoding="utf-8").split(f"[{section}]")[1].split("\n[")[0]
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def _installed(folder: Path) -> list[str]:
    """Install units in a folder, with the programs that they name, and return their paths."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("lungwatch", "python"):
        shutil.copy("/bin/true", programs / name)
    paths = []
    for unit in sorted(UNITS.iterdir()):
        if unit.suffix in (".service", ".timer", ".target"):
            text = unit.read_text(encoding="utf-8").replace(_BIN, str(programs))
            (folder / unit.name).write_text(text, encoding="utf-8")
            paths.append(str(folder / unit.name))
    return paths


def test_systemd_finds_nothing_to_object_to(tmp_path: Path) -> None:
    """No directive that it does not know, none in a wrong place, no value it cannot read."""
    verified = _analyze("verify", *_installed(tmp_path))
    ours = [line for line in verified.stderr.splitlines() if "lungwatch" in line]
    assert (verified.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize(("drop_in", "exposure"), [(None, 1.0), ("postgres-over-tcp.conf", 1.5)])
def test_exposure(tmp_path: Path, name: str, drop_in: str | None, exposure: float) -> None:
    """By systemd's own reckoning, out of ten: next to nothing, and little more with a network."""
    unit = tmp_path / name
    shutil.copy(UNITS / name, unit)
    if drop_in is not None:
        (tmp_path / f"{name}.d").mkdir()
        with unit.open("a", encoding="utf-8") as file:
            file.write((UNITS / drop_in).read_text(encoding="utf-8"))
    limit = f"--threshold={round(exposure * 10)}"
    judged = _analyze("security", "--offline=yes", "--no-pager", limit, str(unit))
    assert judged.returncode == 0, judged.stdout


@cache
def _calls_of(group: str) -> frozenset[str]:
    """Return the system calls in a group of systemd's."""
    told = _analyze("syscall-filter", "--no-pager", group).stdout.splitlines()
    names = [line.strip() for line in told if line.startswith(" ") and "#" not in line]
    groups = [_calls_of(name) for name in names if name.startswith("@")]
    return frozenset(name for name in names if name[0] != "@").union(*groups)


def _allowed(name: str) -> set[str]:
    """Return the system calls that a service may make."""
    allowed: set[str] = set()
    for value in _directives(name)["SystemCallFilter"]:
        for one in value.removeprefix("~").split():
            calls = _calls_of(one) if one.startswith("@") else {one}
            allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def test_the_worker_makes_no_call_that_its_unit_forbids(site: Site) -> None:
    """Films screened, refused and filed, by itself and its screeners, within what is allowed."""
    allowed = _allowed("lungwatch-worker.service")
    assert "read" in allowed, "systemd says what its groups hold"
    assert "mount" not in allowed
    everything = films.small_batch(6) | {
        "torn.jpeg": films.truncated(films.jpeg(films.draw(1)), 60)
    }
    site.drop(everything)
    log = site.root / "calls"
    traced = ("strace", "-f", "-qq", "-e", "signal=none", "-o", str(log))
    assert site.start("--once", wrapper=traced).wait() == 0
    site.check_invariants(everything)
    made: dict[str, str] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if found := re.match(r"\d+ +(?:<\.\.\. )?(\w+)[( ]", line):
            made.setdefault(found[1], line)
        # What MemoryDenyWriteExecute refuses: memory made executable, or writable and executable.
        assert not re.search(r"mprotect\(.*PROT_EXEC|mmap\(.*PROT_WRITE\|PROT_EXEC", line), line
    assert {"openat", "landlock_restrict_self"} <= made.keys(), "it was traced, screeners and all"
    made.pop("fchown", None)  # SQLite makes it where it is root, and under the unit it never is
    forbidden = {name: line for name, line in made.items() if name not in allowed}
    assert forbidden == {}


def test_the_units_agree_with_the_settings() -> None:
    """What they set is there to be set, alike in all, and its folders are made."""
    made = {
        line.split()[1]
        for line in (UNITS / "lungwatch.tmpfiles").read_text(encoding="utf-8").splitlines()
        if line.startswith("d ")
    }
    places = []
    for name in SERVICES:
        variables = dict(value.split("=", 1) for value in _directives(name)["Environment"])
        known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
        assert variables.keys() <= known
        folders = {value for value in variables.values() if value.startswith("/")}
        assert folders <= made
        variables.pop("LUNGWATCH_LOG_FORMAT", None)
        places.append(variables)
    assert places[0] == places[1] == places[2]


def test_a_night_stands_back() -> None:
    """The worker is served before it, in processor, disk and memory, and nights do not overlap."""
    worker, night, _ = (_directives(name) for name in SERVICES)
    assert night["CPUSchedulingPolicy"] == night["IOSchedulingClass"] == ["idle"]
    assert "CPUSchedulingPolicy" not in worker
    assert int(night["OOMScoreAdjust"][0]) > 0
    assert night["MemoryMax"]


@pytest.mark.parametrize("name", ["lungwatch-retrain.timer", "lungwatch-drift.timer"])
def test_timers_keep_utc(name: str) -> None:
    """No night is left out or doubled when clocks are changed."""
    (when,) = _directives(name, "Timer")["OnCalendar"]
    assert when.endswith(" UTC")
    assert _analyze("calendar", when).returncode == 0
