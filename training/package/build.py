"""A fitted Keras network to a model package, through the registry's own doors.

The served file is made by TensorFlow's converter from the exported network; the golden outputs are
what LiteRT makes of that file, on inputs that are drawn here and belong to nobody.
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
    """What a package is made of before anything is measured on it."""

    served: bytes  # model.tflite
    continued: bytes  # model.keras, without the optimizer's state
    height: int  # of the input, pixels
    width: int
    version: str


def export(network: keras.Model, *, now: datetime) -> Exported:
    """Turn a network into the files that serve and that training continues from.

    Args:
        network: from `network.build_network`, fitted.
        now: UTC; its date begins the version's name, the served file's hash ends it.
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
    """Write a package beside its final place, the manifest last, and return the folder.

    Args:
        registry: where it is to go.
        exported: the network's files.
        point: the temperature, threshold and review band.
        training: data digest, counts, seed, split: for people and for the night.
        now: UTC.
        population: whose films it is tested on; not stated where not given.
        familiarity: what the training films look like, and the limits; none where not given.
        learnt: marks of the films that it has learnt from; none are kept where not given.

    Raises:
        RegistryError: there is a model of that version already.
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
    """Run a served file on films of (height, width) uint8, as serving will; return (n,) float32."""
    network = Network(served)
    return np.array([network.predict(film).logit for film in films], dtype=np.float32)


def golden_strangeness(served: bytes, written: bytes, films: Iterable[Pixels]) -> Logits:
    """Return what a served file and the array file beside it make of films, (n,) float32."""
    network, familiar = Network(served), read_familiar(written)
    strangeness = [familiar.strangeness(film, network.predict(film).features) for film in films]
    return np.array(strangeness, dtype=np.float32)


def draw_golden(height: int, width: int) -> Pixels:
    """Draw (n, height, width) uint8 pictures that exercise a network and show no patient.

    Two bright lungs' worth of ellipses on a gradient, with grain, each by its own seed.
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
    """Add files to a staged package and name them in its manifest, which is written last.

    Raises:
        RegistryError: a file of that name is there already.
    """
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    for name, data in files.items():
        if name in manifest.files or name == MANIFEST:
            raise RegistryError(f"{folder.name} has a {name} already")
        (folder / name).write_bytes(data)
    facts = {**manifest.files, **_facts(folder / name for name in files)}
    whole = manifest.model_copy(update={"files": facts})
    (folder / MANIFEST).write_text(whole.model_dump_json(indent=2) + "\n", encoding="utf-8")


def to_json(facts: Mapping[str, Any]) -> bytes:
    """Write facts as JSON at full float precision; a number that is not finite is an error."""
    return (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode("utf-8")


def _facts(paths: Iterable[Path]) -> dict[str, FileFacts]:
    facts = {}
    for path in paths:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        facts[path.name] = FileFacts(sha256=digest, size_bytes=len(data))
    return facts
