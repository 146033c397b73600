"""The models folder: which packages there are, which one serves, and how that changes.

    models/
      CHAMPION              one line: the version that serves
      HISTORY               which version served from when, by whom and why
      <version>/            a package, immutable once it has this name
      .staging-<version>/   a package being made; never read as one
      .pruned-<version>/    a package being removed; never read as one

`CHAMPION` is replaced by one atomic rename, so a reader sees the old version or the new one.
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
from worker.model.history import HISTORY, Change, Kind, add, changing, left_behind, read_history
from worker.model.manifest import MANIFEST, VERSION_PATTERN, Manifest, read_manifest, verify_files
from worker.system.files import fsync_folder, write_atomically

CHAMPION = "CHAMPION"
_STAGING = ".staging-"
_PRUNED = ".pruned-"
_IN_HAND_SECONDS = 3600.0  # since the last file was added to what is being made


class Replaces(Enum):
    """What a promotion may take the place of, beside a version that is named, or none."""

    WHATEVER_SERVES = auto()


class ChampionChanged(RegistryError):
    """What serves is not what was to be replaced: somebody promoted or rolled back meanwhile."""


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

    def champion_stamp(self) -> object:
        """Return what differs whenever CHAMPION was replaced, be it by its like."""
        try:
            facts = (self.root / CHAMPION).stat()
        except OSError:
            return None
        return (facts.st_ino, facts.st_mtime_ns)

    def folder(self, version: str) -> Path:
        """Return where a version's package lies, whether or not it does."""
        return self.root / version

    def versions(self) -> list[str]:
        """Return the versions whose packages are complete enough to have a manifest, sorted.

        Raises:
            RegistryError: the folder cannot be looked into.
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
        """Whether there is a package of this version, fit to be read or not.

        Raises:
            RegistryError: the folder cannot be looked into.
        """
        with self._looking():
            return self.folder(version).is_dir()

    @contextmanager
    def _looking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RegistryError(f"cannot look into {self.root}: {error.strerror}") from error

    def manifest(self, version: str) -> Manifest:
        """Return a version's manifest.

        Raises:
            RegistryError: there is no such version.
            ModelPackageError: there is, and it is not fit to be read.
        """
        if not self.has(version):
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

    def sweep(self) -> None:
        """Remove what killed processes had begun to make or to remove. What is fresh is in hand."""
        for folder in self.root.glob(".*-*"):
            if not folder.name.startswith((_STAGING, _PRUNED)):
                continue
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _IN_HAND_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    # What serves, and how that changes

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
        """Return the rollback that left a version behind, if one did."""
        return left_behind(self.history(), version)

    def may_promote(self, version: str) -> bool:
        """Whether a version may be promoted by itself: no rollback left it behind."""
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
        """Make a version the champion. The running worker sees it and swaps.

        Promoting the version that serves changes nothing, but a worker that had refused it tries
        it once more.

        Args:
            version: which.
            who: who decided it, for the history.
            why: the reason, for the history.
            again: also a version that a rollback left behind. A person's to say.
            instead_of: what must serve until then, None for nothing.
            now: UTC; the present where none is given.

        Raises:
            ChampionChanged: another serves than it was to replace.
            RegistryError: it is not there, was left behind, or the folder cannot be written.
            ModelPackageError: it is not whole.
        """
        verify_files(self.folder(version), self.manifest(version))
        with self._changing() as file:
            if instead_of is not Replaces.WHATEVER_SERVES and self.champion() != instead_of:
                raise ChampionChanged(f"{self.champion() or 'no model'} serves now")
            rollback = self.rejected(version)
            if rollback is not None and not again:
                raise RegistryError(
                    f"{version} was left behind on {rollback.at:%Y-%m-%d} by {rollback.who or '?'} "
                    f"({rollback.why}) and is not promoted again"
                )
            self._serve(file, self._change(Kind.PROMOTE, version, who=who, why=why, now=now))

    def rollback(
        self, *, to: str | None = None, who: str, why: str, now: datetime | None = None
    ) -> Change:
        """Make an earlier version the champion, and leave the present one behind for good.

        Args:
            to: which; else the one that served last before the present one and is fit to.
            who: who decided it.
            why: the reason.
            now: UTC; the present where none is given.

        Raises:
            RegistryError: there is none to go back to, or it was itself left behind.
            ModelPackageError: it is not whole.
        """
        champion = self.serving()
        version = to or self._earlier(champion)
        verify_files(self.folder(version), self.manifest(version))
        with self._changing() as file:
            if self.serving() != champion:
                raise RegistryError(f"{self.serving()} was promoted meanwhile: look again")
            if version == champion:
                raise RegistryError(f"{version} serves already")
            if not self.may_promote(version):
                raise RegistryError(f"{version} was itself left behind by a rollback")
            change = self._change(Kind.ROLLBACK, version, who=who, why=why, now=now)
            return self._serve(file, change)

    def _earlier(self, champion: str) -> str:
        """Return the version that served last before the champion, and may serve again."""
        there = set(self.versions()) - {champion}
        for change in reversed(self.history()):
            if change.kind is Kind.SHIPPED:
                continue
            for version in (change.version, change.from_version):
                if version in there and self.may_promote(str(version)):
                    return str(version)
        raise RegistryError("no earlier version is known that may serve: name one")

    def _serve(self, file: BinaryIO, change: Change) -> Change:
        """Write a change down, then replace CHAMPION: what serves always has its line."""
        if change.version != change.from_version:
            add(file, change)
        write_atomically(self.root / CHAMPION, f"{change.version}\n".encode("ascii"))
        return change

    def _change(
        self, kind: Kind, version: str, *, who: str, why: str, now: datetime | None
    ) -> Change:
        try:
            before = self.champion()
        except RegistryError:  # a champion file of rubbish is mended by a promotion
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
        """Let nobody else change what serves meanwhile."""
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
        """Take a package away for good. The caller has made sure that nobody needs it.

        Raises:
            RegistryError: it serves, is not there, or cannot be removed.
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

    # What is shipped

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
        self._copy_in(shipped, version)
        why = "shipped, and there was no other"
        with self._changing() as file:
            if self.champion() is None:  # else another worker was first
                change = self._change(Kind.PROMOTE, version, who="lungwatch", why=why, now=None)
                self._serve(file, change)
        return version

    def adopt(self, shipped: Registry) -> str | None:
        """Copy the shipped champion in as a challenger, once. Return its version if that was done.

        One that was here before and was pruned does not come back.

        Raises:
            RegistryError, ModelPackageError: what is shipped is not whole, or cannot be copied.
        """
        version = shipped.champion()
        known = {change.version for change in self.history()} | set(self.versions())
        if version is None or version in known:
            return None
        self._copy_in(shipped, version)
        with self._changing() as file:
            if any(change.version == version for change in self.history()):
                return None  # another worker was first
            why = "came with an upgrade, and waits to be promoted"
            add(file, self._change(Kind.SHIPPED, version, who="lungwatch", why=why, now=None))
        return version

    def _copy_in(self, shipped: Registry, version: str) -> None:
        if version in self.versions():
            return
        source, manifest = shipped.folder(version), shipped.manifest(version)
        verify_files(source, manifest)
        staging = self.stage(f"{version}.{uuid.uuid4().hex}")
        try:
            # One by one: `copytree` tells of a full disk without its errno.
            for name in [*manifest.files, MANIFEST]:
                shutil.copy2(source / name, staging)
            self.publish(staging, version)
        except OSError:  # another worker was first: a folder's name is given once
            if version not in self.versions():
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
