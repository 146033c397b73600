"""Is the night lost in the noise? Decoding into the cache, and an epoch, against bare loops.

    python tests/benchmarks/bench_night.py [--films N] [--rounds N] [--side PIXELS]

Decoding: `decode_films` into an empty cache, as on a first night, against a pool of processes,
up already, that do nothing but read and decode. An epoch: `Shuffled` films from the mapped cache
through Keras's `fit`, as a night calls it, against the compiled train step alone on batches that
are in memory already. The sides take turns; what is quoted is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as a night does

import numpy as np

from training.data.cache import _read, decode_films
from training.data.splits import LabelledScan, Side

# Processes that decode load this module too and no Keras, as in a night: imported where needed.


def main() -> None:
    """Measure both, and print each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--only", choices=["decoding", "epoch"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lungwatch-bench-") as name:
        folder = Path(name)
        if asked.only != "epoch":
            _decoding(folder, asked)
        if asked.only != "decoding":
            _epoch(asked)


def _compare(what: str, count: int, rounds: int, sides: dict[str, Callable[[], float]]) -> None:
    """Let two sides take turns; each returns its seconds for `count` films."""
    ratios = []
    for _ in range(rounds):
        rates = {name: count / side() for name, side in sides.items()}
        ours, bare = rates.values()
        ratios.append(ours / bare)
        told = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
        print(f"{what}, films/s: {told}; {ratios[-1]:.2f}", flush=True)
    print(f"{what}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def _decoding(folder: Path, asked: argparse.Namespace) -> None:
    from bench_worker import _write, pictures_at_hand

    films = _write(folder / "films", pictures_at_hand(), asked.films, "night")
    scans = [_scan(path) for path in films.iterdir()]
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.map(_decode, [(scan, asked.side) for scan in scans[: 32 * cores]], chunksize=16)

        def ours() -> float:
            shutil.rmtree(folder / "cache", ignore_errors=True)
            start = time.perf_counter()
            decode_films(scans, folder / "cache", height=asked.side, width=asked.side)
            return time.perf_counter() - start

        def bare() -> float:
            start = time.perf_counter()
            pool.map(_decode, [(scan, asked.side) for scan in scans], chunksize=32)
            return time.perf_counter() - start

        _compare("decoding", len(scans), asked.rounds, {"cache": ours, "bare loop": bare})


def _scan(path: Path) -> LabelledScan:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return LabelledScan(
        path=path,
        name=path.name,
        label="NORMAL",
        sha256=digest,
        patient=path.name,
        side=Side.TRAIN,
    )


def _decode(job: tuple[LabelledScan, int]) -> None:
    scan, side = job
    _read(scan.path, scan.sha256, height=side, width=side)


def _epoch(asked: argparse.Namespace) -> None:
    import keras

    from training.fit.batches import Examples, Shuffled
    from training.fit.memory import KeepFreedMemory
    from training.fit.network import Architecture, build_network
    from training.fit.trainer import Recipe, _compiled

    generator = np.random.default_rng(1)
    count = asked.films // 64 * 64
    pixels = generator.integers(0, 256, (count, asked.side, asked.side), dtype=np.uint8)
    examples = Examples(
        pixels=pixels,
        rows=np.arange(count),
        labels=(np.arange(count) % 2).astype(np.float32),
    )
    recipe = Recipe()
    batches = Shuffled(
        examples,
        batch=recipe.batch,
        seed=1,
        mixed_share=recipe.mixed_share,
        toned_share=recipe.toned_share,
    )
    architecture = Architecture.of(asked.side)
    trainee = _compiled(build_network(architecture), recipe, steps_per_epoch=len(batches))
    in_memory: list[Any] = [
        tuple(keras.ops.convert_to_tensor(part) for part in batches[position])
        for position in range(len(batches))
    ]

    ratios = []

    class Turns(keras.callbacks.Callback):  # type: ignore[misc] # keras has no types
        """Times an epoch of the fit, and then as many bare steps."""

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            del epoch, logs
            self._start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            del logs
            ours = count / (time.perf_counter() - self._start)
            start = time.perf_counter()
            for batch in in_memory:
                trainee.train_function(iter([batch]))
            bare = count / (time.perf_counter() - start)
            if epoch:  # the first compiles
                ratios.append(ours / bare)
                print(
                    f"an epoch, films/s: fit {ours:.0f}, train step {bare:.0f}; {ours / bare:.2f}"
                )

    trainee.fit(
        batches,
        epochs=1 + asked.rounds,
        shuffle=False,
        callbacks=[KeepFreedMemory(), Turns()],
        verbose=0,
    )
    print(f"an epoch: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
