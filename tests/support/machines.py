"""A small machine with a systemd of its own, to install services on: Debian in a container."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from driver import wait_for

_RELEASE = "bookworm"
_PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,make"


def why_not() -> str:
    """Return why no such machine can be had here; "" where it can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    for program in ("debootstrap", "systemd-nspawn", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return ""


def build(tree: Path) -> str:
    """Make a Debian with systemd in `tree`, and return why it could not be made; "" if it was."""
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _RELEASE, str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"debootstrap: {done.stdout[-500:]}{done.stderr[-500:]}"


@dataclass
class Machine:
    """A container that has booted."""

    tree: Path
    process: subprocess.Popen[bytes]
    leader: int  # its process 1, as it is called here

    def run(self, command: str, *, status: int | None = 0) -> str:
        """Run a shell command in it as root, check how it ended, and return what it said."""
        done = subprocess.run(
            [*self._inside, "/bin/sh", "-c", f"cd / && {command}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"},
        )
        assert status is None or done.returncode == status, f"{command}: {done.stdout}"
        return done.stdout

    @property
    def _inside(self) -> list[str]:
        namespaces = ("mount", "uts", "ipc", "net", "pid", "cgroup")
        return ["nsenter", f"--target={self.leader}", *(f"--{one}" for one in namespaces), "--"]

    def says(self, command: str, what: str) -> bool:
        """Whether a command, however it ends, says this."""
        return what in self.run(command, status=None)

    def power_off(self) -> int:
        """Shut it down in good order, and return the container's exit status."""
        self.run("systemctl poweroff", status=None)
        return self.process.wait(120)


@contextmanager
def booted(tree: Path, *, shows: dict[Path, str], log: Path) -> Iterator[Machine]:
    """Boot the tree; folders of this machine are shown there, and cannot be written to."""
    command = ["systemd-nspawn", "--directory", str(tree), "--boot", "--register=no"]
    command += ["--keep-unit", "--console=pipe", "--quiet"]
    command += [f"--bind-ro={folder}:{place}" for folder, place in shows.items()]
    with (
        log.open("wb") as told,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            leader = wait_for(lambda: _leader(process), what=f"it boots: {log}")
            machine = Machine(tree, process, leader)
            wait_for(
                lambda: (
                    machine.run("systemctl is-system-running", status=None).strip()
                    in ("running", "degraded")
                ),
                every=0.2,
                what=f"it is up: {log}",
            )
            yield machine
        finally:
            if process.poll() is None:
                process.terminate()


def _leader(process: subprocess.Popen[bytes]) -> int | None:
    assert process.poll() is None, "the container ended"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
    for child in map(int, children.split()):
        if Path(f"/proc/{child}/comm").read_text("ascii").strip() == "systemd":
            return child
    return None
