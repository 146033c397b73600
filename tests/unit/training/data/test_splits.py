"""The salt that splits patients: made once, kept with the models, never changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from packages import change_manifest, copy_package

from training.data.dataset import read_dataset
from training.data.patients import Patients, read_pattern
from training.data.splits import SALT, Shares, keep_salt, side_of
from worker.errors import DataError, RegistryError
from worker.model.registry import Registry


def test_a_first_night_makes_a_salt_of_its_own(tmp_path: Path) -> None:
    """Two registries get two; each keeps its own from then on."""
    one, other = Registry(tmp_path / "one"), Registry(tmp_path / "other")
    salts = {keep_salt(one), keep_salt(other)}
    assert len(salts) == 2
    assert all(len(salt) >= 16 for salt in salts)
    assert {keep_salt(one), keep_salt(other)} == salts
    assert (tmp_path / "one" / SALT).read_text().strip() == keep_salt(one)


def test_a_salt_is_asked_for_where_there_is_none_yet(tmp_path: Path) -> None:
    """It is kept; asking again for it is no harm, asking for another stops."""
    registry = Registry(tmp_path)
    assert keep_salt(registry, "chosen") == "chosen"
    assert keep_salt(registry) == "chosen"
    assert keep_salt(registry, "chosen") == "chosen"
    with pytest.raises(DataError, match="holds another salt, and patients keep their sides"):
        keep_salt(registry, "other")
    assert (tmp_path / SALT).read_text() == "chosen\n"


def test_a_seeded_registry_takes_over_the_salt_of_its_model(tmp_path: Path, shipped: Path) -> None:
    """Patients that the model in service learnt from never test what follows it."""
    registry = Registry(tmp_path)
    registry.seed(Registry(shipped.parent))
    salt = registry.manifest(shipped.name).training["salt"]
    assert keep_salt(registry) == salt

    unsalted = tmp_path / "unsalted"
    unsalted.mkdir()
    folder = copy_package(shipped, unsalted, version=shipped.name)
    change_manifest(folder, training={})
    (unsalted / "CHAMPION").write_text(f"{shipped.name}\n")
    assert keep_salt(Registry(unsalted)) not in ("", salt)


def test_a_salt_that_is_damaged_is_never_made_anew(tmp_path: Path) -> None:
    """An empty or unreadable SALT stops the night: a new one would move every patient."""
    for bad in (b"", b"\n", b"\xff\xfe"):
        (tmp_path / SALT).write_bytes(bad)
        with pytest.raises(RegistryError, match=SALT):
            keep_salt(Registry(tmp_path), "other")
        assert (tmp_path / SALT).read_bytes() == bad


def test_the_salt_is_no_model(tmp_path: Path) -> None:
    """The registry does not take it for a version."""
    keep_salt(Registry(tmp_path))
    assert Registry(tmp_path).versions() == []


def test_names_that_are_no_utf8_name_patients_too(tmp_path: Path) -> None:
    """As an old system wrote them; every film of such a patient lies on one side."""
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / label).mkdir()
        for number in range(80):
            name = b"M\xfcller%d_%d_%s.jpeg" % (number // 2, number % 2, label[:1].encode())
            path = Path(os.fsdecode(os.fsencode(tmp_path / label) + b"/" + name))
            path.write_bytes(name)
    patients = Patients(pattern=read_pattern(r"^([^_]+)_"))
    dataset = read_dataset(tmp_path, salt="s", patients=patients)
    sides = {(scan.patient, scan.side) for scan in dataset.scans}
    assert len(dataset.scans) == 160
    assert len(sides) == 40
    assert "patient-M\udcfcller7" in {patient for patient, _ in sides}


def test_a_patient_lies_where_the_hash_of_the_name_says() -> None:
    """Nobody moves with a release: the bytes that are hashed are salt, colon and name."""
    shares = Shares(calibration=0.3, test=0.3)
    for patient in ("virus-7", "patient-Müller"):
        place = int.from_bytes(hashlib.sha256(f"s:{patient}".encode()).digest()[:8]) / 2**64
        side = "calibration" if place < 0.3 else "test" if place >= 0.7 else "train"
        assert side_of(patient, salt="s", shares=shares, has_owner_test=False) == side
