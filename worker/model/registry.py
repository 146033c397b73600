"""The models folder: its packages, which one serves, and how that changes.

    models/
      CHAMPION              one line: the version that serves
      HISTORY               which version served when, by whom and why
      <version>/            a package, immutable under this name
      .staging-<version>/   a package being made; never loaded
      .pruned-<version>/    a package being removed; never loaded

`CHAMPION` is replaced by one atomic rename: a reader sees the old version or the new one.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import BinaryIO

from worker.errors import ModelPackageError, RegistryError
from worker.model.history import HISTORY, Change, Kind, add, changing, read_history, rolled_back
from worker.model.manifest import MANIFEST, VERSION_PATTERN, Manifest, read_manifest, verify_files
from worker.system.files import fsync_folder, write_atomically

CHAMPION = "CHAMPION"
_STAGING = ".staging-"
_PRUNED = ".pruned-"
_IN_HAND_SECONDS = 3600.0  # without a new file, a folder being made is abandoned


class Replaces(Enum):
    """What a promotion may replace, if not a named version or none."""

    WHATEVER_SERVES = auto()


class ChampionChanged(RegistryError):
    """Another version serves than the one to replace: someone changed the champion meanwhile."""


class Registry:
    """A models folder, by path. It holds no state of its own; the folder does."""

    def __init__(self, root: Path) -> None:
        """Set the folder. It is created on the first write."""
        self.root = root

    def champion(self) -> str | None:
        """Return the version that serves, or None if none was ever promoted.

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
            RegistryError: none was ever promoted, or CHAMPION cannot be read.
        """
        version = self.champion()
        if version is None:
            raise RegistryError(f"no model is promoted in {self.root}")
        return version

    def champion_stamp(self) -> object:
        """Return a value that changes whenever CHAMPION is replaced, even by the same version."""
        try:
            facts = (self.root / CHAMPION).stat()
        except OSError:
            return None
        return (facts.st_ino, facts.st_mtime_ns)

    def folder(self, version: str) -> Path:
        """Return the path of a version's package, whether it exists or not."""
        return self.root / version

    def versions(self) -> list[str]:
        """Return the versions whose packages have a manifest, sorted.

        Raises:
            RegistryError: the folder cannot be listed.
        """
        with self._looking():
            if not self.root.is_dir():
                return []
            return sorted(
                entry.name
                for entry in self.root.iterdir()
                if not entry.name.startswith(".") and (entry / MANIFEST).is_file()
            )

    def has(self, version: str) -> bool:
        """Whether there is a package folder of this version, valid or not.

        Raises:
            RegistryError: the folder cannot be listed.
        """
        with self._looking():
            return self.folder(version).is_dir()

    @contextmanager
    def _looking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RegistryError(f"cannot list {self.root}: {error.strerror}") from error

    def manifest(self, version: str) -> Manifest:
        """Return a version's manifest.

        Raises:
            RegistryError: there is no such version.
            ModelPackageError: its package or manifest is not valid.
        """
        if not self.has(version):
            raise RegistryError(f"no model {version} in {self.root}")
        manifest = read_manifest(self.folder(version))
        if manifest.version != version:
            raise ModelPackageError(f"{version}: its manifest says it is {manifest.version}")
        return manifest

    def stage(self, version: str) -> Path:
        """Make an empty folder to build a package in. `sweep` removes it if it is not published."""
        staging = self.root / f"{_STAGING}{version}"
        if self.folder(version).exists():
            raise RegistryError(f"model {version} exists already and cannot be changed")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        return staging

    def publish(self, staging: Path, version: str) -> Path:
        """Verify and fsync a staged package, then rename it to its version.

        Raises:
            ModelPackageError: it does not match its manifest.
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

    def sweep(self) -> None:
        """Remove what killed processes left half made or half removed, unless it is recent."""
        for folder in self.root.glob(".*-*"):
            if not folder.name.startswith((_STAGING, _PRUNED)):
                continue
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _IN_HAND_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    # What serves

    def history(self) -> list[Change]:
        """Return every change of what serves, oldest first.

        Raises:
            RegistryError: the history cannot be read.
        """
        try:
            return read_history(self.root)
        except OSError as error:
            raise RegistryError(f"cannot read {self.root / HISTORY}: {error}") from error

    def rejected(self, version: str) -> Change | None:
        """Return the rollback of a version, if it was rolled back."""
        return rolled_back(self.history(), version)

    def may_promote(self, version: str) -> bool:
        """Whether a version may be promoted without a person: it was not rolled back."""
        return self.rejected(version) is None

    def promote(
        self,
        version: str,
        *,
        who: str = "",
        why: str = "",
        again: bool = False,
        instead_of: str | Replaces | None = Replaces.WHATEVER_SERVES,
        now: datetime | None = None,
    ) -> None:
        """Make a version the champion. A running worker notices and loads it.

        Promoting the version that serves changes nothing, but makes a worker that refused it try
        again.

        Args:
            version: the version to promote.
            who: who decided, for the history.
            why: the reason, for the history.
            again: promote it even if it was rolled back; only a person may decide this.
            instead_of: the version that must serve until then; None if none may.
            now: UTC; by default the present.

        Raises:
            ChampionChanged: another version serves than `instead_of`.
            RegistryError: no such version, it was rolled back, or the folder is not writable.
            ModelPackageError: the package is not valid.
        """
        verify_files(self.folder(version), self.manifest(version))
        with self._changing() as file:
            if instead_of is not Replaces.WHATEVER_SERVES and self.champion() != instead_of:
                raise ChampionChanged(f"{self.champion() or 'no model'} serves now")
            rollback = self.rejected(version)
            if rollback is not None and not again:
                raise RegistryError(
                    f"{version} was rolled back on {rollback.at:%Y-%m-%d} by {rollback.who or '?'} "
                    f"({rollback.why}) and is not promoted again"
                )
            self._serve(file, self._change(Kind.PROMOTE, version, who=who, why=why, now=now))

    def rollback(
        self, *, to: str | None = None, who: str, why: str, now: datetime | None = None
    ) -> Change:
        """Make an earlier version the champion. The present one is then rolled back.

        Args:
            to: the version; by default the last one before the present that may still serve.
            who: who decided.
            why: the reason.
            now: UTC; by default the present.

        Raises:
            RegistryError: no such version, or it was rolled back itself.
            ModelPackageError: the package is not valid.
        """
        champion = self.serving()
        version = to or self._earlier(champion)
        verify_files(self.folder(version), self.manifest(version))
        with self._changing() as file:
            if self.serving() != champion:
                raise RegistryError(f"{self.serving()} was promoted meanwhile: try again")
            if version == champion:
                raise RegistryError(f"{version} serves already")
            if not self.may_promote(version):
                raise RegistryError(f"{version} was itself rolled back")
            change = self._change(Kind.ROLLBACK, version, who=who, why=why, now=now)
            return self._serve(file, change)

    def _earlier(self, champion: str) -> str:
        """Return the version that served last before the champion, and may be promoted."""
        there = set(self.versions()) - {champion}
        for change in reversed(self.history()):
            if change.kind is Kind.SHIPPED:
                continue
            for version in (change.version, change.from_version):
                if version in there and self.may_promote(str(version)):
                    return str(version)
        raise RegistryError("there is no earlier version to roll back to: name one with --to")

    def _serve(self, file: BinaryIO, change: Change) -> Change:
        """Record a change, then replace CHAMPION: every champion has its line in the history."""
        if change.version != change.from_version:
            add(file, change)
        write_atomically(self.root / CHAMPION, f"{change.version}\n".encode("ascii"))
        return change

    def _change(
        self, kind: Kind, version: str, *, who: str, why: str, now: datetime | None
    ) -> Change:
        try:
            before = self.champion()
        except RegistryError:  # a promotion replaces an invalid CHAMPION
            before = None
        return Change(
            at=now or datetime.now(UTC),
            kind=kind,
            version=version,
            from_version=before,
            who=who,
            why=why.encode(errors="backslashreplace").decode(),  # whatever a terminal sent
        )

    @contextmanager
    def _changing(self) -> Iterator[BinaryIO]:
        """Lock the registry against changes by other processes."""
        try:
            with changing(self.root, serves=self._serves) as file:
                yield file
        except OSError as error:
            raise RegistryError(f"{self.root} cannot be changed: {error.strerror}") from error

    def _serves(self, version: str) -> bool:
        try:
            return self.champion() == version
        except RegistryError:
            return False

    def remove(self, version: str) -> None:
        """Delete a package. The caller checks that it is not needed.

        Raises:
            RegistryError: it serves, does not exist, or cannot be removed.
        """
        with self._changing():
            if version == self.champion():
                raise RegistryError(f"{version} serves: it cannot be removed")
            if version not in self.versions():
                raise RegistryError(f"no model {version} in {self.root}")
            aside = self.root / f"{_PRUNED}{version}"
            shutil.rmtree(aside, ignore_errors=True)
            self.folder(version).rename(aside)
            fsync_folder(self.root)
            shutil.rmtree(aside)

    # Shipped models

    def seed(self, shipped: Registry) -> str | None:
        """Copy the shipped champion into a registry that has none, and return its version.

        A registry with a champion stays as it is: an upgrade never changes the model silently.
        Several workers may do this at once.

        Raises:
            RegistryError, ModelPackageError: the shipped package is missing or not valid.
        """
        version = shipped.champion()
        if self.champion() is not None or version is None:
            return None
        self._copy_in(shipped, version)
        why = "shipped; there was no other model"
        with self._changing() as file:
            if self.champion() is None:  # else another worker was first
                change = self._change(Kind.PROMOTE, version, who="lungwatch", why=why, now=None)
                self._serve(file, change)
        return version

    def adopt(self, shipped: Registry) -> str | None:
        """Copy the shipped champion in as a challenger, once, and return its version if copied.

        A version that was here before and was pruned is not copied again.

        Raises:
            RegistryError, ModelPackageError: the shipped package is not valid or cannot be copied.
        """
        version = shipped.champion()
        known = {change.version for change in self.history()} | set(self.versions())
        if version is None or version in known:
            return None
        self._copy_in(shipped, version)
        with self._changing() as file:
            if any(change.version == version for change in self.history()):
                return None  # another worker was first
            why = "came with an upgrade; not promoted yet"
            add(file, self._change(Kind.SHIPPED, version, who="lungwatch", why=why, now=None))
        return version

    def _copy_in(self, shipped: Registry, version: str) -> None:
        if version in self.versions():
            return
        source, manifest = shipped.folder(version), shipped.manifest(version)
        verify_files(source, manifest)
        staging = self.stage(f"{version}.{uuid.uuid4().hex}")
        try:
            # File by file, because `copytree` hides the errno of a full disk.
            for name in [*manifest.files, MANIFEST]:
                shutil.copy2(source / name, staging)
            self.publish(staging, version)
        except OSError:  # another worker published it first
            if version not in self.versions():
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
