"""Which model serves: follows the registry's champion, and keeps the old one if the new fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.errors import ModelPackageError, RegistryError, ScreenerTrouble
from worker.model import Manifest
from worker.pool import NotServing, Pool, Serving
from worker.registry import Registry
from worker.store import Store

_CHAMPION_SECONDS = 1.0  # between looks at which model should serve


class ModelKeeper:
    """Brings the champion into service when there is a new one."""

    def __init__(
        self, registry: Registry, pool: Pool, store: Store, tell: Callable[..., Any]
    ) -> None:
        """Follow `registry`; `tell` is called with an event's name and fields."""
        self._registry = registry
        self._pool = pool
        self._store = store
        self._tell = tell
        self._manifests: dict[str, Manifest] = {}
        self._wanted: str | None = None  # the version last asked of the pool
        self._refused: str | None = None  # the version that could not serve
        self.serving: str | None = None  # the version that serves
        self.problem: str | None = None  # why the champion does not
        self.next_look = 0.0

    def mind(self, now: float) -> None:
        """Look now and then which model should serve, and see to it.

        Raises:
            ScreenerTrouble: no model serves, and none can.
        """
        if now >= self.next_look:
            self.next_look = now + _CHAMPION_SECONDS
            try:
                self._follow_champion(now)
            except (RegistryError, ModelPackageError) as error:
                self.problem = str(error)
        if self.serving is None and self.problem:
            raise ScreenerTrouble(f"no model can serve: {self.problem}")

    def take(self, event: Serving | NotServing) -> None:
        """Take in what the pool says of a package."""
        match event:
            case Serving(model_version=version):
                if self.serving is not None:
                    self._tell("model swapped", model=version)
                self.serving = version
                self._refused = self.problem = None
            case NotServing(package=package, why=why):
                if self._refused != package.name:
                    self._tell("model refused", model=package.name, why=why)
                self._refused, self.problem = package.name, why
                self._wanted = self.serving

    def manifest_of(self, version: str) -> Manifest:
        """Return the manifest of a version, which never changes.

        Raises:
            RegistryError, ModelPackageError: there is none that is fit to be read.
        """
        if version not in self._manifests:
            self._manifests[version] = self._registry.manifest(version)
        return self._manifests[version]

    def _follow_champion(self, now: float) -> None:
        champion = self._registry.serving()
        # One that was refused is tried again only where there is no other to serve meanwhile.
        refused = champion == self._refused and self.serving is not None
        if refused or champion == self._wanted:
            return
        manifest = self.manifest_of(champion)
        self._store.register_model(manifest)
        self._wanted = champion
        self._pool.serve(self._registry.folder(champion), now)
