"""Writes a model package from a fitted Keras network, by way of the registry.

TensorFlow's converter makes the served file. The golden outputs are LiteRT's outputs of that file
for synthetic pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from training.data.seen_films import LEARNT, Marks, to_bytes
from training.evaluate.metrics import OperatingPoint
from training.fit.warm_start import CONTINUED
from training.package.familiarity import Familiarity
from training.package.tflite import to_files
from worker.errors import RegistryError
from worker.imaging.preprocessing import PREPROCESSING_VERSION, Pixels
from worker.model.familiarity import FAMILIAR
from worker.model.familiarity import from_bytes as read_familiar
from worker.model.manifest import (
    FORMAT,
    GOLDEN,
    MANIFEST,
    NEGATIVE,
    POSITIVE,
    SERVED,
    FileFacts,
    Manifest,
)
from worker.model.population import Population
from worker.model.registry import Registry
from worker.model.runtime import Network

_LIBRARIES = ("ai-edge-litert", "keras", "numpy", "pillow", "simplejpeg", "tensorflow")
_GOLDEN_FILMS = 6

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The files of a package before anything is measured."""

    served: bytes  # model.tflite
    continued: bytes  # model.keras, without the optimizer's state
    height: int  # of the input, pixels
    width: int
    version: str


def export(network: keras.Model, *, now: datetime) -> Exported:
    """Convert a network into the file that serves and the file that training continues from.

    Args:
        network: from `network.build_network`, fitted.
        now: UTC. The version is its date and the hash of the served file.
    """
    _, height, width, _ = network.input_shape
    served, continued = to_files(network)
    return Exported(
        served=served,
        continued=continued,
        height=height,
        width=width,
        version=f"{now:%Y%m%d}-{hashlib.sha256(served).hexdigest()[:8]}",
    )


def stage(
    registry: Registry,
    exported: Exported,
    point: OperatingPoint,
    *,
    training: Mapping[str, Any],
    now: datetime,
    population: Population | None = None,
    familiarity: Familiarity | None = None,
    learnt: Marks | None = None,
) -> Path:
    """Write a package to a staging folder, the manifest last, and return the folder.

    Args:
        registry: for the package.
        exported: the network's files.
        point: the temperature, threshold and review band.
        training: data digest, counts, seed, split: for people and for later nights.
        now: UTC.
        population: whose films it is tested on; None if not stated.
        familiarity: parameters and limits of strangeness; None for none.
        learnt: marks of the films the model was made from; None for none.

    Raises:
        RegistryError: this version exists already.
    """
    folder = registry.stage(exported.version)
    (folder / SERVED).write_bytes(exported.served)
    (folder / CONTINUED).write_bytes(exported.continued)
    if learnt is not None:
        (folder / LEARNT).write_bytes(to_bytes(learnt))
    inputs = draw_golden(exported.height, exported.width)
    golden = {"inputs": inputs, "logits": litert_logits(exported.served, inputs)}
    if familiarity is not None:
        written = familiarity.familiar.to_bytes()
        (folder / FAMILIAR).write_bytes(written)
        golden["strangeness"] = golden_strangeness(exported.served, written, inputs)
    np.savez_compressed(folder / GOLDEN, **golden)  # type: ignore[arg-type]
    low, high = point.review_band
    manifest = Manifest(
        format=FORMAT,
        version=exported.version,
        created_at=now.isoformat(timespec="seconds"),
        classes=(NEGATIVE, POSITIVE),
        height=exported.height,
        width=exported.width,
        preprocessing_version=PREPROCESSING_VERSION,
        temperature=point.temperature,
        threshold=point.threshold,
        review_band=(low, high),
        familiar=None if familiarity is None else familiarity.limits,
        files=_facts(sorted(folder.iterdir())),
        training=dict(training),
        libraries={name: library_version(name) for name in _LIBRARIES},
        population=population or Population(),
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return folder


def litert_logits(served: bytes, films: Iterable[Pixels]) -> Logits:
    """Run a served file on (height, width) uint8 films with LiteRT; return (n,) float32 logits."""
    network = Network(served)
    return np.array([network.predict(film).logit for film in films], dtype=np.float32)


def golden_strangeness(served: bytes, written: bytes, films: Iterable[Pixels]) -> Logits:
    """Return the strangeness of films by a served file and its array file, (n,) float32."""
    network, familiar = Network(served), read_familiar(written)
    strangeness = [familiar.strangeness(film, network.predict(film).features) for film in films]
    return np.array(strangeness, dtype=np.float32)


def draw_golden(height: int, width: int) -> Pixels:
    """Draw (n, height, width) uint8 pictures that exercise a network and show no patient.

    Ellipses on a gradient, with noise, each picture with its own seed.
    """
    rows = np.linspace(-1, 1, height)[:, np.newaxis]
    columns = np.linspace(-1, 1, width)[np.newaxis, :]
    pictures = []
    for seed in range(_GOLDEN_FILMS):
        generator = np.random.default_rng(seed)
        picture = 120 + 60 * generator.uniform(-1, 1) * rows + 60 * generator.normal() * columns
        for _ in range(2 + seed):
            y, x = generator.uniform(-0.7, 0.7, size=2)
            tall, wide = generator.uniform(0.15, 0.6, size=2)
            inside = ((rows - y) / tall) ** 2 + ((columns - x) / wide) ** 2 < 1
            picture = picture + np.where(inside, generator.uniform(-90, 90), 0)
        picture = picture + generator.normal(0, 2 + 4 * seed, size=(height, width))
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(pictures)


def add_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Add files to a staged package and to its manifest, which is written last.

    Raises:
        RegistryError: the package has a file of this name.
    """
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    for name, data in files.items():
        if name in manifest.files or name == MANIFEST:
            raise RegistryError(f"{folder.name} already has a {name}")
        (folder / name).write_bytes(data)
    facts = {**manifest.files, **_facts(folder / name for name in files)}
    whole = manifest.model_copy(update={"files": facts})
    (folder / MANIFEST).write_text(whole.model_dump_json(indent=2) + "\n", encoding="utf-8")


def to_json(facts: Mapping[str, Any]) -> bytes:
    """Return facts as JSON at full float precision; a number that is not finite is an error."""
    return (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode("utf-8")


def _facts(paths: Iterable[Path]) -> dict[str, FileFacts]:
    facts = {}
    for path in paths:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        facts[path.name] = FileFacts(sha256=digest, size_bytes=len(data))
    return facts
