"""Chooses the model that serves: follows the registry, and keeps the old one on failure."""

from __future__ import annotations

from collections.abc import Callable

from worker.db.promotions import Promotions
from worker.db.scans import Store
from worker.errors import ModelPackageError, RegistryError, ScreenerTrouble
from worker.model.manifest import Manifest
from worker.model.population import Population
from worker.model.registry import Registry
from worker.monitoring.events import Notice
from worker.screening.pool import NotServing, Pool, Serving
from worker.system.trouble import doubling

_CHAMPION_SECONDS = 1.0  # between checks for a new champion
# Pauses before a package that is not proven bad is tried again, first and longest, in seconds.
_PAUSES_WHILE_SERVING = (2.0, 60.0)
_PAUSES_WITHOUT_A_MODEL = (0.5, 15.0)  # no film is screened until then


class ModelKeeper:
    """Puts a new champion into service."""

    def __init__(
        self, registry: Registry, pool: Pool, store: Store, emit: Callable[[Notice], object]
    ) -> None:
        """Follow `registry`; `emit` takes notices for the operator."""
        self._registry = registry
        self._pool = pool
        self._store = store
        self._promotions = Promotions(store.database)
        self._emit = emit
        self._manifests: dict[str, Manifest] = {}
        self._wanted: str | None = None  # the version last requested from the pool
        self._asked: object = None  # the stamp of CHAMPION at that request
        self._refused: object = None  # the stamp of a CHAMPION that could not serve
        self._failures = 0  # to start a package that is not proven bad
        self._retry_at = 0.0  # when to try again
        self._looked = 0.0
        self.unfenced = ""  # parts of the screeners' sandbox that are missing
        self.serving: str | None = None  # the version that serves
        self.problem: str | None = None  # why the champion does not serve
        self.has_news = False  # something that `status` should show at once
        self.next_look = 0.0

    def mind(self, now: float) -> None:
        """Check from time to time which model should serve, and put it into service.

        Raises:
            ScreenerTrouble: no model serves, and none can.
        """
        if now >= self.next_look:
            self._looked, self.next_look = now, now + _CHAMPION_SECONDS
            try:
                self._follow_champion(now)
            except (RegistryError, ModelPackageError) as error:
                self._note_problem(str(error))
        if self.serving is None and self.problem:
            raise ScreenerTrouble(f"no model can serve: {self.problem}")

    def take(self, event: Serving | NotServing) -> None:
        """Handle the pool's event about a package."""
        match event:
            case Serving(model_version=version, unfenced=unfenced):
                if unfenced and unfenced != self.unfenced:
                    self._notice("screeners not fenced in", missing=unfenced)
                self.unfenced = unfenced
                if self.serving is not None:
                    self._notice("model swapped", model=version, before=self.serving)
                self.serving = version
                self.has_news = True
                self._note_serving()
            case NotServing(why=why, proven=proven):
                if proven:
                    self._refused = self._asked
                    self._keep_serving(why)
                else:
                    self._put_off(why)

    @property
    def population(self) -> Population | None:
        """The patients on whom the serving model was tested; None if none serves."""
        manifest = self._manifests.get(self.serving or "")
        return None if manifest is None else manifest.tested_on

    def manifest_of(self, version: str) -> Manifest:
        """Return the manifest of a version. It never changes, so it is cached.

        Raises:
            RegistryError, ModelPackageError: there is no valid one.
        """
        if version not in self._manifests:
            self._manifests[version] = self._registry.manifest(version)
        return self._manifests[version]

    def _follow_champion(self, now: float) -> None:
        stamp = self._registry.champion_stamp()
        champion = self._registry.serving()
        if champion == self.serving:
            if self._wanted != champion:  # its replacement was cancelled
                self._pool.serve(self._registry.folder(champion), now)
                self._wanted = champion
            self._note_serving()
            return
        # A refused package is tried again only if no other serves, or after a person promotes it
        # again.
        refused = stamp == self._refused and self.serving is not None
        if refused or now < self._retry_at or champion == self._wanted:
            return
        manifest = self._registry.manifest(champion)
        self._store.register_model(manifest)
        self._promotions.record(self._registry.history())
        differs = self._promotions.what_differs(manifest)
        if differs is not None:
            raise ModelPackageError(
                f"{champion}: its {differs} differs from the one on record for this version: a "
                "package never changes"
            )
        self._manifests[champion] = manifest
        try:
            self._pool.serve(self._registry.folder(champion), now)
        except ScreenerTrouble as error:  # the serving model continues
            self._put_off(f"{champion}: {error}")
        else:
            self._wanted, self._asked = champion, stamp

    def _put_off(self, why: str) -> None:
        """Try the champion again after a growing pause; it is not proven bad."""
        self._failures += 1
        first, longest = _PAUSES_WITHOUT_A_MODEL if self.serving is None else _PAUSES_WHILE_SERVING
        self._retry_at = self._looked + doubling(self._failures, first=first, longest=longest)
        self._keep_serving(why)

    def _keep_serving(self, why: str) -> None:
        """Continue with the serving model, if any."""
        self._wanted = self.serving
        self._note_problem(why)

    def _note_problem(self, why: str) -> None:
        """Record why the champion does not serve, and report it once."""
        if why != self.problem:
            self._notice("model refused", why=why)
            self.has_news = True
        self.problem = why

    def _notice(self, name: str, **fields: str) -> None:
        self._emit(Notice(name=name, fields=fields))

    def _note_serving(self) -> None:
        """Record that the champion serves."""
        self.has_news = self.has_news or self.problem is not None
        self._refused = self.problem = None
        self._failures, self._retry_at = 0, 0.0
