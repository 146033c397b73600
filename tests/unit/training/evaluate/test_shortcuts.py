"""The class told without the lungs: found where it can be, not found where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import draw
from nights import draw_folder

from training.data.cache import FilmFile, decode_films
from training.data.native_sizes import Size, native_sizes, read_native_sizes
from training.data.sources import find_films
from training.data.splits import Shares, split
from training.evaluate.shortcuts import AuditedFilms, audit
from worker.model.evaluation import Shortcuts

COUNT = 300
CHANCE = 0.6  # from here on a class does follow from a trace


@pytest.fixture(scope="module")
def plain() -> AuditedFilms:
    """Return drawn films whose class is drawn by lot, as are their sizes and encoders."""
    rng = np.random.default_rng(0)
    sizes = [Size(int(w), int(h)) for w, h in rng.integers(1000, 2000, (COUNT, 2))]
    return AuditedFilms(
        pixels=np.stack([draw(seed, width=128, height=128) for seed in range(COUNT)]),
        truth=np.arange(COUNT) % 2 == 1,
        patients=[f"patient-{seed}" for seed in range(COUNT)],
        sizes=sizes,
        files=[_file(encoder) for encoder in rng.integers(4, size=COUNT).tolist()],
    )


def _file(encoder: int) -> FilmFile:
    table = bytes([0, *[encoder] * 64])
    return FilmFile(size=Size(128, 128), encoding=f"{encoder:08x}", quantisation=table.hex())


def _aucs(shortcuts: Shortcuts) -> dict[str, float]:
    return {name: one.auc for name, one in shortcuts.traces.items() if one.auc is not None}


def test_films_without_a_shortcut_have_none(plain: AuditedFilms) -> None:
    """Each trace is measured, and none tells the class; a person is told so."""
    shortcuts = audit(plain, seed=20)
    aucs = _aucs(shortcuts)
    assert aucs.keys() == {"size", "encoder", "grey_levels", "rim", "outside", "all"}
    assert max(aucs.values()) < CHANCE
    assert shortcuts.films == {"NORMAL": COUNT // 2, "PNEUMONIA": COUNT // 2}
    assert shortcuts.patients == COUNT
    assert "is hard to tell without the lungs" in shortcuts.in_words()


def _other_sizes(films: AuditedFilms) -> AuditedFilms:
    wide = [
        Size(2 * size.width, size.height) if size is not None and ill else size
        for size, ill in zip(films.sizes, films.truth, strict=True)
    ]
    return replace(films, sizes=wide)


def _other_encoders(films: AuditedFilms) -> AuditedFilms:
    return replace(films, files=[_file(int(one) * 4) for one in films.truth])


def _other_rims(films: AuditedFilms) -> AuditedFilms:
    pixels = films.pixels.copy()
    pixels[films.truth, 116:127, 40:127] = 240  # what a device prints below a film
    return replace(films, pixels=pixels)


def _ill(films: AuditedFilms) -> AuditedFilms:
    pixels = films.pixels.copy()
    lungs = pixels[films.truth, 40:90, 25:105]
    pixels[films.truth, 40:90, 25:105] = np.minimum(lungs, 175) + 80
    return replace(films, pixels=pixels)


@pytest.mark.parametrize(
    ("make", "told_by", "auc"),
    [
        (_other_sizes, {"size", "outside", "all"}, True),
        (_other_encoders, {"encoder"}, True),
        (_other_rims, {"grey_levels", "rim", "outside", "all"}, True),
        (_ill, {"grey_levels", "all"}, False),
    ],
)
def test_each_trace_sees_its_own_shortcut(
    plain: AuditedFilms,
    make: Callable[[AuditedFilms], AuditedFilms],
    told_by: set[str],
    *,
    auc: bool,
) -> None:
    """And no other trace does. Disease is no shortcut: it is not told without the lungs."""
    shortcuts = audit(make(plain), seed=20)
    aucs = _aucs(shortcuts)
    assert {name for name, one in aucs.items() if one > 0.9} == told_by
    assert {name for name, one in aucs.items() if one < CHANCE} == aucs.keys() - told_by
    assert ("can be told without the lungs (AUC 1.00)" in shortcuts.in_words()) is auc


def test_patients_are_left_out_whole() -> None:
    """Films that show whose they are do not show what their patient has."""
    rng = np.random.default_rng(1)
    rims = rng.integers(0, 256, (40, 64, 64)).astype(np.uint8)
    ill = rng.permutation(40) < 20
    whose = np.repeat(np.arange(40), 5)
    films = AuditedFilms(
        pixels=rims[whose],
        truth=ill[whose],
        patients=[f"patient-{one}" for one in whose],
        sizes=[None] * 200,
        files=[_file(1)] * 200,
    )
    apart = _aucs(audit(films, seed=1))
    together = _aucs(audit(replace(films, patients=[str(n) for n in range(200)]), seed=1))
    assert apart.keys() == {"grey_levels", "rim", "outside", "all"}
    assert max(apart.values()) < 0.7
    assert min(together.values()) > 0.9


def _first(films: AuditedFilms, count: int) -> AuditedFilms:
    return AuditedFilms(
        pixels=films.pixels[:count],
        truth=films.truth[:count],
        patients=films.patients[:count],
        sizes=films.sizes[:count],
        files=films.files[:count],
    )


def test_sizes_that_some_films_lack(plain: AuditedFilms) -> None:
    """The films whose size is known are measured, and counted."""
    films = _other_sizes(_first(plain, 120))
    films = replace(films, sizes=[None, None, None, *films.sizes[3:]])
    shortcuts = audit(films, seed=20)
    assert shortcuts.traces["size"].films == {"NORMAL": 58, "PNEUMONIA": 59}
    assert shortcuts.traces["all"].films == shortcuts.traces["size"].films
    assert shortcuts.traces["rim"].films == shortcuts.films
    assert (shortcuts.traces["size"].auc or 0) > 0.9
    shortcuts = audit(replace(films, sizes=[*films.sizes[:20], *[None] * 100]), seed=20)
    assert _aucs(shortcuts).keys() == {"encoder", "grey_levels", "rim", "outside", "all"}
    assert "native sizes are known of fewer than 50 films" in shortcuts.traces["size"].not_measured


@pytest.mark.parametrize("count", [0, 1, 12, 98])
def test_too_few_films_are_not_measured(plain: AuditedFilms, count: int) -> None:
    """A person is told why, in the words of a sentence."""
    shortcuts = audit(_first(plain, count), seed=20)
    assert _aucs(shortcuts) == {}
    assert shortcuts.auc is None
    assert all(trace.not_measured for trace in shortcuts.traces.values())
    assert "was not measured: fewer than 50 films" in shortcuts.in_words()


def test_too_few_patients_are_not_measured(plain: AuditedFilms) -> None:
    """All ill films of four patients, or all films of one class."""
    four = [f"{n % 4}" if plain.truth[n] else one for n, one in enumerate(plain.patients)]
    for films in (
        replace(plain, patients=four),
        replace(plain, truth=np.ones(COUNT, dtype=np.bool_)),
    ):
        assert _aucs(audit(films, seed=20)) == {}


def test_copies_of_one_size_and_encoder_say_why(plain: AuditedFilms) -> None:
    """The pixels are measured all the same."""
    films = replace(_first(plain, 120), sizes=[None] * 120, files=[_file(1)] * 120)
    shortcuts = audit(films, seed=20)
    assert _aucs(shortcuts).keys() == {"grey_levels", "rim", "outside", "all"}
    assert "--native-sizes" in shortcuts.traces["size"].not_measured
    assert "written in the same way" in shortcuts.traces["encoder"].not_measured


def _decoded(tree: Path, cache: Path, table: Path | None = None) -> AuditedFilms:
    scans = split(find_films([tree]).films, salt="lungwatch", shares=Shares())
    films = decode_films(scans, cache, height=128, width=128)
    listed = {} if table is None else read_native_sizes(table)
    return AuditedFilms.of(scans, films, native_sizes(scans, listed=listed, stored=films.sizes))


@pytest.mark.slow  # 4,632 films are decoded and learnt from
def test_the_public_films_are_told_without_their_lungs(data: Path, tmp_path: Path) -> None:
    """As well as others have measured it, on the copies of one size with their native sizes."""
    films = _decoded(data / "chest_xray" / "train", tmp_path, data / "native_sizes.csv")
    shortcuts = audit(films, seed=20)
    measured = {"size": 0.913, "grey_levels": 0.959, "rim": 0.965, "outside": 0.986, "all": 0.988}
    assert _aucs(shortcuts) == pytest.approx(measured, abs=0.02)
    assert "can be told without the lungs (AUC 0.99)" in shortcuts.in_words()


def test_the_public_originals_are_told_by_their_encoder(data: Path, tmp_path: Path) -> None:
    """No quantisation table is used for both classes."""
    shortcuts = audit(_decoded(data / "originals", tmp_path), seed=20)
    assert shortcuts.traces["encoder"].auc == pytest.approx(1.0, abs=0.02)


def test_films_are_chosen_by_their_content(tmp_path: Path) -> None:
    """Where there are more than are audited; what is known of a film stays with it."""
    draw_folder(tmp_path / "films", train=3, test=1)
    scans = split(find_films([tmp_path / "films"]).films, salt="lungwatch", shares=Shares())
    films = decode_films(scans, tmp_path / "cache", height=128, width=128)
    sizes = {scan.sha256: Size(1000 + n, 900) for n, scan in enumerate(scans)}
    chosen = sorted(scans, key=lambda scan: scan.sha256)[:4]
    audited = AuditedFilms.of(scans[::-1], films, sizes, most=4)
    np.testing.assert_array_equal(audited.pixels, films.select(chosen))
    assert audited.truth.tolist() == [scan.label == "PNEUMONIA" for scan in chosen]
    assert audited.patients == [scan.patient for scan in chosen]
    assert audited.sizes == [sizes[scan.sha256] for scan in chosen]
    assert audited.files == [films.files[scan.sha256] for scan in chosen]
