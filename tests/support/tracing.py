"""Faults put into system calls with strace: a kill, or an error, at a call of one's choice."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

# Where a kill between two of them could leave half a batch behind.
CRASH_POINTS = ("fsync", "fdatasync", "rename", "renameat2", "unlink", "pwrite64")


@cache
def _why_not() -> str:
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-qq", "true"], capture_output=True, text=True, check=False)
    return (
        f"this machine lets strace trace nothing: {done.stderr.strip()}" if done.returncode else ""
    )


def strace(log: Path, *, calls: tuple[str, ...], inject: str = "") -> list[str]:
    """Return the command that runs another under strace; skip where there is none.

    Args:
        log: where the calls are written.
        calls: the system calls to trace, and to inject into.
        inject: what to put into them, as strace writes it: `signal=SIGKILL:when=3`, counted in each
            process and of each name by itself.
    """
    if why := _why_not():
        pytest.skip(why)
    names = ",".join(calls)
    # The calls must be traced as well, or nothing is injected.
    command = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={names}"]
    return command + (["-e", f"inject={names}:{inject}"] if inject else [])


def calls_in(log: Path) -> list[str]:
    """Return the names of the calls in a log, in order."""
    told = log.read_text(encoding="utf-8", errors="replace")
    return re.findall(r"^\d+ +(\w+)\(", told, re.MULTILINE)


def most_of(log: Path, name: str) -> int:
    """Return how often the process that made a call most often made it, as `when=` counts."""
    told = log.read_text(encoding="utf-8", errors="replace")
    return max(Counter(re.findall(rf"^(\d+) +{name}\(", told, re.MULTILINE)).values(), default=0)


def injected(log: Path) -> int:
    """Return how many calls in a log were made to fail."""
    if not log.exists():
        return 0
    return log.read_text(encoding="utf-8", errors="replace").count("(INJECTED)")
