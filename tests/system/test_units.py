"""The units, as systemd itself reads them, what the worker does under them, and the command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import documents
import films
import pytest
from driver import Site

from worker.settings import PREFIX, Settings

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = [
    "lungwatch-worker.service",
    "lungwatch-retrain.service",
    "lungwatch-drift.service",
]
_BIN = "/opt/lungwatch/bin"


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
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


def test_all_of_it_stops_with_the_target() -> None:
    """A night that ran on could promote into a registry that is being restored."""
    units = sorted(one.name for one in UNITS.iterdir() if one.suffix in (".service", ".timer"))
    assert set(SERVICES) < set(units)
    for name in units:
        assert _directives(name, "Unit").get("PartOf") == ["lungwatch.target"], name


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
        directives = [value.strip('"') for value in _directives(name)["Environment"]]
        variables = dict(value.split("=", 1) for value in directives)
        known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
        assert variables.keys() <= known
        folders = {value for value in variables.values() if value.startswith("/")}
        assert folders <= made
        variables.pop("LUNGWATCH_LOG_FORMAT", None)
        variables.pop("LUNGWATCH_POPULATION", None)
        places.append(variables)
    assert places[0] == places[1] == places[2]


def test_a_night_stands_back() -> None:
    """The worker is served before it, in processor, disk and memory, and nights do not overlap."""
    worker, night, drift = (_directives(name) for name in SERVICES)
    for one in (night, drift):
        assert one["Nice"] == ["19"]
        assert one["IOSchedulingPriority"] == ["7"]
    assert int(night["CPUWeight"][0]) < 100  # of what has none
    assert not {"Nice", "CPUWeight", "IOSchedulingPriority"} & worker.keys()
    assert int(night["OOMScoreAdjust"][0]) > 0
    assert night["MemoryMax"]


@pytest.mark.parametrize("name", SERVICES)
def test_who_may_hold_the_database_gets_on(name: str) -> None:
    """The worker waits for a lock that another holds: nobody waits in an idle class with one."""
    unit = _directives(name)
    assert "CPUSchedulingPolicy" not in unit
    assert unit.get("IOSchedulingClass", ["best-effort"]) == ["best-effort"]
    for weight in ("CPUWeight", "IOWeight"):
        (value,) = unit.get(weight, ["100"])
        assert int(value) >= 5, "a hundredth is no better than the idle class"


class _Host:
    """A place for the command's script, as on a host where one who is not root runs it."""

    def __init__(self, folder: Path) -> None:
        self.etc, self.units, bin_ = folder / "etc", folder / "units", folder / "bin"
        for made in (self.etc / "credentials", self.units, bin_):
            made.mkdir(parents=True)
        self.settings = self.etc / "lungwatch.env"
        self.secret = self.etc / "credentials" / "lungwatch_database_url"
        self._script = folder / "script"
        text = (UNITS / "lungwatch.sh").read_text(encoding="utf-8")
        for place, ours in (("/etc/lungwatch", self.etc), ("/etc/systemd/system", self.units)):
            assert place in text
            text = text.replace(place, str(ours))
        self._script.write_text(text, encoding="utf-8")
        for name, what in (("id", "echo 1000"), ("lungwatch", "exec env -0")):
            (bin_ / name).write_text(f"#!/bin/sh\n{what}\n", encoding="ascii")
            (bin_ / name).chmod(0o755)
        self._environment = {"PATH": f"{bin_}:{os.environ['PATH']}", "LUNGWATCH_BIN": str(bin_)}

    def drop_in(self, name: str, service: str = SERVICES[0]) -> Path:
        """Copy a drop-in to where it says that it goes."""
        folder = self.units / f"{service}.d"
        folder.mkdir(exist_ok=True)
        return Path(shutil.copy(UNITS / name, folder))

    def run(self) -> subprocess.CompletedProcess[bytes]:
        """Run the script, to whose rights nothing is added by being root."""
        command = ["/bin/sh", str(self._script)]
        if os.geteuid() == 0:
            if shutil.which("setpriv") is None:
                pytest.skip("setpriv is not installed, to take root's rights away")
            command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
        return subprocess.run(command, capture_output=True, env=self._environment, check=False)

    def has(self) -> dict[str, str]:
        """Return what the command finds in its environment."""
        done = self.run()
        assert (done.returncode, done.stderr) == (0, b"")
        return dict(one.split("=", 1) for one in done.stdout.decode().split("\0") if one)

    def refusal(self) -> str:
        """Return the one line that the script says in place of running the command."""
        done = self.run()
        assert (done.returncode, done.stdout) == (2, b"")
        (line,) = done.stderr.decode().splitlines()
        return line


@pytest.fixture
def host(tmp_path: Path) -> _Host:
    """Return a host on which nothing is set yet."""
    return _Host(tmp_path)


def test_the_command_has_the_places_of_the_units(host: _Host) -> None:
    """Without a file of settings, and with one: what that says goes before."""
    variables = dict(value.split("=", 1) for value in _directives(SERVICES[0])["Environment"])
    variables.pop("LUNGWATCH_LOG_FORMAT")
    assert variables.items() <= host.has().items()
    for name in variables:
        host.settings.write_text(f"{name}='/elsewhere'\n", encoding="utf-8")
        assert host.has()[name] == "/elsewhere"


def test_an_inbox_on_a_share_is_everybody_s(host: _Host) -> None:
    """It is said where all services and the command read it: a film tried again goes there."""
    for name in SERVICES:
        assert _directives(name)["EnvironmentFile"] == ["-/etc/lungwatch/lungwatch.env"]
    share = host.drop_in("network-share.conf")
    (mount,) = _directives("network-share.conf", "Unit")["RequiresMountsFor"]
    assert _directives("network-share.conf") == {"ReadWritePaths": [mount]}
    line = f"LUNGWATCH_INBOX='{mount}'"
    assert line in share.read_text(encoding="utf-8")
    row = next(
        " ".join(cells)
        for cells in documents.table(documents.section("## Day to day"))
        if "network share" in cells[0]
    )
    assert line in documents.spans(row)
    host.settings.write_text(f"{line}\n", encoding="utf-8")
    assert host.has()["LUNGWATCH_INBOX"] == mount


def test_whoever_is_not_of_the_group_is_told(host: _Host) -> None:
    """With none of the site's settings the command would look for another database."""
    host.etc.chmod(0)
    assert "join the group" in host.refusal()
    host.etc.chmod(0o755)
    assert host.has()


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_folder_of_one_unit_alone_is_told(host: _Host, quote: str) -> None:
    """As a drop-in of an earlier release had it: the command would work on another inbox."""
    share = host.drop_in("network-share.conf")
    with share.open("a", encoding="utf-8") as file:
        file.write(f"Environment={quote}LUNGWATCH_INBOX=/mnt/films{quote}\n")
    assert f"{share} sets a folder" in host.refusal()
    assert str(host.settings) in host.refusal()


# What systemd 252 makes of a line, seen there. What it drops, or puts together, is refused below.
_READ = [
    ("A=b", "b"),
    ("A='^(\\d+)_'", "^(\\d+)_"),
    (
        "A=x://u@h/d?sslmode=require&connect_timeout=5",
        "x://u@h/d?sslmode=require&connect_timeout=5",
    ),
    ("A='x y'  ", "x y"),
    ("  A=b c  ", "b c"),
    ("A=b # c", "b # c"),
    ('A="it\'s"', "it's"),
    ("A=$HOME/`id`", "$HOME/`id`"),
    ('A="$(id)"', "$(id)"),
    ("A=*", "*"),
    ("A=", ""),
    ("A=''", ""),
    ("A==b", "=b"),
    ("A='ä'", "ä"),
    ("A=1\nA=2", "2"),
    ("# it's\n; A=c\n\nA=b", "b"),
]
_REFUSED = [
    ("A=^(\\d+)_", "'value'"),
    ('A="^(\\d+)_"', "'value'"),
    ("A=b\\\nB=c", "'value'"),
    ("A='a'b'", "'value'"),
    ("A='a'b", "'value'"),
    ("A='b' # c", "'value'"),
    ("A=a'b", "'value'"),
    ('A="a"b"', "'value'"),
    ("A='", "'value'"),
    ("A='a\nb'", "'value'"),
    ("A= b", "'value'"),
    ("A = b", "NAME="),
    ("export A=b", "NAME="),
    ("A", "NAME="),
    ("1A=b", "NAME="),
    ("=b", "NAME="),
    ("A=b\r", "carriage return"),
    ("# c\\\nA=b", "backslash"),
]


@pytest.mark.parametrize(("line", "value"), _READ)
@pytest.mark.parametrize("end", ["", "\n"])
def test_settings_are_read_as_systemd_reads_them(
    host: _Host, line: str, value: str, end: str
) -> None:
    """Nothing is expanded, run or cut off: command and service have one value."""
    host.settings.write_text(f"{line}{end}", encoding="utf-8")
    assert host.has()["A"] == value


@pytest.mark.parametrize(("line", "why"), _REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(host: _Host, line: str, why: str) -> None:
    """In one line that says which it is and what would do; the value, maybe a password, is not."""
    host.settings.write_bytes(f"# first\nB='b'\n{line}\nC='c'\n".encode())
    told = host.refusal()
    assert told.startswith(f"lungwatch: {host.settings}, line 3: ")
    assert why in told


def test_settings_that_are_not_utf_8_are_refused(host: _Host) -> None:
    """For such a value systemd passes over the whole file."""
    host.settings.write_bytes(b"A=\xe4\n")
    assert "line 1: it is not UTF-8" in host.refusal()


def test_settings_that_are_shown_are_in_single_quotes(host: _Host) -> None:
    """The examples in lungwatch.env and in the documents are known, and read as they stand."""
    text = (UNITS / "lungwatch.env").read_text(encoding="utf-8")
    shown = re.findall(r"^# (LUNGWATCH_.*)$", text, re.MULTILINE)
    for head in documents.OF_A_SERVICE:
        found = documents.spans(documents.section(head))
        shown += [one for one in found if re.match(r"LUNGWATCH_\w+=", one)]
    assert len(shown) > 6
    host.settings.write_text("\n".join(shown), encoding="utf-8")
    has = host.has()
    for line in shown:
        example = re.fullmatch(r"LUNGWATCH_(\w+)='([^']+)'", line)
        assert example, line
        assert example[1].lower() in Settings.model_fields
        assert has[f"LUNGWATCH_{example[1]}"] == example[2]


@pytest.mark.parametrize("service", SERVICES)
def test_a_database_s_password_takes_sudo(host: _Host, service: str) -> None:
    """Whoever may not read the URL is told so, and not answered from an old SQLite file."""
    host.secret.write_text("postgresql+psycopg://u:pw@h/d\n", encoding="utf-8")
    assert host.has()["LUNGWATCH_DATABASE_URL"] == "postgresql+psycopg://u:pw@h/d"
    host.secret.parent.chmod(0)
    try:
        assert "sqlite" in host.has()["LUNGWATCH_DATABASE_URL"], "no unit has it"
        host.drop_in("postgres-password.conf", service)
        assert "use sudo" in host.refusal()
        # A drop-in that may not be read may say so as well.
        drop_in = host.drop_in("postgres-password.conf", service)
        drop_in.chmod(0)
        assert f"{drop_in} cannot be read: use sudo" in host.refusal()
        drop_in.chmod(0o644)
    finally:
        host.secret.parent.chmod(0o700)
    assert host.has()["LUNGWATCH_DATABASE_URL"] == "postgresql+psycopg://u:pw@h/d"


def test_settings_that_may_not_be_read_take_sudo(host: _Host) -> None:
    """They may say another database, or another inbox."""
    host.settings.write_text("A=b\n", encoding="utf-8")
    host.settings.chmod(0)
    assert f"{host.settings} cannot be read: use sudo" in host.refusal()


@pytest.mark.parametrize("name", ["lungwatch-retrain.timer", "lungwatch-drift.timer"])
def test_timers_keep_utc(name: str) -> None:
    """No night is left out or doubled when clocks are changed."""
    (when,) = _directives(name, "Timer")["OnCalendar"]
    assert when.endswith(" UTC")
    assert _analyze("calendar", when).returncode == 0
