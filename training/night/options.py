"""Options of a night: from the command line, else from the settings."""

from __future__ import annotations

import argparse
import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from training.data.native_sizes import Sizes, digest_of_sizes, read_native_sizes
from training.data.patients import Patients, read_patients, read_pattern
from training.data.sources import Archive
from training.fit.sizes import CELL, is_whole
from training.gate import Floors, Margins, Rules
from worker.model.population import Population
from worker.screening.rescreen import Means
from worker.settings import Settings

_LAST_SEED = 2**32 - 1  # the largest seed of NumPy


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of a night."""

    data: tuple[Path, ...]  # class-per-folder trees
    models: Path
    cache: Path
    archive: Archive | None = None  # of the worker, with films labelled by readers
    patients: Patients = field(default_factory=Patients)  # how to find a film's patient
    native_sizes: Sizes = field(default_factory=dict)  # of films that are copies, by file name
    drop_conflicts: bool = False  # set aside films that contradict one another
    report: Path | None = None  # for pictures that show films; None for a folder next to the cache
    database_url: str | None = None  # for the record of the night; None for no record
    seed_models: Path | None = None  # registry whose champion is copied in if `models` has none
    start: Literal["champion", "scratch"] = "champion"  # the weights to start from, if they fit
    epochs: int | None = None  # at most; None for 40 from new weights, 12 from the champion's
    max_minutes: float = 120.0  # limit on fitting
    tensorboard: Path | None = None  # a folder for event files
    seed: int = 20
    side_pixels: int = 128  # height and width of the network's input
    salt: str = ""  # of the split of patients; empty for the one kept with the models
    population: Population | None = None  # whose films these are; None for the champion's
    population_note: str = ""  # a sentence on them, for the model card
    other_patients: Path | None = None  # a folder of films of patients the model is not for
    other_patients_source: str = ""  # and licence, for the model card
    test_note: str = ""  # how the test films were chosen; empty for a standard sentence
    rules: Rules = field(default_factory=Rules)
    propose: bool = False  # a person promotes a challenger that passes
    preview: Means | None = None  # to screen archived films before a promotion
    preview_scans: int = 0  # the number of archived films, the latest

    @property
    def pictures(self) -> Path:
        """The folder for pictures that show films, never in a package, which may be passed on."""
        return self.cache.parent / "report" if self.report is None else self.report

    @property
    def scratch(self) -> Path:
        """The folder in which a killed night of this registry leaves its state.

        Nights of several registries share the cache, so each has a folder of its own.
        """
        name = hashlib.sha256(os.fsencode(self.models.resolve())).hexdigest()
        return self.cache / f"nights-{name[:12]}"

    def work(self) -> dict[str, Any]:
        """Return the options that, with films and code, determine the model and its verdict."""
        screeners = self.preview and self.preview.screeners
        return {
            "start": self.start,
            "epochs": self.epochs,
            "seed": self.seed,
            "side_pixels": self.side_pixels,
            "salt": self.salt,
            "drop_conflicts": self.drop_conflicts,
            "other_patients": self.other_patients and os.fsdecode(self.other_patients),
            "native_sizes": digest_of_sizes(self.native_sizes),
            "max_minutes": self.max_minutes,
            "rules": asdict(self.rules),
            "propose": self.propose,
            # The screeners of the preview must accept the package, so their limits count too.
            "screeners": screeners and [screeners.predict_seconds, screeners.memory_mb],
        }


def read_plan(arguments: Sequence[str] | None, settings: Settings, *, description: str) -> Plan:
    """Parse the command line. `--help` and errors end the process."""
    parser = argparse.ArgumentParser(
        prog="python -m training.retrain",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        action="append",
        help="a class-per-folder tree of films; may be repeated",
    )
    add("--models", type=Path, help="the models folder; default LUNGWATCH_MODELS")
    add("--no-database", action="store_true", help="do not use LUNGWATCH_DATABASE_URL")
    add(
        "--cache",
        type=Path,
        default=Path("var/cache"),
        help="folder of decoded films; may be deleted",
    )
    add(
        "--report",
        type=Path,
        help="folder for pictures of films; default `report` next to the cache",
    )
    add("--from", dest="start", choices=["champion", "scratch"], default=Plan.start)
    add("--epochs", type=_epochs, help="at most; default 40 from scratch, 12 from the champion")
    add("--max-minutes", type=_minutes, default=Plan.max_minutes, help="limit on fitting")
    add("--tensorboard", type=Path, help="folder for TensorBoard event files")
    add("--seed", type=_seed, default=Plan.seed)
    add(
        "--side-pixels",
        type=_side,
        default=Plan.side_pixels,
        help="side of the network's square input",
    )
    add("--salt", type=_words, default="", help="of the split, if the registry has none yet")
    add("--patients", type=Path, help="CSV of two columns: file name or SHA-256, and patient")
    add("--patient-pattern", help="regular expression with a group for the patient, for file names")
    add("--native-sizes", type=Path, help="CSV of file_name, width and height, for smaller copies")
    add(
        "--drop-conflicts",
        action="store_true",
        help="set contradicting films aside instead of stopping",
    )
    card = "a sentence for the model card"
    note = f"{card}, about the population; LUNGWATCH_POPULATION has its facts"
    add("--population", dest="population_note", type=_words, default="", help=note)
    add("--test-note", type=_words, default="", help=f"how the test films were chosen; {card}")
    others = "chest films of other patients, for example adults, to be marked REVIEW"
    add("--other-patients", type=Path, help=f"folder of {others}")
    add(
        "--other-patients-source", type=_words, default="", help=f"their source and licence; {card}"
    )
    chosen = vars(parser.parse_args(arguments))
    if chosen["other_patients"] and not chosen["other_patients_source"]:
        parser.error("--other-patients needs their source and licence: --other-patients-source")
    database_url = None if chosen.pop("no_database") else settings.database_url.get_secret_value()
    pattern, listed = chosen.pop("patient_pattern"), chosen.pop("patients")
    sizes = chosen.pop("native_sizes")
    return Plan(
        **{
            **chosen,
            "data": tuple(chosen["data"] or ()),
            "models": chosen["models"] or settings.models,
        },
        archive=None
        if database_url is None
        else Archive(folders=settings.folders, database_url=database_url),
        patients=Patients(
            pattern=read_pattern(settings.patient_pattern if pattern is None else pattern),
            listed={} if listed is None else read_patients(listed),
        ),
        native_sizes={} if sizes is None else read_native_sizes(sizes),
        database_url=database_url,
        seed_models=None if chosen["models"] else settings.shipped_models,
        population=settings.population,
        rules=_rules(settings),
        propose=settings.promotion == "propose",
        preview=Means(
            folders=settings.folders,
            # One screener only, so that a running worker is not slowed.
            screeners=replace(settings.screener_options, count=1),
            prevalence=settings.prevalence,
        ),
        preview_scans=settings.preview_scans,
    )


def _epochs(text: str) -> int:
    if (epochs := _whole_number(text)) < 1:
        raise argparse.ArgumentTypeError(f"{epochs} epochs: at least 1 is needed")
    return epochs


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text} minutes: a positive number is needed")
    return minutes


def _words(text: str) -> str:
    """Return text that UTF-8 can encode; a terminal may send other bytes."""
    if (letters := text.encode(errors="backslashreplace").decode()) != text:
        raise argparse.ArgumentTypeError(f"'{letters}' is not UTF-8: use a UTF-8 terminal")
    return text


def _seed(text: str) -> int:
    if not 0 <= (seed := _whole_number(text)) <= _LAST_SEED:
        raise argparse.ArgumentTypeError(f"{seed} is not between 0 and {_LAST_SEED}")
    return seed


def _side(text: str) -> int:
    if not is_whole(side := _whole_number(text)):
        below = max(side // CELL, 0) * CELL
        near = f"{below} or {below + CELL}" if below else f"{CELL}"
        raise argparse.ArgumentTypeError(
            f"{side} pixels a side do not suit the network's strides: use {near}"
        )
    return side


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _rules(settings: Settings) -> Rules:
    return Rules(
        primary=settings.primary_metric,
        evidence=settings.evidence,
        floors=Floors(
            films_of_each_class=settings.min_test_films,
            auc=settings.min_auc,
            sensitivity=settings.min_sensitivity,
            specificity=settings.min_specificity,
            calibration_error=settings.max_calibration_error,
        ),
        margins=Margins(
            sensitivity=settings.sensitivity_margin,
            calibration_error=settings.calibration_margin,
            lost=settings.lost_margin,
            undecided=settings.review_margin,
            shift=settings.shift_margin,
        ),
    )
