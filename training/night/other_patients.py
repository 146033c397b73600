"""Chest films of patients that a model is not for. They set a limit above which a film is REVIEW.

A night takes them from `--other-patients DIR`: films of adults, for a model of children. Without
this option, it reuses the champion's direction if both models have the same population.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.io import needed, read_again
from training.night.options import Plan
from worker.errors import DataError, FilmRefused, ModelPackageError, RegistryError
from worker.imaging.preprocessing import PREPROCESSING_VERSION, Pixels, read_film
from worker.model.familiarity import FAMILIAR, Floats, from_bytes
from worker.model.manifest import read_verified
from worker.model.population import Population
from worker.model.registry import Registry

_FEWEST = 50
_ENDINGS = (".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class OtherFilms:
    """The films of other patients, or a direction fitted to such films earlier."""

    films: Sequence[Pixels] = ()  # each (height, width) uint8, ordered by patient
    towards: Floats | None = None  # in place of films: the direction that the champion has
    facts: Mapping[str, Any] = field(default_factory=dict)  # their source, for manifest and card


def find_other_films(plan: Plan, registry: Registry, population: Population) -> OtherFilms:
    """Return the films of other patients given to a night, else the direction of its champion.

    Raises:
        DataError: the folder cannot be read, or holds too few films.
    """
    if plan.other_patients is not None:
        films = read_films(plan.other_patients, side_pixels=plan.side_pixels)
        return OtherFilms(films=films, facts={"source": plan.other_patients_source})
    champion = registry.champion()
    if champion is not None:
        with suppress(ModelPackageError, RegistryError, KeyError):  # unreadable, or without limits
            manifest = registry.manifest(champion)
            familiar = from_bytes(read_verified(registry.folder(champion), FAMILIAR, manifest))
            known = familiar.others
            if known is not None and known.direction.any() and manifest.tested_on == population:
                facts = manifest.training.get("other_patients", {})
                return OtherFilms(towards=known.direction, facts=facts | {"from": champion})
    return OtherFilms()


def read_films(folder: Path, *, side_pixels: int) -> list[Pixels]:
    """Return all films below a folder, each (height, width) uint8, ordered by file name.

    A file that the worker would refuse is left out.

    Raises:
        DataError: the folder cannot be read, or holds too few films.
    """
    with needed("the films of other patients cannot be read", folder):
        paths = [
            Path(place) / name
            for place, _, names in os.walk(folder, onerror=_raise)
            for name in names
            if name.lower().endswith(_ENDINGS)
        ]
    films = []
    for path in sorted(paths, key=lambda one: one.name):
        with suppress(FilmRefused):
            film = read_film(
                read_again(path, None),
                height=side_pixels,
                width=side_pixels,
                version=PREPROCESSING_VERSION,
            )
            films.append(film.pixels)
    if len(films) < _FEWEST:
        raise DataError(f"{len(films)} films of other patients: at least {_FEWEST} are needed")
    return films


def _raise(error: OSError) -> None:
    raise error
