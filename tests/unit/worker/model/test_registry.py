"""The models folder: what serves, how that changes, and what never changes it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import packages
import pytest

from worker.errors import LungwatchError, ModelPackageError, RegistryError, SettingsError
from worker.model.history import HISTORY, Kind
from worker.model.manifest import GOLDEN, MANIFEST, SERVED, Manifest, verify_files
from worker.model.registry import CHAMPION, ChampionChanged, Registry
from worker.model.runtime import load
from worker.service import factory
from worker.settings import Settings


@pytest.fixture
def registry(shipped: Path, tmp_path: Path) -> Registry:
    """Return a registry of two versions, `first` and `second`, where `first` serves."""
    root = tmp_path / "models"
    for version in ("second", "first"):
        packages.copy_package(shipped, root, version=version)
    registry = Registry(root)
    registry.promote("first")
    return registry


def test_a_reason_in_letters_of_another_terminal(registry: Registry) -> None:
    """It is kept as well as can be: what serves has its history."""
    registry.promote("second", why="caf\udce9")
    assert registry.history()[-1].why == "caf\\udce9"


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
    assert listing(registry.root) == {"first", "second", CHAMPION, HISTORY}


def test_a_reader_never_finds_half_a_champion(registry: Registry) -> None:
    """The old file lives on for whoever has it open: promotion replaces it, never writes in it."""
    with (registry.root / CHAMPION).open(encoding="ascii") as before:
        registry.promote("second")
        assert before.read() == "first\n"


def test_a_promotion_that_cannot_be_written_changes_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up in the middle leaves the old champion, and no trace of the attempt."""
    before = registry.history()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RegistryError, match="No space left"):
        registry.promote("second")
    assert registry.champion() == "first"
    assert listing(registry.root) == {"first", "second", CHAMPION, HISTORY}
    assert registry.history() == before


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_a_rollback_that_serves_keeps_its_line(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    """Ctrl-C, or a disk's trouble, just after the change: the night does not undo it again."""
    registry.promote("second")

    def fail(_folder: Path) -> None:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr("worker.system.files.fsync_folder", fail)
        with pytest.raises((KeyboardInterrupt, RegistryError)):
            registry.rollback(who="Ann", why="misses effusions")
    assert registry.champion() == "first"
    assert registry.history()[-1].kind is Kind.ROLLBACK
    assert not registry.may_promote("second")


@pytest.mark.parametrize("meanwhile", ["rollback", "promote"])
def test_what_a_person_says_while_a_promotion_is_made_ready_stands(
    registry: Registry, shipped: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Files are hashed for a while: who was to be replaced must serve still when that is done."""
    packages.copy_package(shipped, registry.root, version="third")
    registry.promote("second")

    def meddle(folder: Path, manifest: Manifest) -> None:
        monkeypatch.setattr("worker.model.registry.verify_files", verify_files)
        if meanwhile == "rollback":
            registry.rollback(who="Ann", why="misses effusions")
        else:
            registry.promote("first", who="Ann", why="misses effusions")
        verify_files(folder, manifest)

    monkeypatch.setattr("worker.model.registry.verify_files", meddle)
    with pytest.raises(ChampionChanged, match="first serves now"):
        registry.promote("third", instead_of="second")
    assert registry.champion() == "first"
    assert registry.history()[-1].who == "Ann"
    registry.promote("third", instead_of="first")
    assert registry.champion() == "third"


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


def test_what_a_killed_night_left_is_swept(registry: Registry) -> None:
    """And what one was removing; not what somebody has in hand, and no package."""
    versions = registry.versions()
    for name in (".staging-drawn-7", ".pruned-drawn-8", ".staging-drawn-9"):
        (registry.root / name).mkdir()
        (registry.root / name / "model.tflite").write_bytes(b"half")
    for name in (".staging-drawn-7", ".pruned-drawn-8"):
        os.utime(registry.root / name, (0, 0))
    registry.sweep()
    left = {path.name for path in registry.root.iterdir() if path.name.startswith(".")}
    assert left == {".staging-drawn-9"}
    assert registry.versions() == versions


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
    assert listing(registry.root) == {"shipped-1", CHAMPION, HISTORY}
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


def test_a_full_disk_at_the_first_start_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first cause in words, the setting's name, and nothing half-copied left to serve."""
    models = tmp_path / "var" / "models"
    settings = Settings(models=models)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(SettingsError, match=r"cannot be written \(No space left on device\)"):
        factory.open_registry(settings)
    assert listing(models) == set()


def test_workers_that_start_together_seed_one_registry(shop: Registry, tmp_path: Path) -> None:
    """Four workers on one empty registry: none fails, one package, one champion, no leftovers."""
    root = tmp_path / "models"
    code = (
        "import sys; from pathlib import Path; from worker.model.registry import Registry;"
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
    assert listing(root) == {"shipped-1", CHAMPION, HISTORY}
    assert len(Registry(root).history()) == 1, "one of them promoted it"


NOW = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_each_change_of_what_serves_has_its_line(registry: Registry) -> None:
    """The history tells what served from when, by whom and why, in the order it came about."""
    registry.promote("second", who="Ann", why="better on \u2265 500 films\nby far", now=NOW)
    registry.rollback(who="Bob", why="too many reviews", now=NOW + timedelta(days=1))
    first, second, third = registry.history()
    assert (first.kind, first.version, first.from_version) == (Kind.PROMOTE, "first", None)
    assert (second.kind, second.version, second.from_version) == (Kind.PROMOTE, "second", "first")
    assert (second.at, second.who, second.why) == (NOW, "Ann", "better on \u2265 500 films\nby far")
    assert (third.kind, third.version, third.from_version) == (Kind.ROLLBACK, "first", "second")
    assert third.at - second.at == timedelta(days=1)
    assert len((registry.root / HISTORY).read_bytes().splitlines()) == 3


def test_promoting_what_serves_tells_the_worker_and_adds_no_line(registry: Registry) -> None:
    """CHAMPION is replaced by its like, so that a worker that had refused it looks again."""
    before, inode = registry.history(), (registry.root / CHAMPION).stat().st_ino
    stamp = registry.champion_stamp()
    with (registry.root / CHAMPION).open("rb"):  # so that its inode is not given out again
        registry.promote("first")
        assert (registry.root / CHAMPION).stat().st_ino != inode
    assert registry.champion_stamp() != stamp
    assert registry.history() == before


def test_a_version_rolled_back_is_not_promoted_again(registry: Registry) -> None:
    """Neither the night nor a person gets it back by accident; a person who insists does."""
    registry.promote("second")
    assert registry.rollback(who="Ann", why="misses effusions").version == "first"
    assert not registry.may_promote("second")
    assert registry.may_promote("first")
    with pytest.raises(RegistryError, match=r"rolled back on .* by Ann \(misses effusions\)"):
        registry.promote("second")
    with pytest.raises(RegistryError, match="rolled back"):
        registry.rollback(to="second", who="Ann", why="")
    assert registry.champion() == "first"
    registry.promote("second", again=True)
    assert registry.champion() == "second"
    assert registry.may_promote("second")


def test_rolling_back_again_goes_further_back(registry: Registry, shipped: Path) -> None:
    """Each rollback goes to what served before, past versions rolled back, until there is none."""
    packages.copy_package(shipped, registry.root, version="third")
    registry.promote("second")
    registry.promote("third")
    went = [registry.rollback(who="Ann", why="worse").version for _ in range(2)]
    assert went == ["second", "first"]
    with pytest.raises(RegistryError, match="no earlier version"):
        registry.rollback(who="Ann", why="worse")
    assert registry.champion() == "first"
    assert {one for one in registry.versions() if not registry.may_promote(one)} == {
        "second",
        "third",
    }


@pytest.mark.parametrize(
    ("to", "told"),
    [("first", "serves already"), ("unknown", "no model unknown"), (None, "earlier")],
)
def test_a_rollback_to_nowhere_changes_nothing(
    registry: Registry, to: str | None, told: str
) -> None:
    """To what serves, to what is not there, or with nothing to go back to: refused."""
    before = registry.history()
    with pytest.raises(RegistryError, match=told):
        registry.rollback(to=to, who="Ann", why="")
    assert (registry.champion(), registry.history()) == ("first", before)


def test_a_line_cut_off_by_a_power_cut_harms_no_other(registry: Registry) -> None:
    """Whatever is left of a line is passed over; the next change gets a line of its own."""
    whole = (registry.root / HISTORY).read_bytes()
    registry.promote("second")
    line = (registry.root / HISTORY).read_bytes()[len(whole) :]
    for length in range(1, len(line)):
        (registry.root / HISTORY).write_bytes(whole + line[:length])
        registry.promote("first" if registry.champion() == "second" else "second")
        versions = [change.version for change in registry.history()]
        # Without its newline alone, the line is whole.
        assert len(versions) == (3 if length == len(line) - 1 else 2)
        assert versions[-1] == registry.champion()


def test_two_who_change_at_once_take_turns(registry: Registry) -> None:
    """Forty promotions by four processes: each has its line, whose `from` is the line before."""
    code = (
        "import sys; from pathlib import Path; from worker.model.registry import Registry;"
        "sys.stdin.readline(); registry = Registry(Path(sys.argv[1]));"
        "[registry.promote(one) for one in ('second', 'first') * 5]"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(registry.root)], stdin=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    for starter in starters:
        starter.communicate(timeout=60)
    assert [starter.returncode for starter in starters] == [0] * 4
    history = registry.history()
    assert [one.from_version for one in history[1:]] == [one.version for one in history[:-1]]
    assert registry.champion() == history[-1].version


def test_a_version_is_removed_whole(registry: Registry) -> None:
    """What is removed is gone, with nothing left; what serves is not, nor what is not there."""
    registry.remove("second")
    assert listing(registry.root) == {"first", CHAMPION, HISTORY}
    for version, told in (("first", "serves"), ("second", "no model second")):
        with pytest.raises(RegistryError, match=told):
            registry.remove(version)


def test_an_upgrades_model_arrives_as_a_challenger_once(registry: Registry, shop: Registry) -> None:
    """It is copied in, does not serve, and does not come back once it was pruned."""
    assert registry.adopt(shop) == "shipped-1"
    assert registry.champion() == "first"
    assert load(registry.folder("shipped-1")).manifest.version == "shipped-1"
    assert registry.may_promote("shipped-1")
    assert registry.adopt(shop) is None
    registry.remove("shipped-1")
    assert registry.adopt(shop) is None
    assert registry.versions() == ["first", "second"]
    with pytest.raises(RegistryError, match="no earlier version"):  # it never served
        registry.rollback(who="Ann", why="")


def test_a_broken_shipped_model_is_not_adopted(registry: Registry, shop: Registry) -> None:
    """It is checked like any other, leaves no trace, and what serves is left alone."""
    spoil_served(shop.folder("shipped-1"))
    with pytest.raises(ModelPackageError, match="shipped-1"):
        registry.adopt(shop)
    assert listing(registry.root) == {"first", "second", CHAMPION, HISTORY}
