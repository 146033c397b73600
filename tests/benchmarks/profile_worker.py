"""`make profile`: flame graphs of the worker and of one of its screeners, while both are busy.

    python tests/benchmarks/profile_worker.py [--seconds S] [--database sqlite|postgres]

Draws var/bench/worker.svg, of Python's frames, and var/bench/screener.svg, with those of the
decoder and the resize, to be opened in a browser. The films are those of `make bench`. Where the
system lets nobody look into another process, root may.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from bench_worker import _FIGURE, _database, _site, _write, pictures_at_hand
from driver import wait_for

_RATE = 250  # samples a second
_FILMS_A_SECOND = 600  # more than are screened


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    asked = parser.parse_args()
    _FIGURE.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="lungwatch-bench-") as folder,
        _database(asked.database) as url,
    ):
        site = _site(Path(folder) / "site", url)
        _write(site.inbox, pictures_at_hand(), asked.seconds * _FILMS_A_SECOND, "profiled")
        worker = site.start()
        wait_for(lambda: site.finished() > _FILMS_A_SECOND // 4)
        screeners = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text("ascii")
        processes = {"worker": str(worker.pid), "screener": screeners.split()[0]}
        looking = [_look(pid, name, asked.seconds) for name, pid in processes.items()]
        seen = [process.wait() == 0 for process in looking]
        site.stop(worker)
    if not all(seen):
        raise SystemExit("py-spy could not look into a process: try it as root")
    for name in processes:
        print(f"drawn: {_FIGURE.with_name(name)}.svg")


def _look(pid: str, name: str, seconds: int) -> subprocess.Popen[bytes]:
    """Begin to sample a process into a picture."""
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", pid]
    command += ["--rate", str(_RATE), "--duration", str(seconds)]
    command += ["--native"] if name == "screener" else []  # slow, and of no use there
    picture = _FIGURE.with_name(f"{name}.svg")
    return subprocess.Popen([*command, "--output", str(picture)], stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
