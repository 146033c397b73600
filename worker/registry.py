"""The models folder: which packages there are, which one serves, and how that changes.

    models/
      CHAMPION              one line: the version that serves
      <version>/            a package, immutable once it has this name
      .staging-<version>/   a package being made; never read as one

`CHAMPION` is replaced by one atomic rename, so a reader sees the old version or the new one.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from pathlib import Path

from worker.errors import ModelPackageError, RegistryError
from worker.files import fsync_folder, write_atomically
from worker.model import MANIFEST, VERSION_PATTERN, Manifest, read_manifest, verify_files

CHAMPION = "CHAMPION"
_STAGING = ".staging-"


class Registry:
    """A models folder, by path. Holds no state: the folder is the truth."""

    def __init__(self, root: Path) -> None:
        """Name the folder. It is made when something is first put into it."""
        self.root = root

    def champion(self) -> str | None:
        """Return the version that serves, or None where none was ever promoted.

        Raises:
            RegistryError: the folder or its CHAMPION file cannot be read, or holds no version.
        """
        try:
            version = (self.root / CHAMPION).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryError(f"cannot read {self.root / CHAMPION}: {error}") from error
        if not re.fullmatch(VERSION_PATTERN, version):
            raise RegistryError(f"{self.root / CHAMPION} does not hold a version")
        return version

    def serving(self) -> str:
        """Return the version that serves.

        Raises:
            RegistryError: none was ever promoted, or it cannot be read which.
        """
        version = self.champion()
        if version is None:
            raise RegistryError(f"no model is promoted in {self.root}")
        return version

    def folder(self, version: str) -> Path:
        """Return where a version's package lies, whether or not it does."""
        return self.root / version

    def versions(self) -> list[str]:
        """Return the versions whose packages are complete enough to have a manifest, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.root.iterdir()
            if not entry.name.startswith(".") and (entry / MANIFEST).is_file()
        )

    def manifest(self, version: str) -> Manifest:
        """Return a version's manifest.

        Raises:
            RegistryError: there is no such version.
            ModelPackageError: there is, and it is not fit to be read.
        """
        if not self.folder(version).is_dir():
            raise RegistryError(f"no model {version} in {self.root}")
        manifest = read_manifest(self.folder(version))
        if manifest.version != version:
            raise ModelPackageError(f"{version}: its manifest says it is {manifest.version}")
        return manifest

    def stage(self, version: str) -> Path:
        """Make an empty folder to build a package in. Publish it, or leave it to be swept."""
        staging = self.root / f"{_STAGING}{version}"
        if self.folder(version).exists():
            raise RegistryError(f"model {version} exists already and never changes")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        return staging

    def publish(self, staging: Path, version: str) -> Path:
        """Give a staged package its name, once every byte of it is on disk.

        Raises:
            ModelPackageError: it does not agree with its own manifest.
        """
        manifest = read_manifest(staging)
        if manifest.version != version:
            raise ModelPackageError(f"{version}: its manifest says it is {manifest.version}")
        verify_files(staging, manifest)
        for name in [*manifest.files, MANIFEST]:
            with (staging / name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_folder(staging)
        staging.rename(self.folder(version))
        fsync_folder(self.root)
        return self.folder(version)

    def promote(self, version: str) -> None:
        """Make a version the champion. The running worker sees it and swaps.

        Raises:
            RegistryError, ModelPackageError: it is not there, or not whole.
        """
        verify_files(self.folder(version), self.manifest(version))
        write_atomically(self.root / CHAMPION, f"{version}\n".encode("ascii"))

    def seed(self, shipped: Registry) -> str | None:
        """Copy the shipped champion in where this registry has none. Return its version.

        A registry that has a champion is left alone: an upgrade is never a silent swap. Several
        workers may seed one registry at once.

        Raises:
            RegistryError, ModelPackageError: what is shipped is not there, or not whole.
        """
        version = shipped.champion()
        if self.champion() is not None or version is None:
            return None
        if version not in self.versions():
            shipped.manifest(version)
            staging = self.stage(f"{version}.{uuid.uuid4().hex}")
            shutil.copytree(shipped.folder(version), staging, dirs_exist_ok=True)
            try:
                self.publish(staging, version)
            except OSError:  # another worker was first: a folder's name is given once
                if version not in self.versions():
                    raise
                shutil.rmtree(staging)
        self.promote(version)
        return version
