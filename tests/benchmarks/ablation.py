"""What each ingredient of the recipe gives: trained with one thing changed, seed beside seed.

    python tests/benchmarks/ablation.py --data TREE --runs FILE.jsonl [--cache DIR] [--epochs 8]
        [--side-pixels 96] [--seeds 0 1 2] [--native-sizes FILE.csv] [--only NAME ...]

Each seed leaves another fifth of the train side's patients out. A run is the recipe, short and of
few pixels where not told otherwise, with one thing changed; it is measured on the patients left
out, as they are, swapped and zoomed, and on the same films disturbed in every way that the card
names. The `test` folder is not looked at. The calibration side chooses the epoch, as in a night.
Runs are kept in FILE a line each, and those that are there are not done again. `KERAS_BACKEND=jax`
runs it on an accelerator. Prints a Markdown table: each change's difference from the recipe as it
stands, averaged over the seeds that both have, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as a night does

import keras

import training.fit.batches
import training.fit.network
import training.fit.trainer
from training.data.cache import decode_films
from training.data.dataset import Dataset, read_dataset
from training.data.native_sizes import Sizes, native_sizes, read_native_sizes
from training.data.splits import LabelledScan, Side
from training.evaluate.corruptions import DISTURBANCES
from training.evaluate.head_to_head import is_positive
from training.evaluate.metrics import Scores, auc
from training.evaluate.reframed import framing_of
from training.fit.augmentation import Labels
from training.fit.batches import Examples, Shuffled
from training.fit.calibration import CalibrationFilms
from training.fit.network import Architecture, build_network
from training.fit.trainer import Recipe, fit
from training.night.calibration import read_calibration_films
from worker.imaging.preprocessing import Pixels, resize

_FOLDS = 5
_MEASURED = ("as it is", "swapped", "zoomed", "robust", "disturbed")
Change = Callable[[keras.Model], None]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The recipe with one thing changed."""

    says: str
    architecture: Callable[[int], Architecture] = Architecture.of  # from pixels a side
    recipe: dict[str, Any] = field(default_factory=dict)
    augmentation: dict[str, float] = field(default_factory=dict)
    patched: Callable[[], AbstractContextManager[object]] = nullcontext
    prepare: Callable[[Pixels], Pixels] = lambda films: films  # a batch, (n, h, w) uint8


@contextmanager
def _without_averaging() -> Iterator[None]:
    """Let the averaged weights be those of the last step."""
    compiled = training.fit.trainer._optimizer

    def last_step(recipe: Recipe, *, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        optimizer = compiled(recipe, steps_per_epoch=steps_per_epoch)
        optimizer.ema_momentum = 0.0
        return optimizer

    with patch.object(training.fit.trainer, "_optimizer", last_step):
        yield


@contextmanager
def _as_they_come(*, weighed: bool) -> Iterator[None]:
    """Show each film once an epoch, in place of as many of either class."""
    drawn = Shuffled.__getitem__

    def turn_to(batches: Shuffled, epoch: int) -> None:
        batches._epoch = epoch
        generator = np.random.default_rng((batches._seed, epoch))
        batches._order = generator.permutation(len(batches._examples))

    def weigh(batches: Shuffled, position: int) -> tuple[Pixels, Labels, Labels]:
        films, labels = drawn(batches, position)
        chosen = batches._order[position * batches._batch :][: len(films)]
        weights = training.fit.batches.balance(batches._examples.labels)
        return films, labels, weights[chosen]

    with (
        patch.object(Shuffled, "turn_to", turn_to),
        patch.object(Shuffled, "__getitem__", weigh),
        nullcontext() if weighed else patch.object(training.fit.batches, "balance", np.ones_like),
    ):
        yield


def _mixup() -> AbstractContextManager[object]:
    """Mix whole films instead of rectangles: Zhang et al. 2018, with alpha 0.2."""

    def mix(films: Pixels, labels: Labels, generator: np.random.Generator) -> tuple[Pixels, Labels]:
        partner = generator.permutation(len(films))
        share = np.float32(generator.beta(0.2, 0.2))
        mixed = np.rint(films * share + films[partner] * (1 - share)).astype(np.uint8)
        return mixed, labels * share + labels[partner] * (1 - share)

    return patch.object(training.fit.batches, "cut_and_mix", mix)


def _not_standardised() -> AbstractContextManager[object]:
    """Give the network grey levels over the range, the same for all films."""

    def scale(_: object, films: Any) -> Any:
        return keras.ops.cast(films, "float32") / 64.0 - 2.0

    return patch.object(training.fit.network.Standardise, "call", scale)


def _group_norm() -> AbstractContextManager[object]:
    def normalise(*, momentum: float) -> keras.layers.Layer:
        del momentum
        return keras.layers.GroupNormalization(groups=8)

    return patch.object(keras.layers, "BatchNormalization", normalise)


def _equalise(films: Pixels) -> Pixels:
    return np.stack([np.asarray(ImageOps.equalize(Image.fromarray(film))) for film in films])


def _equalise_by_tiles(films: Pixels, *, tiles: int = 4, clip: float = 2.0) -> Pixels:
    """Equalise with limited contrast: Zuiderveld 1994, *Contrast Limited Adaptive Histogram* ..."""
    side = films.shape[1] // tiles
    at = (np.arange(films.shape[1]) + 0.5) / side - 0.5  # of each pixel, in tiles
    low = np.clip(np.floor(at).astype(int), 0, tiles - 1)
    high = np.clip(low + 1, 0, tiles - 1)
    share = np.clip(at - low, 0, 1)
    rows, columns = np.indices(films.shape[1:]) // side
    equalised = np.empty_like(films)
    for film, out in zip(films, equalised, strict=True):
        bins = (rows * tiles + columns).astype(int) * 256 + film
        counts = np.bincount(bins.ravel(), minlength=tiles**2 * 256).reshape(tiles, tiles, 256)
        limit = clip * side**2 / 256
        over = np.maximum(counts - limit, 0).sum(axis=-1, keepdims=True)
        levels = np.cumsum(np.minimum(counts, limit) + over / 256, axis=-1) * 255 / side**2

        def of_tiles(down: Any, across: Any, film: Any = film, levels: Any = levels) -> Any:
            return levels[down[:, None], across[None, :], film]

        above = of_tiles(low, low) * (1 - share) + of_tiles(low, high) * share
        below = of_tiles(high, low) * (1 - share) + of_tiles(high, high) * share
        out[:] = np.rint(above * (1 - share[:, None]) + below * share[:, None])
    return equalised


VARIANTS = {
    "as it stands": Variant(says="the recipe"),
    "margin": Variant(
        says="a tenth on each side not looked at, at the same cost",
        architecture=lambda side: Architecture(
            height=side * 5 // 4, width=side * 5 // 4, margin=side // 8
        ),
    ),
    "own histograms": Variant(says="no histograms of the other class", recipe={"toned_share": 0.0}),
    "not farther off": Variant(
        says="films in training never smaller than in screening", augmentation={"farther": 0.0}
    ),
    "edges not masked": Variant(
        says="no strips over the edges in training", augmentation={"edge": 0.0}
    ),
    "no CutMix": Variant(says="no films cut and mixed", recipe={"mixed_share": 0.0}),
    "mixup": Variant(says="mixup in place of CutMix, on as many batches", patched=_mixup),
    "smaller": Variant(
        says="32 pixels a side fewer: at 96, less than half the cost",
        architecture=lambda side: Architecture.of(side - 32),
    ),
    "larger": Variant(
        says="32 pixels a side more: at 96, 1.8 times the cost",
        architecture=lambda side: Architecture.of(side + 32),
    ),
    "exposure as it is": Variant(
        says="no gamma, contrast or brightness in training",
        augmentation={"gamma": 0.0, "contrast": 0.0, "brightness": 0.0},
    ),
    "moved less": Variant(
        says="stretched by 8 %, shifted by 3 %, not turned",
        augmentation={"degrees": 0.0, "stretch": 0.08, "closer": 0.0, "shift": 0.03},
    ),
    "moved more": Variant(says="each side stretched by up to 40 %", augmentation={"stretch": 0.4}),
    "not turned": Variant(says="not turned", augmentation={"degrees": 0.0}),
    "not shifted": Variant(says="stretched, but not shifted", augmentation={"shift": 0.0}),
    "wider": Variant(
        says="half as many channels again: 2.2 times the cost",
        architecture=lambda side: replace(
            Architecture.of(side), stem=24, stages=(48, 96, 192, 288)
        ),
    ),
    "narrower": Variant(
        says="half the channels: a quarter of the cost",
        architecture=lambda side: replace(Architecture.of(side), stem=8, stages=(16, 32, 64, 96)),
    ),
    "no smoothing": Variant(says="labels as they are", recipe={"label_smoothing": 0.0}),
    "no averaging": Variant(says="the last weights, not their average", patched=_without_averaging),
    "classes as they are": Variant(
        says="films as they come, classes weigh as many as there are",
        patched=partial(_as_they_come, weighed=False),
    ),
    "weighed": Variant(
        says="films as they come, classes weighed to the same",
        patched=partial(_as_they_come, weighed=True),
    ),
    "strided": Variant(
        says="every second pixel taken, not blurred first",
        architecture=lambda side: replace(Architecture.of(side), anti_aliased=False),
    ),
    "not standardised": Variant(says="grey levels as they are", patched=_not_standardised),
    "equalised": Variant(says="each film's histogram equalised first", prepare=_equalise),
    "group norm": Variant(says="in place of batch norm", patched=_group_norm),
    "equalised by tiles": Variant(
        says="4 x 4 tiles, contrast limited to 2 (CLAHE)", prepare=_equalise_by_tiles
    ),
}


def run(
    variant: Variant,
    dataset: Dataset,
    *,
    seed: int,
    epochs: int,
    side_pixels: int,
    cache: Path,
    listed: Sizes,
) -> dict[str, float]:
    """Train once, and return the AUC on patients left out, and the seconds it took."""
    architecture = variant.architecture(side_pixels)
    films = decode_films(dataset.scans, cache, height=architecture.height, width=architecture.width)
    kept = tuple(scan for scan in dataset.scans if scan.sha256 not in films.refused)
    dataset = replace(dataset, scans=kept)
    sizes = native_sizes(dataset.scans, listed=listed, stored=films.sizes)
    framing = framing_of(dataset.side(Side.TRAIN), sizes)
    out = [scan for scan in dataset.side(Side.TRAIN) if _fold(scan.patient) == seed % _FOLDS]
    learnt = [scan for scan in dataset.side(Side.TRAIN) if scan not in out]

    def three_ways(scans: list[LabelledScan], place: Path) -> CalibrationFilms:
        pixels = films.select(scans)
        found = read_calibration_films(scans, learnt, list(pixels), framing, seed=seed, place=place)
        given = found.examples
        prepared = variant.prepare(given.pixels[given.rows])
        rows = np.arange(len(prepared))
        return replace(found, examples=Examples(pixels=prepared, rows=rows, labels=given.labels))

    train = Examples(
        pixels=variant.prepare(films.select(learnt)),
        rows=np.arange(len(learnt)),
        labels=is_positive(learnt).astype(np.float32),
    )
    recipe = replace(Recipe(), epochs=epochs, seed=seed, **variant.recipe)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    with variant.patched(), tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        calibration = three_ways(dataset.side(Side.CALIBRATION), scratch / "calibration")
        fold = three_ways(out, scratch / "fold")
        network = build_network(architecture)
        network.get_layer("augmentation").limits.update(variant.augmentation)
        started = time.process_time()
        fit(network, train, calibration, recipe, scratch=scratch / "fit", say=_tell)
        took = time.process_time() - started
        found = fold.numbers(_logits(network, fold.examples.pixels), label_smoothing=0.0)
        truth, whole = is_positive(out), films.select(out)
        disturbed = [
            auc(truth, _logits(network, variant.prepare(_disturbed(name, whole)))).value
            for name in DISTURBANCES
        ]
        return {
            "as it is": found["val_auc"],
            **{name: found[f"val_{name}"] for name in ("swapped", "zoomed", "robust")},
            "disturbed": float(np.mean(disturbed)),
            "processor_seconds": took,
        }


def _fold(patient: str) -> int:
    return int.from_bytes(hashlib.sha256(f"ablation:{patient}".encode()).digest()[:8]) % _FOLDS


def _logits(network: keras.Model, pixels: Pixels) -> Scores:
    """Return (n,) logits of films, (n, h, w) uint8."""
    logits = network.predict(pixels[..., np.newaxis], batch_size=256, verbose=0)["logit"][:, 0]
    return np.asarray(logits, dtype=np.float64)


def _disturbed(name: str, films: Pixels) -> Pixels:
    disturbance, _ = DISTURBANCES[name]
    height, width = films.shape[1:]
    changed: list[npt.NDArray[np.uint8]] = []
    for number, film in enumerate(films):
        grey = disturbance(film, np.random.default_rng(number))
        changed.append(resize(grey, height=height, width=width))
    return np.stack(changed)


def table(runs: list[dict[str, Any]]) -> str:
    """Return the differences from the recipe as it stands, as Markdown."""
    found = {(one["name"], one["seed"]): one for one in runs}
    own = [found[key] for key in sorted(found) if key[0] == "as it stands"]
    lines = [
        f"| what is changed | seeds | {' | '.join(_MEASURED)} |",
        f"|---|---|{'---|' * len(_MEASURED)}",
        f"| nothing: AUC | {len(own)} | "
        + " | ".join(f"{np.mean([one[what] for one in own]):.4f}" for what in _MEASURED)
        + " |",
    ]
    for name, variant in VARIANTS.items():
        pairs = [(found[name, one["seed"]], one) for one in own if (name, one["seed"]) in found]
        if name != "as it stands" and pairs:
            cells = [
                _in_words([changed[what] - as_is[what] for changed, as_is in pairs])
                for what in _MEASURED
            ]
            lines.append(f"| {name}: {variant.says} | {len(pairs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _in_words(differences: list[float]) -> str:
    low, high = min(differences), max(differences)
    return f"{np.mean(differences):+.4f} ({low:+.4f} to {high:+.4f})"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Do the runs that are not done yet, seed by seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("var/cache"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--side-pixels", type=int, default=96)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--native-sizes", type=Path, help="of films that are smaller copies")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    chosen = parser.parse_args()
    dataset = read_dataset([chosen.data], salt="lungwatch")
    listed = read_native_sizes(chosen.native_sizes) if chosen.native_sizes else {}
    lines = chosen.runs.read_text().splitlines() if chosen.runs.exists() else []
    alike = {"epochs": chosen.epochs, "side_pixels": chosen.side_pixels}
    runs = [one for one in map(json.loads, lines) if alike.items() <= one.items()]
    done = {(one["name"], one["seed"]) for one in runs}
    for seed in chosen.seeds:
        for name in chosen.only:
            if (name, seed) in done:
                continue
            _tell(f"{name}, seed {seed}")
            measured = run(
                VARIANTS[name], dataset, seed=seed, cache=chosen.cache, listed=listed, **alike
            )
            runs.append({"name": name, "seed": seed, **alike, **measured})
            with chosen.runs.open("a") as kept:
                kept.write(json.dumps(runs[-1]) + "\n")
    print(table(runs))


if __name__ == "__main__":
    main()
