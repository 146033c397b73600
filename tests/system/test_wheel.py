"""The wheel alone is enough: model and migrations are inside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import films
import pytest
from sqlalchemy import create_engine, text

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, and install it into a folder of its own, away from the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, str(REPOSITORY)], check=True)
    (wheel,) = folder.glob("lungwatch-*.whl")
    target = folder / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(target), wheel], check=True
    )
    return target


def test_it_screens_from_anywhere(installed: Path, tmp_path: Path) -> None:
    """A first start away from the clone makes the tables, takes the shipped model, and screens."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name, data in films.small_batch(2).items():
        (inbox / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "worker", "run", "--once"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with create_engine(f"sqlite:///{tmp_path}/var/lungwatch.db").connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM results")).scalar_one()
    assert count == 2


def test_it_brings_nothing_that_others_may_be_called(installed: Path) -> None:
    """Beside our two packages and what pip keeps, nothing lies in the environment."""
    found = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert found - {"bin", "__pycache__"} == {"training", "worker"}
