"""The models folder: what serves, how that changes, and what never changes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import packages
import pytest

from worker.errors import LungwatchError, ModelPackageError, RegistryError
from worker.model import GOLDEN, MANIFEST, SERVED, load
from worker.registry import CHAMPION, Registry


@pytest.fixture
def registry(shipped: Path, tmp_path: Path) -> Registry:
    """Return a registry of two versions, `first` and `second`, where `first` serves."""
    root = tmp_path / "models"
    for version in ("second", "first"):
        packages.copy_package(shipped, root, version=version)
    registry = Registry(root)
    registry.promote("first")
    return registry


@pytest.fixture
def shop(shipped: Path, tmp_path: Path) -> Registry:
    """Return what a release ships: a registry of one version, `shipped-1`, which serves."""
    root = tmp_path / "shop"
    packages.copy_package(shipped, root, version="shipped-1")
    registry = Registry(root)
    registry.promote("shipped-1")
    return registry


def listing(root: Path) -> set[str]:
    """Return the names in a folder, hidden ones too."""
    return {entry.name for entry in root.iterdir()}


def test_an_empty_place_has_no_models(tmp_path: Path) -> None:
    """A folder that is empty, or not there yet, has no versions and no champion, and no error."""
    for root in (tmp_path, tmp_path / "none"):
        assert Registry(root).champion() is None
        assert Registry(root).versions() == []


def test_promotion_changes_the_champion_and_leaves_nothing_behind(registry: Registry) -> None:
    """A promotion is one replaced file: the champion is the new version, and no temporary stays."""
    registry.promote("second")
    assert registry.champion() == "second"
    assert (registry.root / CHAMPION).read_text(encoding="ascii") == "second\n"
    assert listing(registry.root) == {"first", "second", CHAMPION}


def test_a_reader_never_finds_half_a_champion(registry: Registry) -> None:
    """The old file lives on for whoever has it open: promotion replaces it, never writes in it."""
    with (registry.root / CHAMPION).open(encoding="ascii") as before:
        registry.promote("second")
        assert before.read() == "first\n"


def test_a_promotion_that_cannot_be_written_changes_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up in the middle leaves the old champion and no temporary file."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        registry.promote("second")
    assert registry.champion() == "first"
    assert listing(registry.root) == {"first", "second", CHAMPION}


def spoil_served(folder: Path) -> None:
    """Change one byte of the network."""
    data = bytearray((folder / SERVED).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / SERVED).write_bytes(data)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("second", SERVED),
        ("unknown", "no model unknown"),
        ("misnamed", "says it is first"),
        ("unmade", MANIFEST),
        ("", "manifest"),
        ("../models/first", "says it is first"),
    ],
)
def test_what_is_not_fit_to_serve_is_not_promoted(
    registry: Registry, version: str, told: str
) -> None:
    """A version that is unknown, tampered with or misnamed is refused, and the champion stays."""
    spoil_served(registry.folder("second"))
    shutil.copytree(registry.folder("first"), registry.folder("misnamed"))
    registry.folder("unmade").mkdir()
    with pytest.raises(LungwatchError, match=told) as refused:
        registry.promote(version)
    assert isinstance(refused.value, RegistryError | ModelPackageError)
    assert registry.champion() == "first"


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"\n", b"\xff\xfe", b"../elsewhere", b"/etc", b".staging-x", b"two words", b"a\nb\n"],
)
def test_a_champion_file_of_rubbish_is_an_error(registry: Registry, rubbish: bytes) -> None:
    """What is no version is never taken for one, nor for "no champion yet"; promotion mends it."""
    (registry.root / CHAMPION).write_bytes(rubbish)
    with pytest.raises(RegistryError, match=CHAMPION):
        registry.champion()
    registry.promote("second")
    assert registry.champion() == "second"


def test_only_packages_are_versions(registry: Registry) -> None:
    """Staged folders, folders without a manifest and stray files are not among the versions."""
    (registry.root / "README.md").write_text("about", encoding="utf-8")
    registry.folder("unfinished").mkdir()
    staged = registry.stage("third")
    (staged / MANIFEST).write_text("{}", encoding="utf-8")
    assert registry.versions() == ["first", "second"]


def test_a_staged_package_is_published_whole(registry: Registry) -> None:
    """A package has no name until it is whole, and is fit to serve from then on."""
    staged = registry.stage("third")
    assert list(staged.iterdir()) == []
    shutil.copytree(registry.folder("first"), staged, dirs_exist_ok=True)
    packages.change_manifest(staged, version="third")
    assert "third" not in registry.versions()
    folder = registry.publish(staged, "third")
    assert folder == registry.folder("third")
    assert load(folder).manifest.version == "third"
    assert not staged.exists()


@pytest.mark.parametrize("harm", ["misnamed", "spoilt", "cut short", "no manifest"])
def test_a_staged_package_that_is_not_whole_gets_no_name(registry: Registry, harm: str) -> None:
    """Nothing is published that does not agree with its own manifest."""
    staged = registry.stage("third")
    shutil.copytree(registry.folder("first"), staged, dirs_exist_ok=True)
    if harm != "misnamed":
        packages.change_manifest(staged, version="third")
    if harm == "spoilt":
        spoil_served(staged)
    elif harm == "cut short":
        (staged / GOLDEN).unlink()
    elif harm == "no manifest":
        (staged / MANIFEST).unlink()
    with pytest.raises(ModelPackageError):
        registry.publish(staged, "third")
    assert registry.versions() == ["first", "second"]


def test_staging_again_starts_afresh(registry: Registry) -> None:
    """What a night that was cut off left in staging is not mixed into the next."""
    (registry.stage("third") / "left.bin").write_bytes(b"half")
    assert list(registry.stage("third").iterdir()) == []


def test_a_version_that_exists_is_never_made_again(registry: Registry) -> None:
    """A package never changes once it has its name."""
    with pytest.raises(RegistryError, match="exists already"):
        registry.stage("first")


def test_a_new_registry_is_seeded_with_what_is_shipped(shop: Registry, tmp_path: Path) -> None:
    """At first start the shipped champion is copied in, serves, and nothing else is left there."""
    registry = Registry(tmp_path / "var" / "models")
    assert registry.seed(shop) == "shipped-1"
    assert registry.champion() == "shipped-1"
    assert load(registry.folder("shipped-1")).manifest.version == "shipped-1"
    assert listing(registry.root) == {"shipped-1", CHAMPION}
    assert registry.seed(shop) is None


def test_a_registry_with_a_champion_is_left_alone(registry: Registry, shop: Registry) -> None:
    """An upgrade of the worker is never a silent swap of its model."""
    before = listing(registry.root)
    assert registry.seed(shop) is None
    assert registry.champion() == "first"
    assert listing(registry.root) == before


def test_a_registry_of_rubbish_is_not_seeded(registry: Registry, shop: Registry) -> None:
    """A champion file that cannot be read is for a person to look at, not to be replaced."""
    (registry.root / CHAMPION).write_bytes(b"\xff")
    with pytest.raises(RegistryError):
        registry.seed(shop)
    assert (registry.root / CHAMPION).read_bytes() == b"\xff"


def test_nothing_shipped_seeds_nothing(tmp_path: Path) -> None:
    """Where no model is shipped, seeding says so and makes no folder."""
    registry = Registry(tmp_path / "models")
    assert registry.seed(Registry(tmp_path / "shop")) is None
    assert not registry.root.exists()


@pytest.mark.parametrize("harm", ["spoilt", "gone"])
def test_a_broken_shipped_model_is_not_seeded(shop: Registry, tmp_path: Path, harm: str) -> None:
    """What is shipped is checked like any other package: broken or gone, it never serves."""
    if harm == "spoilt":
        spoil_served(shop.folder("shipped-1"))
    else:
        shutil.rmtree(shop.folder("shipped-1"))
    registry = Registry(tmp_path / "models")
    with pytest.raises(LungwatchError, match="shipped-1"):
        registry.seed(shop)
    assert registry.champion() is None
    assert registry.versions() == []


def test_workers_that_start_together_seed_one_registry(shop: Registry, tmp_path: Path) -> None:
    """Four workers on one empty registry: none fails, one package, one champion, no leftovers."""
    root = tmp_path / "models"
    code = (
        "import sys; from pathlib import Path; from worker.registry import Registry;"
        "sys.stdin.readline(); Registry(Path(sys.argv[1])).seed(Registry(Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(root), str(shop.root)]
    starters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    said = [starter.communicate(timeout=60)[1] for starter in starters]
    assert [starter.returncode for starter in starters] == [0] * 4, said
    assert Registry(root).champion() == "shipped-1"
    assert listing(root) == {"shipped-1", CHAMPION}
