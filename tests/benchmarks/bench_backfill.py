"""What an archive costs: `lungwatch backfill` on this machine's cores, and the same by way of Ray.

    python tests/benchmarks/bench_backfill.py [--films N] [--rounds N]

Both write to Postgres, whose server has the same cores, and take turns on films of full size, each
made unique by a comment segment. Timed is from the first tenth of the rows to the last, so that
what either needs to come up is left out, and told beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from bench_worker import _database, _site, _write, pictures_at_hand
from driver import Site, wait_for

_SIDES = {"local": (), "ray": ("--engine", "ray", "--address", "local")}


def main() -> None:
    """Let the two take turns, and print each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    ratios = []
    with (
        tempfile.TemporaryDirectory(prefix="lungwatch-bench-") as folder,
        _database("postgres") as url,
    ):
        site = _site(Path(folder) / "site", url)
        for number in range(asked.rounds):
            rates = {}
            for side, options in _SIDES.items():
                archive = Path(folder) / f"{side}-{number}"
                _write(archive, pictures_at_hand(), asked.films, f"{side} {number}")
                rates[side], first = _measure(site, archive, asked.films, options)
                print(
                    f"{side:>6}: {rates[side]:.0f} films/s, first row after {first:.1f} s",
                    flush=True,
                )
            ratios.append(rates["ray"] / rates["local"])
    print(f"ray to local: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def _measure(
    site: Site, archive: Path, count: int, options: tuple[str, ...]
) -> tuple[float, float]:
    """Return films a second, and how long the first row took."""
    before, start = site.finished(), time.monotonic()
    running = site.start(str(archive), *options, command="backfill")
    wait_for(lambda: site.finished() > before, every=0.02)
    first = time.monotonic()
    wait_for(lambda: site.finished() >= before + count // 10, every=0.02)
    began, done = time.monotonic(), site.finished()
    wait_for(lambda: site.finished() >= before + count, every=0.02, seconds=3600)
    rate = (before + count - done) / (time.monotonic() - began)
    if running.wait(120):
        raise SystemExit(site.log())
    return rate, first - start


if __name__ == "__main__":
    main()
