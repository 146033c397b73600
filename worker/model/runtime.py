"""Load a model package, check it, and predict with it. The only module that imports LiteRT.

LiteRT is imported when the first package is loaded. `manifest` describes packages, `decision` turns
scores into decisions.
"""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.errors import ModelPackageError
from worker.imaging.preprocessing import Pixels
from worker.model.decision import Score, Verdict, judge
from worker.model.familiarity import FAMILIAR, Familiar
from worker.model.familiarity import from_bytes as read_familiar
from worker.model.manifest import (
    GOLDEN,
    SERVED,
    Manifest,
    read_manifest,
    read_verified,
    verify_files,
)

# Another CPU may sum in another order and round an activation differently: LiteRT's kernels differ
# by 0.016 at most. A wrong model is off by whole logits.
_GOLDEN_TOLERANCE = 0.05
_SUM_TOLERANCE = 0.02  # between a logit and the sum of its evidence map
_STRANGENESS_TOLERANCE = 0.05  # relative for a strangeness above 1, else absolute
_TIMED_FILMS = 5

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Output:
    """The network's output for one film."""

    logit: float
    evidence: Floats  # (rows, columns): sums to the logit
    features: Floats  # (channels,): pooled; the logit is a weighted sum of them


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Suppress LiteRT's message about its delegate, which C code writes to standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Network:
    """A LiteRT model: pixels in; logit, evidence map and features out."""

    def __init__(self, served: bytes) -> None:
        """Load a model file from its bytes.

        Raises:
            ModelPackageError: it cannot be loaded, or has other inputs or outputs.
        """
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - slow to import

        try:
            with _quiet_stderr():
                self._interpreter = Interpreter(model_content=served, num_threads=1)
                self._interpreter.allocate_tensors()
            runner = self._interpreter.get_signature_runner("serving_default")
            (entry,) = self._interpreter.get_input_details()
            details: Mapping[str, Any] = runner.get_output_details()
            self._outputs = {
                name: details[name]["index"] for name in ("logit", "evidence", "features")
            }
        except (ValueError, RuntimeError, KeyError) as error:
            raise ModelPackageError(f"{SERVED} cannot be loaded: {error}") from error
        self._input = entry["index"]
        self._shape = tuple(int(side) for side in entry["shape"][1:3])

    def predict(self, pixels: Pixels) -> Output:
        """Run the network on one film.

        Args:
            pixels: (height, width) uint8, as `preprocessing.read_film` makes them.

        Raises:
            ValueError: the shape or dtype is not the network's input.
        """
        if pixels.shape != self._shape or pixels.dtype != np.uint8:
            raise ValueError(f"expected {self._shape} uint8, got {pixels.shape} {pixels.dtype}")
        self._interpreter.set_tensor(self._input, pixels[np.newaxis, :, :, np.newaxis])
        self._interpreter.invoke()
        return Output(
            logit=float(self._tensor("logit").reshape(())),
            evidence=self._tensor("evidence")[0, :, :, 0],
            features=self._tensor("features")[0],
        )

    def _tensor(self, name: str) -> Floats:
        tensor: Floats = self._interpreter.get_tensor(self._outputs[name])
        return tensor


@dataclass(frozen=True)
class Model:
    """A loaded and checked package. Worker and evaluation both predict with it."""

    manifest: Manifest
    network: Network
    familiar: Familiar | None = None

    def predict(self, pixels: Pixels) -> Output:
        """Run the network on one film: (height, width) uint8. See `Network.predict`."""
        return self.network.predict(pixels)

    def score(self, pixels: Pixels) -> Score:
        """Predict one film, (height, width) uint8, and measure its strangeness."""
        output = self.predict(pixels)
        return Score(logit=output.logit, strangeness=self.strangeness(pixels, output))

    def strangeness(self, pixels: Pixels, output: Output) -> float | None:
        """Return a film's strangeness; None if the package cannot measure it."""
        if self.familiar is None:
            return None
        return self.familiar.strangeness(pixels, output.features)

    def screen(self, pixels: Pixels) -> Verdict:
        """Predict and judge one film: (height, width) uint8 to a verdict. See `judge`."""
        return judge(self.score(pixels), self.manifest)


def load(folder: Path, *, predict_seconds: float | None = None) -> Model:
    """Load a package after checking its hashes and recomputing its golden outputs.

    Args:
        folder: the package.
        predict_seconds: the limit on processor time a film; None for no limit.

    Raises:
        ModelPackageError: it is not fit to serve, for any reason.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    served = read_verified(folder, SERVED, manifest)  # the very bytes that will serve
    try:
        familiar = None
        if manifest.familiar is not None:
            familiar = read_familiar(read_verified(folder, FAMILIAR, manifest))
        model = Model(manifest, Network(served), familiar)
    except ModelPackageError as error:
        raise ModelPackageError(f"{folder.name}: {error}") from error
    _check_golden(folder, model)
    if predict_seconds is not None:
        took = seconds_for_a_film(model)
        if not took <= predict_seconds:
            raise ModelPackageError(
                f"{folder.name}: the network takes {took * 1000:.1f} ms a film, "
                f"LUNGWATCH_PREDICT_MILLISECONDS allows {predict_seconds * 1000:g}"
            )
    return model


def seconds_for_a_film(model: Model) -> float:
    """Return the network's processor time for one film, in seconds: the minimum of a few runs."""
    # Processor time and the minimum, because a busy machine does not make a model slow.
    pixels = np.full((model.manifest.height, model.manifest.width), 128, dtype=np.uint8)
    times = []
    for _ in range(_TIMED_FILMS):
        began = time.process_time()
        model.predict(pixels)
        times.append(time.process_time() - began)
    return min(times)


def _check_golden(folder: Path, model: Model) -> None:
    archive = io.BytesIO(read_verified(folder, GOLDEN, model.manifest))
    try:
        with np.load(archive, allow_pickle=False) as golden:
            inputs, logits = golden["inputs"], golden["logits"]
            strange = golden["strangeness"] if model.familiar is not None else None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelPackageError(f"{folder.name}: {GOLDEN} cannot be read: {error}") from error
    counts = {len(logits), len(logits if strange is None else strange)}
    if len(inputs) == 0 or counts != {len(inputs)}:
        raise ModelPackageError(f"{folder.name}: {GOLDEN} holds no outputs to compare with")
    for row, (pixels, expected) in enumerate(zip(inputs, logits, strict=True)):
        try:
            output = model.predict(pixels)
            strangeness_now = None if model.familiar is None else model.score(pixels).strangeness
        except (ValueError, RuntimeError) as error:
            raise ModelPackageError(
                f"{folder.name}: {GOLDEN} does not fit the network: {error}"
            ) from error
        drift = abs(output.logit - float(expected))
        gap = abs(float(output.evidence.sum(dtype=np.float64)) - output.logit)
        # Written so that NaN fails.
        if not (drift <= _GOLDEN_TOLERANCE and gap <= _SUM_TOLERANCE):
            raise ModelPackageError(
                f"{folder.name}: golden output differs by {drift:.4g} "
                f"(evidence map from logit by {gap:.4g})"
            )
        if strangeness_now is not None and strange is not None:
            _check_strangeness(folder, strangeness_now, float(strange[row]))


def _check_strangeness(folder: Path, strangeness_now: float, expected: float) -> None:
    off = abs(strangeness_now - expected) / max(1.0, expected)
    if not off <= _STRANGENESS_TOLERANCE:
        raise ModelPackageError(f"{folder.name}: golden strangeness differs by {off:.4g}")
