"""A model package on disk: manifest, load with self-check, predict, calibrated score, decision.

A package is a folder that never changes once it has its name. What the weights need to be read
rightly (class names, input size, temperature, threshold, review band) travels with them in
`manifest.json`; every other file is named there with its SHA-256. LiteRT is behind this door and
loaded only when a package is.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.errors import FilmRefused, ModelPackageError, RefusalCode, ReviewReason
from worker.familiar import FAMILIAR, Familiar
from worker.familiar import from_bytes as read_familiar
from worker.preprocessing import PREPROCESSING_VERSION, Pixels

FORMAT: Final = 2  # as new packages are written; 1 had no limits of the familiar
MANIFEST: Final = "manifest.json"
SERVED: Final = "model.tflite"
GOLDEN: Final = "golden.npz"
NEGATIVE: Final = "NORMAL"
POSITIVE: Final = "PNEUMONIA"
REVIEW: Final = "REVIEW"
VERSION_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
# On another CPU the same file may sum in another order and so round an activation the other way:
# at most 0.016 between LiteRT's kernels. A wrong model is off by whole logits.
_GOLDEN_TOLERANCE = 0.05
_SUM_TOLERANCE = 0.02  # between a logit and the sum of its evidence
_STRANGENESS_TOLERANCE = 0.05  # of the strangeness, or of 1 where that is less
_TIMED_FILMS = 5
BALANCE: Final = 0.5  # the prevalence that every package's probabilities are calibrated for

Floats = npt.NDArray[np.float32]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileFacts(_Strict):
    """What the manifest says of one other file of the package."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)


class FamiliarLimits(_Strict):
    """Two limits on `Familiar.strangeness`."""

    review: float = Field(gt=0, allow_inf_nan=False)  # REVIEW above this
    refuse: float = Field(gt=0, allow_inf_nan=False)  # refused above this

    @model_validator(mode="after")
    def _in_order(self) -> FamiliarLimits:
        if not self.review <= self.refuse:
            raise ValueError(f"review {self.review} lies beyond refuse {self.refuse}")
        return self


class Manifest(_Strict):
    """`manifest.json`: everything about a package that is not weights."""

    format: Literal[1, 2]
    version: str = Field(pattern=VERSION_PATTERN)
    created_at: str  # UTC, ISO 8601
    classes: tuple[str, str]  # in the order of training; aligned by name, never by position
    height: int = Field(gt=0)  # of the network's input, pixels
    width: int = Field(gt=0)
    preprocessing_version: str
    temperature: float = Field(gt=0, allow_inf_nan=False)
    threshold: Probability  # PNEUMONIA at this probability or above
    review_band: tuple[Probability, Probability]  # REVIEW from the first up to below the second
    familiar: FamiliarLimits | None = None  # None: nothing is too strange
    files: dict[str, FileFacts]
    training: dict[str, Any]  # data digest, counts, seed, split: for people and for the night
    libraries: dict[str, str]

    @model_validator(mode="after")
    def _hangs_together(self) -> Manifest:
        if set(self.classes) != {NEGATIVE, POSITIVE}:
            raise ValueError(f"classes must be {NEGATIVE} and {POSITIVE}, not {self.classes}")
        low, high = self.review_band
        if not low <= self.threshold <= high:
            raise ValueError(
                f"threshold {self.threshold} lies outside the review band {low}-{high}"
            )
        if not {SERVED, GOLDEN} <= self.files.keys():
            raise ValueError(f"files must name {SERVED} and {GOLDEN}")
        if self.familiar is not None and (self.format < 2 or FAMILIAR not in self.files):
            raise ValueError(f"limits of the familiar need format 2 and {FAMILIAR}")
        if any(Path(name).name != name or name == MANIFEST for name in self.files):
            raise ValueError("files must be plain names beside the manifest")
        return self


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one model says of one film. The row in `predictions`, less the keys."""

    logit: float  # the network's own, before calibration
    probability: float  # calibrated probability of PNEUMONIA, 0 to 1
    label: str  # the side of the threshold it lies on: NORMAL or PNEUMONIA
    confidence: float  # how probable that label is, 0 to 1
    decision: str  # the label, or REVIEW
    review_reason: ReviewReason | None
    threshold: float
    strangeness: float | None  # None where the package has no limits of the familiar
    prevalence: float  # of PNEUMONIA, that probability, confidence and threshold are for


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one version gives for some bytes: all that a verdict is made of."""

    logit: float
    strangeness: float | None = None  # None where the package has no limits of the familiar


@dataclass(frozen=True, kw_only=True)
class Output:
    """What the network gives for one film."""

    logit: float
    evidence: Floats  # (rows, columns): sums to the logit
    features: Floats  # (channels,): pooled, what the logit is a weighted sum of


def judge(score: Score, manifest: Manifest, *, prevalence: float | None = None) -> Verdict:
    """Turn a score into a calibrated probability, a label and a decision.

    The logit is divided by the package's temperature (Guo et al. 2017, *On Calibration of Modern
    Neural Networks*) and put through the logistic function. Label and decision are those of the
    package's own balance; `prevalence` then moves probability and threshold alike, so that the
    cut on the logit stays where it was chosen. A film that is unfamiliar is REVIEW for that
    reason, near the threshold or not: its probability says little then.

    Args:
        score: from `Model.score`, now or before.
        manifest: of the model that gave it.
        prevalence: of PNEUMONIA where the films come from, between 0 and 1; None for the
            package's own.

    Raises:
        ModelPackageError: a number is not finite, or the package has limits of the familiar and
            there is nothing to hold against them. Nothing is ever decided on such a one.
        FilmRefused: beyond the outer limit of the familiar.
    """
    logit, limits = score.logit, manifest.familiar
    if not math.isfinite(logit):
        raise ModelPackageError(f"model {manifest.version} gave a logit that is not finite")
    strange = limits is not None and _is_strange(score.strangeness, limits, manifest.version)
    probability = float(calibrate(np.float64(logit), manifest.temperature))
    positive = probability >= manifest.threshold
    label = POSITIVE if positive else NEGATIVE
    low, high = manifest.review_band
    reason = ReviewReason.NEAR_THRESHOLD if low <= probability < high else None
    if strange:
        reason = ReviewReason.UNFAMILIAR

    prior = BALANCE if prevalence is None else prevalence
    here = shift_prior(probability, prior)
    return Verdict(
        logit=logit,
        probability=here,
        label=label,
        confidence=here if positive else 1.0 - here,
        decision=label if reason is None else REVIEW,
        review_reason=reason,
        threshold=shift_prior(manifest.threshold, prior),
        strangeness=None if limits is None else score.strangeness,
        prevalence=prior,
    )


def _is_strange(strangeness: float | None, limits: FamiliarLimits, version: str) -> bool:
    """Whether a film lies between the two limits."""
    if strangeness is None or not math.isfinite(strangeness):
        raise ModelPackageError(f"model {version} gave a strangeness that is not finite")
    if not strangeness <= limits.refuse:
        raise FilmRefused(
            RefusalCode.NOT_A_CHEST_XRAY,
            f"The picture is not like a frontal chest X-ray: its strangeness is "
            f"{strangeness:.2f}, over the limit of {limits.refuse:.2f}.",
            measured=round(strangeness, 3),
            limit=round(limits.refuse, 3),
        )
    return not strangeness <= limits.review


def shift_prior(probability: float, prevalence: float) -> float:
    """Return what a probability for balanced classes is where PNEUMONIA has this prevalence.

    In log-odds it moves by the prevalence's (Saerens, Latinne and Decaestecker 2002, *Adjusting
    the Outputs of a Classifier to New a Priori Probabilities*).

    >>> shift_prior(0.5, 0.1)
    0.1
    >>> shift_prior(0.9, 0.5)
    0.9
    """
    if prevalence == BALANCE:
        return probability  # to the last digit
    positive, negative = probability * prevalence, (1 - probability) * (1 - prevalence)
    return positive / (positive + negative)


def calibrate(
    logits: np.float64 | npt.NDArray[np.floating[Any]], temperature: float
) -> npt.NDArray[np.float64]:
    """Logits of any shape to probabilities of PNEUMONIA (float64, same shape)."""
    # The clip keeps exp within range; a probability there is 0 or 1 to sixteen digits anyway.
    scaled = np.clip(np.asarray(logits, dtype=np.float64) / temperature, -700, 700)
    probabilities: npt.NDArray[np.float64] = 1.0 / (1.0 + np.exp(-scaled))
    return probabilities


def read_manifest(folder: Path) -> Manifest:
    """Read and validate a package's manifest alone. Cheap: no weights are opened.

    Raises:
        ModelPackageError: missing, not JSON, of another format, or inconsistent.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelPackageError(
            f"{folder.name}: cannot read {MANIFEST}: {error.strerror}"
        ) from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise ModelPackageError(f"{folder.name}: {MANIFEST}: {where}: {first['msg']}") from error
    if manifest.preprocessing_version != PREPROCESSING_VERSION:
        raise ModelPackageError(
            f"{folder.name}: made for preprocessing {manifest.preprocessing_version}, "
            f"this worker has {PREPROCESSING_VERSION}"
        )
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check every file of a package against the manifest's sizes and SHA-256.

    Raises:
        ModelPackageError: naming the first file that is missing or differs.
    """
    for name in manifest.files:
        _read_verified(folder, name, manifest)


def _read_verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    facts = manifest.files[name]
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise ModelPackageError(f"{folder.name}: cannot read {name}: {error}") from error
    if len(data) != facts.size_bytes or hashlib.sha256(data).hexdigest() != facts.sha256:
        raise ModelPackageError(f"{folder.name}: {name} is not the file the manifest names")
    return data


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep LiteRT's note on its delegate, which comes from below Python, off standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Network:
    """A served file in LiteRT: pixels in; logit, evidence map and features out."""

    def __init__(self, served: bytes) -> None:
        """Load a served file's bytes.

        Raises:
            ModelPackageError: it cannot be loaded, or its inputs or outputs are not ours.
        """
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - who predicts pays

        try:
            with _hushed():
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
    """A package loaded and checked: the one thing that predicts, in serving and in evaluation."""

    manifest: Manifest
    network: Network
    familiar: Familiar | None = None

    def predict(self, pixels: Pixels) -> Output:
        """Run the network on one film: (height, width) uint8. See `Network.predict`."""
        return self.network.predict(pixels)

    def score(self, pixels: Pixels) -> Score:
        """Predict one film, (height, width) uint8, and say how unlike the training films it is."""
        output = self.predict(pixels)
        return Score(logit=output.logit, strangeness=self.strangeness(pixels, output))

    def strangeness(self, pixels: Pixels, output: Output) -> float | None:
        """Return how unlike the training films a film is; None where the package cannot say."""
        if self.familiar is None:
            return None
        return self.familiar.strangeness(pixels, output.features)

    def screen(self, pixels: Pixels) -> Verdict:
        """Predict and judge one film: (height, width) uint8 to a verdict. See `judge`."""
        return judge(self.score(pixels), self.manifest)


def load(folder: Path, *, predict_seconds: float | None = None) -> Model:
    """Load a package, having checked all of it: hashes, then golden outputs recomputed.

    Args:
        folder: the package.
        predict_seconds: of processor time, that the network may take for a film; None for any.

    Raises:
        ModelPackageError: for whatever would make it unfit to serve.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    served = _read_verified(folder, SERVED, manifest)  # the very bytes that will serve
    try:
        familiar = None
        if manifest.familiar is not None:
            familiar = read_familiar(_read_verified(folder, FAMILIAR, manifest))
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
    """Return the processor time that the network takes for a film: the least of a few."""
    # Processor time, and the least: a busy machine does not make a model slow.
    pixels = np.full((model.manifest.height, model.manifest.width), 128, dtype=np.uint8)
    times = []
    for _ in range(_TIMED_FILMS):
        began = time.process_time()
        model.predict(pixels)
        times.append(time.process_time() - began)
    return min(times)


def _check_golden(folder: Path, model: Model) -> None:
    archive = io.BytesIO(_read_verified(folder, GOLDEN, model.manifest))
    try:
        with np.load(archive, allow_pickle=False) as golden:
            inputs, logits = golden["inputs"], golden["logits"]
            strange = golden["strangeness"] if model.familiar is not None else None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelPackageError(f"{folder.name}: {GOLDEN} cannot be read: {error}") from error
    counts = {len(logits), len(logits if strange is None else strange)}
    if len(inputs) == 0 or counts != {len(inputs)}:
        raise ModelPackageError(f"{folder.name}: {GOLDEN} holds nothing to check against")
    for row, (pixels, expected) in enumerate(zip(inputs, logits, strict=True)):
        try:
            output = model.predict(pixels)
            found = None if model.familiar is None else model.score(pixels).strangeness
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
        if found is not None and strange is not None:
            _check_strangeness(folder, found, float(strange[row]))


def _check_strangeness(folder: Path, found: float, expected: float) -> None:
    off = abs(found - expected) / max(1.0, expected)
    if not off <= _STRANGENESS_TOLERANCE:
        raise ModelPackageError(f"{folder.name}: golden strangeness differs by {off:.4g}")
