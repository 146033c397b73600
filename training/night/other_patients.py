"""Films of other patients than a model is for, so that it leaves theirs to a person.

They are an option of a night: `--other-patients DIR`, adults' chest films for a model of children.
Without it, what the champion has learnt of them goes on, if it is for the same patients.
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
    """What is known of other patients before a network is fitted."""

    films: Sequence[Pixels] = ()  # each (height, width) uint8, those of one patient side by side
    towards: Floats | None = None  # in place of films, the way to them that the champion found
    facts: Mapping[str, Any] = field(default_factory=dict)  # their source, for manifest and card


def find_other_films(plan: Plan, registry: Registry, population: Population) -> OtherFilms:
    """Return the films of other patients that a night was given, else what its champion knows.

    Raises:
        DataError: the folder cannot be read, or holds too few films.
    """
    if plan.other_patients is not None:
        films = read_films(plan.other_patients, side_pixels=plan.side_pixels)
        return OtherFilms(films=films, facts={"source": plan.other_patients_source})
    champion = registry.champion()
    if champion is not None:
        with suppress(ModelPackageError, RegistryError, KeyError):  # unread, or without limits
            manifest = registry.manifest(champion)
            familiar = from_bytes(read_verified(registry.folder(champion), FAMILIAR, manifest))
            known = familiar.others
            if known is not None and known.direction.any() and manifest.tested_on == population:
                told = manifest.training.get("other_patients", {})
                return OtherFilms(towards=known.direction, facts=told | {"from": champion})
    return OtherFilms()


def read_films(folder: Path, *, side_pixels: int) -> list[Pixels]:
    """Return the films of a folder and those below it, (height, width) uint8, by file name.

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
