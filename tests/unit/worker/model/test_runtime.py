"""Model packages: which may serve, what they say of a film, and what is never said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import films
import numpy as np
import packages
import pytest
from pixels import read_for

from worker.errors import ModelPackageError, ReviewReason
from worker.imaging.preprocessing import PREPROCESSING_VERSION, Pixels
from worker.model.decision import REVIEW, Score, calibrate, judge
from worker.model.manifest import (
    GOLDEN,
    MANIFEST,
    NEGATIVE,
    POSITIVE,
    SERVED,
    Manifest,
    read_manifest,
)
from worker.model.runtime import Model, load


@pytest.fixture(scope="module")
def model(shipped: Path) -> Model:
    """Return the shipped model, loaded once."""
    return load(shipped)


@pytest.fixture
def package(shipped: Path, tmp_path: Path) -> Path:
    """Return a copy of the shipped package, to be spoilt."""
    return packages.copy_package(shipped, tmp_path, version="spoilt-1")


@pytest.fixture(scope="module")
def pixels(model: Model) -> list[Pixels]:
    """Return drawn films as the shipped model takes them."""
    return [
        read_for(model.manifest, films.jpeg(films.draw(seed, opacity=seed / 4))).pixels
        for seed in range(5)
    ]


def manifest(**changes: Any) -> Manifest:
    """Return a manifest with no package behind it: temperature 2, threshold 0.6, band 0.5-0.7."""
    facts: dict[str, Any] = {
        "format": 2,
        "version": "drawn-1",
        "created_at": "2026-01-01T00:00:00+00:00",
        "classes": (NEGATIVE, POSITIVE),
        "height": 96,
        "width": 96,
        "preprocessing_version": PREPROCESSING_VERSION,
        "temperature": 2.0,
        "threshold": 0.6,
        "review_band": (0.5, 0.7),
        "files": {name: {"sha256": "0" * 64, "size_bytes": 1} for name in (SERVED, GOLDEN)},
        "training": {},
        "libraries": {},
    }
    return Manifest.model_validate(facts | changes)


def logit_of(probability: float, temperature: float) -> float:
    """Return the logit that is calibrated to this probability."""
    return temperature * math.log(probability / (1 - probability))


def test_the_same_film_gets_the_same_answer(
    shipped: Path, model: Model, pixels: list[Pixels]
) -> None:
    """Screening the same pixels again gives the same probability, after other films, and anew."""
    first = [model.screen(film) for film in pixels]
    assert [model.screen(film) for film in reversed(pixels)] == first[::-1]
    assert [load(shipped).screen(film) for film in pixels] == first
    assert len({verdict.probability for verdict in first}) == len(first)


def test_the_evidence_sums_to_the_logit(model: Model, pixels: list[Pixels]) -> None:
    """The evidence map accounts for the whole of the score."""
    for film in pixels:
        output = model.predict(film)
        assert output.evidence.ndim == 2
        assert output.features.ndim == 1
        assert output.evidence.sum(dtype=np.float64) == pytest.approx(output.logit, abs=1e-3)


def test_an_output_outlives_the_next_film(model: Model, pixels: list[Pixels]) -> None:
    """What was said of one film does not change when the next is screened."""
    output = model.predict(pixels[0])
    evidence, features = output.evidence.copy(), output.features.copy()
    model.predict(pixels[-1])
    assert np.array_equal(output.evidence, evidence)
    assert np.array_equal(output.features, features)


def test_only_films_of_the_networks_size_are_taken(model: Model, pixels: list[Pixels]) -> None:
    """Pixels of another shape or type are an error, never quietly reshaped."""
    film = pixels[0]
    wrong: tuple[Any, ...] = (
        film[1:],
        film[:, :-1],
        film[np.newaxis],
        film.reshape(-1),
        film.astype(np.float32),
    )
    for other in wrong:
        with pytest.raises(ValueError, match=r"^expected"):
            model.predict(other)


@pytest.mark.parametrize(
    ("probability", "label", "decision"),
    [
        (0.01, NEGATIVE, NEGATIVE),
        (0.4999, NEGATIVE, NEGATIVE),
        (0.5001, NEGATIVE, REVIEW),
        (0.5999, NEGATIVE, REVIEW),
        (0.6001, POSITIVE, REVIEW),
        (0.6999, POSITIVE, REVIEW),
        (0.7001, POSITIVE, POSITIVE),
        (0.99, POSITIVE, POSITIVE),
    ],
)
def test_a_score_is_judged_by_threshold_and_band(
    probability: float, label: str, decision: str
) -> None:
    """The label is the threshold's side; within the band the decision is REVIEW, with a reason."""
    verdict = judge(Score(logit=logit_of(probability, temperature=2.0)), manifest())
    assert verdict.probability == pytest.approx(probability, abs=1e-12)
    assert (verdict.label, verdict.decision) == (label, decision)
    assert verdict.review_reason is (ReviewReason.NEAR_THRESHOLD if decision == REVIEW else None)
    sure = probability if label == POSITIVE else 1 - probability
    assert verdict.confidence == pytest.approx(sure, abs=1e-12)
    assert verdict.threshold == 0.6


@pytest.mark.parametrize(
    ("threshold", "band", "label", "decision"),
    [
        (0.5, (0.5, 0.5), POSITIVE, POSITIVE),
        (0.5, (0.5, 0.6), POSITIVE, REVIEW),
        (0.5, (0.4, 0.5), POSITIVE, POSITIVE),
        (math.nextafter(0.5, 1), (0.5, 0.6), NEGATIVE, REVIEW),
        (0.6, (math.nextafter(0.5, 1), 0.7), NEGATIVE, NEGATIVE),
    ],
)
def test_the_edges_belong_to_one_side(
    threshold: float, band: tuple[float, float], label: str, decision: str
) -> None:
    """At the threshold is PNEUMONIA; the band takes in its lower edge and not its upper one."""
    verdict = judge(Score(logit=0.0), manifest(threshold=threshold, review_band=band))
    assert verdict.probability == 0.5
    assert (verdict.label, verdict.decision) == (label, decision)


@pytest.mark.parametrize("logit", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_never_judged(logit: float) -> None:
    """A network gone wrong gives no label, no probability and no decision."""
    with pytest.raises(ModelPackageError, match=r"drawn-1.*not finite"):
        judge(Score(logit=logit), manifest())


@pytest.mark.parametrize(("logit", "certain"), [(1e30, 1.0), (-1e30, 0.0)])
def test_an_extreme_score_is_a_certain_one(logit: float, certain: float) -> None:
    """However far out a finite logit lies, its probability is one, without overflow."""
    assert judge(Score(logit=logit), manifest()).probability == pytest.approx(certain, abs=1e-300)


def test_calibration_is_the_logistic_of_the_tempered_logit() -> None:
    """A higher temperature says less with the same logit; the order of films stays."""
    logits = np.linspace(-30, 30, 61)
    cool, warm = calibrate(logits, 1.0), calibrate(logits, 3.0)
    assert np.all(np.diff(warm) > 0)
    assert np.all(np.abs(warm - 0.5) <= np.abs(cool - 0.5))
    assert np.allclose(np.log(warm / (1 - warm)), logits / 3.0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 3}, "format"),
        ({"preprocessing_version": "0"}, "preprocessing 0"),
        ({"preprocessing_version": "3"}, "preprocessing 3, this release knows 1, 2"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "1.0"}, "temperature"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": 0.9, "review_band": [0.1, 0.2]}, "review band"),
        ({"review_band": [0.9, 0.1]}, "review band"),
        ({"classes": ["NORMAL", "TUBERCULOSIS"]}, "classes"),
        ({"files": {}}, SERVED),
        ({"version": "../elsewhere"}, "version"),
        ({"height": 0}, "height"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    package: Path, changes: dict[str, Any], told: str
) -> None:
    """A newer format, other preprocessing, or impossible numbers: refused, saying which."""
    packages.change_manifest(package, **changes)
    with pytest.raises(ModelPackageError, match=told) as refused:
        load(package)
    assert package.name in str(refused.value)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"null", b"[]"])
def test_a_manifest_that_cannot_be_read_is_refused(package: Path, text: bytes) -> None:
    """An empty, cut or foreign manifest is a package that must not serve, never a crash."""
    (package / MANIFEST).write_bytes(text)
    with pytest.raises(ModelPackageError, match=MANIFEST):
        load(package)


def test_a_file_outside_the_package_is_never_named(package: Path) -> None:
    """A manifest cannot make anyone read a file elsewhere."""
    files = read_manifest(package).model_dump()["files"]
    packages.change_manifest(package, files=files | {"../other": files[SERVED]})
    with pytest.raises(ModelPackageError, match="plain file names"):
        load(package)


@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "grown", "one_bit", "a_folder"])
def test_every_file_of_a_package_is_calibration(package: Path, harm: str) -> None:
    """Whatever happens to whichever file, the package is refused and the message names the file."""
    for name in [*read_manifest(package).files, MANIFEST]:
        path = package / name
        data = path.read_bytes()
        path.unlink()
        if harm == "a_folder":
            path.mkdir()
        elif harm != "missing":
            middle = len(data) // 2
            path.write_bytes(
                {
                    "empty": b"",
                    "cut": data[:-1] if name != MANIFEST else data[:middle],
                    "grown": data + b"\0",
                    "one_bit": data[:middle] + bytes([data[middle] ^ 128]) + data[middle + 1 :],
                }[harm]
            )
        with pytest.raises(ModelPackageError, match=name):
            load(package)
        if harm == "a_folder":
            path.rmdir()
        path.write_bytes(data)
    assert load(package).manifest.version == "spoilt-1"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda golden: golden | {"logits": golden["logits"] + np.float32(0.1)}, "differs"),
        (lambda golden: golden | {"logits": golden["logits"] * np.float32("nan")}, "differs"),
        (lambda golden: golden | {"logits": golden["logits"][::-1]}, "differs"),
        (lambda golden: golden | {"inputs": 255 - golden["inputs"]}, "differs"),
        (lambda golden: golden | {"logits": golden["logits"][:-1]}, "no outputs to compare"),
        (
            lambda golden: {name: array[:0] for name, array in golden.items()},
            "no outputs to compare",
        ),
        (lambda golden: {"inputs": golden["inputs"]}, "cannot be read"),
        (lambda golden: golden | {"inputs": golden["inputs"][:, 1:]}, "does not fit"),
    ],
)
def test_a_package_that_fails_its_golden_outputs_is_refused(
    package: Path, spoil: Any, told: str
) -> None:
    """A network that does not answer as it did when it was packaged never serves."""
    golden = packages.golden_bytes(spoil(packages.read_golden(package)))
    packages.replace_file(package, GOLDEN, golden)
    with pytest.raises(ModelPackageError, match=told):
        load(package)


@pytest.mark.parametrize("name", [SERVED, GOLDEN])
@pytest.mark.parametrize("what", ["cut", "noise"])
def test_a_file_that_is_vouched_for_and_broken_is_refused(
    package: Path, name: str, what: str
) -> None:
    """A broken network or golden file is refused even where the manifest agrees with it."""
    data = (package / name).read_bytes()
    broken = {"cut": data[: len(data) // 2], "noise": np.random.default_rng(1).bytes(5000)}[what]
    packages.replace_file(package, name, broken)
    with pytest.raises(ModelPackageError, match=name):
        load(package)


def test_a_package_for_another_input_size_is_refused(package: Path) -> None:
    """A manifest whose size is not the network's is found out at load, not at the first film."""
    height = read_manifest(package).height
    packages.change_manifest(package, height=height + 32)
    golden = packages.read_golden(package)
    taller = np.pad(golden["inputs"], ((0, 0), (0, 32), (0, 0)))
    packages.replace_file(package, GOLDEN, packages.golden_bytes(golden | {"inputs": taller}))
    with pytest.raises(ModelPackageError, match="does not fit"):
        load(package)


def test_the_threshold_and_temperature_travel_with_the_package(
    shipped: Path, model: Model, pixels: list[Pixels], tmp_path: Path
) -> None:
    """The same weights under another temperature and threshold judge by these."""
    facts = {"temperature": 50.0, "threshold": 0.0, "review_band": [0.0, 0.0]}
    other = load(packages.copy_package(shipped, tmp_path, version="other-1", **facts))
    verdict = other.screen(pixels[0])
    assert verdict.logit == model.screen(pixels[0]).logit
    assert verdict.probability == pytest.approx(float(calibrate(np.float64(verdict.logit), 50.0)))
    assert (verdict.label, verdict.decision, verdict.threshold) == (POSITIVE, POSITIVE, 0.0)
