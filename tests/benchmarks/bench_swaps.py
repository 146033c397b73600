"""How long a swap takes under load, and whether the worker grows over many.

    python tests/benchmarks/bench_swaps.py [--swaps 200] [--drop 2]

Promotes two versions in turn while films come all the time, and prints seconds from promotion to
service and, every tenth of the way, the worker's memory, descriptors and children.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from driver import Site
from films import batch
from packages import copy_package, without_limits
from swaps import check_rows_are_of_their_models, children, serves, wait_until_serving

from worker.model.registry import Registry

_MODELS = Path(__file__).resolve().parent.parent.parent / "models"


def main(swaps: int, drop: int) -> None:
    """Swap so often, and say what it cost."""
    shipped = Registry(_MODELS)
    serving = shipped.folder(shipped.serving())
    films = iter(batch(100 * swaps if drop else 0).items())
    dropped: dict[str, bytes] = {}
    took = []
    with tempfile.TemporaryDirectory() as folder:
        # Without limits of the familiar: the films are drawn.
        package = without_limits(serving, Path(folder) / "shipped")
        site = Site(Path(folder), settings={"SCREENERS": "2"})
        for version, temperature in (("one", 0.4), ("other", 1.4)):
            copy_package(package, site.models, version=version, temperature=temperature)
        registry = Registry(site.models)
        registry.promote("one")
        worker = site.start()
        try:
            wait_until_serving(site, "one")
            for number in range(1, swaps + 1):
                version = ("one", "other")[number % 2]
                registry.promote(version)
                began = time.monotonic()
                while not serves(site, version):
                    some = dict(islice(films, drop))
                    site.drop(some)
                    dropped |= some
                    time.sleep(0.02)
                took.append(time.monotonic() - began)
                if number % max(1, swaps // 10) == 0 or number == 1:
                    print(f"{number:4} swaps  {_measured(worker.pid)}", flush=True)
            site.wait_until_finished(len(dropped))
            site.stop(worker)
            site.check_invariants(dropped)
            check_rows_are_of_their_models(site, dropped)
        finally:
            site.end()
    print(
        f"seconds from promotion to service: median {statistics.median(took):.2f}, "
        f"longest {max(took):.2f}; {len(dropped)} films, each once, by the version it names"
    )


def _measured(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    megabytes = int(resident.split()[1]) / 1024
    return f"{megabytes:6.1f} MiB  {descriptors} descriptors  {len(children(pid))} children"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--drop", type=int, default=2, help="films dropped every 20 ms")
    asked = parser.parse_args()
    main(asked.swaps, asked.drop)
