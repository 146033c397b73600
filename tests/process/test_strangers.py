"""Pictures that are no chest film, through the whole worker: refused, reviewed, on record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import films
import numpy as np
import pytest
from driver import Site
from packages import change_manifest, golden_bytes, read_golden, replace_file, with_limits
from pixels import read_for
from scans import manifest

from worker.errors import FilmRefused, ModelPackageError, RefusalCode, ReviewReason
from worker.imaging.preprocessing import Pixels
from worker.model.decision import REVIEW, Score, judge
from worker.model.manifest import GOLDEN, Manifest, read_manifest
from worker.model.registry import Registry
from worker.model.runtime import load

VERSION = "wary-1"


@pytest.fixture(scope="module")
def package(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a package to which drawn chests are familiar."""
    manifest = read_manifest(shipped)
    drawn = [films.jpeg(films.draw(n, width=200, height=170, opacity=n % 3 / 2)) for n in range(90)]
    pixels: Pixels = np.stack([read_for(manifest, one).pixels for one in drawn])
    return with_limits(shipped, tmp_path_factory.mktemp("wary"), pixels, version=VERSION)


def limited() -> Manifest:
    """Return a manifest with limits at 1 and 2, and no package behind it."""
    files = manifest().model_dump()["files"] | {
        "familiar.npz": {"sha256": "0" * 64, "size_bytes": 1}
    }
    return manifest(files=files, familiar={"review": 1.0, "refuse": 2.0})


@pytest.mark.parametrize(
    ("strangeness", "logit", "reason"),
    [
        (0.5, 9.0, None),
        (1.0, 9.0, None),
        (1.01, 9.0, ReviewReason.UNFAMILIAR),
        (2.0, 9.0, ReviewReason.UNFAMILIAR),
        (0.5, 0.5, ReviewReason.NEAR_THRESHOLD),
        (1.5, 0.5, ReviewReason.UNFAMILIAR),
    ],
)
def test_between_the_limits_is_review(
    strangeness: float, logit: float, reason: ReviewReason | None
) -> None:
    """An unfamiliar film is REVIEW for that reason, near the threshold or not."""
    verdict = judge(Score(logit=logit, strangeness=strangeness), limited())
    assert verdict.review_reason is reason
    assert (verdict.decision == REVIEW) == (reason is not None)
    assert verdict.strangeness == strangeness


def test_beyond_the_outer_limit_is_refused() -> None:
    """The refusal has code, measured value and limit."""
    with pytest.raises(FilmRefused) as refused:
        judge(Score(logit=9.0, strangeness=2.01), limited())
    assert refused.value.code is RefusalCode.NOT_A_CHEST_XRAY
    assert (refused.value.measured, refused.value.limit) == ("2.01", "2.0")


@pytest.mark.parametrize("strangeness", [None, float("nan"), float("inf"), -float("inf")])
def test_no_number_is_never_a_verdict(strangeness: float | None) -> None:
    """Where the package has limits and there is nothing to hold against them, nobody decides."""
    with pytest.raises(ModelPackageError, match="strangeness"):
        judge(Score(logit=9.0, strangeness=strangeness), limited())


@pytest.mark.parametrize("prevalence", [0.001, 0.1, 0.5, 0.9])
def test_prevalence_moves_the_numbers_and_no_decision(prevalence: float) -> None:
    """Probability and threshold move alike in log-odds; label and decision stay."""
    for logit in np.linspace(-12, 12, 97):
        score = Score(logit=float(logit))
        plain, here = judge(score, manifest()), judge(score, manifest(), prevalence=prevalence)
        assert (here.label, here.decision) == (plain.label, plain.decision)
        assert here.prevalence == prevalence
        by = np.log(prevalence / (1 - prevalence))
        for one, other in (
            (plain.probability, here.probability),
            (plain.threshold, here.threshold),
        ):
            moved = np.log(other / (1 - other)) - np.log(one / (1 - one))
            assert moved == pytest.approx(by, abs=1e-6)
        assert (here.label == "PNEUMONIA") == (here.probability >= here.threshold)
        sure = here.probability if here.label == "PNEUMONIA" else 1 - here.probability
        assert here.confidence == pytest.approx(sure)


def test_golden_strangeness_is_recomputed(package: Path) -> None:
    """A package whose strangeness is not what it was when it was made never serves."""
    assert load(package).familiar is not None
    golden = read_golden(package)
    for spoilt in (golden["strangeness"] * 1.2, golden["strangeness"] * np.float32("nan")):
        replace_file(package, GOLDEN, golden_bytes(golden | {"strangeness": spoilt}))
        with pytest.raises(ModelPackageError, match="strangeness"):
            load(package)
    replace_file(package, GOLDEN, golden_bytes(golden))
    change_manifest(package, format=1)
    with pytest.raises(ModelPackageError, match="format 2"):
        load(package)
    change_manifest(package, format=2)
    assert load(package).manifest.version == VERSION


def test_strangers_are_refused_and_chests_are_not(any_site: Site, package: Path) -> None:
    """Through the whole worker, the same bytes twice, at a site's prevalence, and rescored."""
    any_site.models.mkdir()
    shutil.copytree(package, any_site.models / VERSION)
    Registry(any_site.models).promote(VERSION)
    any_site.settings["PREVALENCE"] = "0.1"
    chest = films.jpeg(films.draw(7, width=200, height=170))
    noise = films.jpeg(np.random.default_rng(2).integers(0, 256, (300, 300)).astype(np.uint8))
    dropped = {"a.jpg": chest, "b.jpg": chest, "noise.jpg": noise, "again.jpg": noise}
    any_site.drop(dropped)
    any_site.call("run", "--once")
    any_site.check_invariants(dropped)
    rows = {row["file_name"]: row for row in any_site.results()}
    for name in ("a.jpg", "b.jpg"):
        assert rows[name]["refusal_code"] is None
        assert 0 < rows[name]["strangeness"] < 1.5
        assert rows[name]["prevalence"] == 0.1
    assert rows["a.jpg"]["strangeness"] == rows["b.jpg"]["strangeness"]
    assert sum(bool(rows[name]["reused"]) for name in ("a.jpg", "b.jpg")) == 1
    for name in ("noise.jpg", "again.jpg"):
        row = rows[name]
        assert row["refusal_code"] == "not_a_chest_xray"
        nulls = ("decision", "label", "probability", "threshold", "model_version", "strangeness")
        assert [row[column] for column in (*nulls, "prevalence")] == [None] * 7
        assert float(row["refusal_measured"]) > float(row["refusal_limit"])
        beside = any_site.refused / (row["filed_as"] + ".json")
        assert json.loads(beside.read_text())["refusal_code"] == "not_a_chest_xray"


def test_rescoring_says_which_films_would_be_refused(
    site: Site, shipped: Path, package: Path
) -> None:
    """A film that an older model without limits took in, and a new one refuses, is told."""
    for source in (shipped, package):
        shutil.copytree(source, site.models / source.name)
    Registry(site.models).promote(shipped.name)
    noise = films.jpeg(np.random.default_rng(2).integers(0, 256, (300, 300)).astype(np.uint8))
    site.drop({"chest.jpg": films.jpeg(films.draw(7, width=200, height=170)), "noise.jpg": noise})
    site.call("run", "--once")
    assert [row["strangeness"] for row in site.results()] == [None, None]
    told = site.call("rescore", "--model", VERSION, status=1)
    assert "refused now: The picture is not like a frontal chest X-ray" in told.stderr
    again = site.query("SELECT strangeness FROM predictions WHERE origin = 'rescore'")
    assert len(again) == 1
    assert again[0]["strangeness"] > 0
