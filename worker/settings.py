"""Every setting, with its description. Only entry points read settings.

A setting is looked for in three places, in this order: the environment (`LUNGWATCH_INBOX=...`);
`.env` in the working folder; a file of its name (`lungwatch_database_url`) in the secrets folder.
The secrets folder is `LUNGWATCH_SECRETS`, else systemd's `CREDENTIALS_DIRECTORY`, else
`/run/secrets`.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.errors import SettingsError
from worker.imaging.preprocessing import FilmLimits
from worker.model.population import Population, read_population
from worker.system.files import shipped
from worker.system.folders import Folders

PREFIX = "LUNGWATCH_"
_ENV_FILE = Path(".env")


@dataclass(frozen=True, kw_only=True)
class ScreenerOptions:
    """The number of screeners, and their limits."""

    count: int
    limits: FilmLimits
    screen_seconds: float  # for one film, before its screener is ended
    memory_mb: int  # MiB for a film, on top of code and model
    predict_seconds: float = 0.25  # of processor time, that a model may take for a film


class Settings(BaseSettings):
    """Lungwatch's settings. Relative paths start at the working folder."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=_ENV_FILE, extra="ignore", frozen=True, env_ignore_empty=True
    )

    inbox: Path = Field(Path("inbox"), description="The folder that films are dropped into.")
    archive: Path = Field(
        Path("var/archive"), description="Where screened films go: one folder a day."
    )
    refused: Path = Field(
        Path("var/refused"), description="Where refused films go. A JSON file beside each says why."
    )
    models: Path = Field(
        Path("var/models"),
        description="The model packages in use. The first start copies the shipped one there.",
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///var/lungwatch.db"),
        description="SQLite, or `postgresql+psycopg://user:password@host/database`.",
    )
    database_seconds: float = Field(
        20.0,
        ge=1,
        le=40,  # with the time to connect it must stay below the WatchdogSec of the service
        description="After this time without an answer, the database counts as away.",
    )
    settle_seconds: float = Field(
        1.0,
        ge=0,
        le=3600,
        description="A file is read when it has not changed for this time. A file that was written "
        "elsewhere on the same disk and then moved in is read at once.",
    )
    incomplete_seconds: float = Field(
        30.0,
        ge=0,
        le=86400,
        description="An empty or incomplete file is refused only when it has not changed for this "
        "time: its copy may have stalled.",
    )
    scan_seconds: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="How often the inbox is listed, with or without file-system events.",
    )
    screeners: int = Field(
        0, ge=0, le=256, description="Number of screener processes. 0 means one for each core."
    )
    screen_seconds: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="Time limit for one film. A screener that takes longer is ended.",
    )
    screener_memory_mb: int = Field(
        768,
        ge=64,
        le=65536,
        description="Memory a screener may use for a film, in MiB, on top of its code and model.",
    )
    predict_milliseconds: float = Field(
        250.0,
        gt=0,
        le=60000,
        description="Processor time a model may take for a film. A slower model never serves.",
    )
    lease_seconds: float = Field(
        60.0,
        ge=1,
        le=86400,
        description="After this time without renewal, another worker may take a claimed film.",
    )
    keep_in_inbox: bool = Field(
        default=False,
        description="Leave films in the inbox, for an inbox that another program empties.",
    )
    max_megabytes: float = Field(
        64.0, gt=0, le=1024, description="Largest file that is read, in MiB."
    )
    max_megapixels: float = Field(
        50.0, gt=0, le=1000, description="Largest picture that is decoded, in megapixels."
    )
    min_side_pixels: int = Field(
        96, ge=1, le=10000, description="Smallest allowed side of a picture, in pixels."
    )
    max_jpeg_scans: int = Field(
        100, ge=1, le=100000, description="Largest number of scans (passes) in a progressive JPEG."
    )
    min_contrast: float = Field(
        5.0,
        ge=0,
        le=128,
        description="Smallest standard deviation of the pixels, in grey levels. A film below it is "
        "refused as blank.",
    )
    prevalence: float | None = Field(
        None,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Share of films with pneumonia at this site. Probability, confidence and "
        "threshold are then written for this share, and the row says so. Decisions do not change. "
        "Unset means 0.5, for which models are calibrated.",
    )
    patient_pattern: str = Field(
        "",
        description="A regular expression with one group that finds the patient in a file name, "
        "so that a night keeps a patient's films together. Example: `^(\\d+)_`.",
    )
    population: Annotated[Population | None, NoDecode, BeforeValidator(read_population)] = Field(
        None,
        description="Whose films a night learns from and tests on: ages, hospital and source, with "
        "semicolons between. Example: `1.0 to under 6.0 years; City Hospital; its archive`. "
        "Unset means those of the model that the night starts from.",
    )
    promotion: Literal["auto", "propose"] = Field(
        "auto",
        description="`auto`: a night promotes a model that passes the gate. `propose`: a person "
        "does, with `lungwatch models promote VERSION`.",
    )
    primary_metric: Literal["robust_auc", "auc"] = Field(
        "robust_auc",
        description="What a challenger must have more of than the champion. `robust_auc`: the mean "
        "of its AUC on the test films as they are, swapped and zoomed. `auc`: as they are alone.",
    )
    evidence: Literal["point", "paired95"] = Field(
        "paired95",
        description="What must stay within the margins below. `point`: the challenger's "
        "differences from the champion. `paired95`: the worse ends of their 95 % intervals.",
    )
    sensitivity_margin: float = Field(
        0.02,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much lower the challenger's sensitivity may be than the champion's.",
    )
    calibration_margin: float = Field(
        0.03,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much larger the challenger's calibration error may be.",
    )
    lost_margin: float = Field(
        0.05,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Of the test films that the champion labels correctly, the share that the "
        "challenger may label wrongly.",
    )
    review_margin: float = Field(
        0.05,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much larger the challenger's share of test films may be that are left to "
        "a person: REVIEW, or refused as not a chest film.",
    )
    shift_margin: float = Field(
        0.02,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much lower the challenger's AUC may be on swapped films, and on zoomed "
        "ones.",
    )
    min_test_films: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="A night promotes nothing with fewer test films in a class than this.",
    )
    min_auc: float = Field(
        0.90,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Smallest AUC of a model that is promoted.",
    )
    min_sensitivity: float = Field(
        0.85, ge=0, le=1, allow_inf_nan=False, description="Smallest sensitivity that is promoted."
    )
    min_specificity: float = Field(
        0.70, ge=0, le=1, allow_inf_nan=False, description="Smallest specificity that is promoted."
    )
    max_calibration_error: float = Field(
        0.15,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Largest calibration error that is promoted.",
    )
    preview_scans: int = Field(
        200,
        ge=0,
        le=1_000_000,
        description="Before a promotion, a night screens this many of the last archived films with "
        "both models and lists the decisions that would change. 0 means none.",
    )
    worker_name: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[\w.-]{1,100}$",
        description="The name of this machine in claims and in `status`. Unset means its host "
        "name. Machines and containers on one database need different names.",
    )
    log_format: Literal["auto", "plain", "json", "journal"] = Field(
        "auto",
        description="`plain` for a person, `json` for a program, `journal` for systemd's journal "
        "with fields. `auto` chooses by where the output goes.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged. File names are logged at DEBUG only."
    )

    metrics_file: Path | None = Field(
        None,
        description="File of Prometheus metrics for the node exporter. Its name ends in `.prom`. "
        "Unset means no metrics.",
    )

    @property
    def shipped_models(self) -> Path:
        """The registry that came with this code."""
        return shipped("models")

    @property
    def places(self) -> dict[str, Path]:
        """Folders by the names of their settings: for a log that must not name them."""
        names = ("inbox", "archive", "refused", "models")
        return {f"{PREFIX}{name.upper()}": getattr(self, name) for name in names}

    @property
    def limits(self) -> FilmLimits:
        """What a film may measure."""
        return FilmLimits(
            max_bytes=int(self.max_megabytes * 1024 * 1024),
            max_pixels=int(self.max_megapixels * 1_000_000),
            min_side_pixels=self.min_side_pixels,
            max_jpeg_scans=self.max_jpeg_scans,
            min_contrast=self.min_contrast,
        )

    @property
    def folders(self) -> Folders:
        """Where films lie."""
        return Folders(inbox=self.inbox, archive=self.archive, refused=self.refused)

    @property
    def screener_options(self) -> ScreenerOptions:
        """How to run screeners: as many as set, or one for each core this process may use."""
        return ScreenerOptions(
            count=self.screeners or len(os.sched_getaffinity(0)),
            limits=self.limits,
            screen_seconds=self.screen_seconds,
            memory_mb=self.screener_memory_mb,
            predict_seconds=self.predict_milliseconds / 1000,
        )


def read_settings() -> Settings:
    """Read the settings of this process.

    Raises:
        SettingsError: one line with the first wrong setting, its value, and what is valid.
    """
    try:
        return Settings(_env_file=_env_file(), _secrets_dir=_secrets_folder())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        field = Settings.model_fields.get(name)
        raise SettingsError(
            f"{PREFIX}{name.upper()} is {first['input']!r}: {first['msg']}. "
            f"{field.description if field else ''}".strip()
        ) from error


def _env_file() -> Path | None:
    """Return `.env`, if there is one: a working folder that is shut to this user has none."""
    try:
        with _ENV_FILE.open("rb"):
            return _ENV_FILE
    except FileNotFoundError:
        return None
    except OSError as error:
        if not os.access(_ENV_FILE.parent, os.X_OK):
            return None
        raise SettingsError(f".env cannot be read: {error.strerror}") from error


def _secrets_folder() -> Path | None:
    for name in (f"{PREFIX}SECRETS", "CREDENTIALS_DIRECTORY"):
        if folder := os.environ.get(name):
            if not Path(folder).is_dir():
                raise SettingsError(f"{name} is {folder!r}: not a folder. Name one, or unset it.")
            return Path(folder)
    default = Path("/run/secrets")
    return default if default.is_dir() else None


def check_folders(settings: Settings) -> None:
    """Make the folders that are ours to make, and refuse folders that cannot work.

    The inbox is never made: a missing inbox may be a network share that is not mounted.

    Raises:
        SettingsError: one line with the setting, its value, and what is valid.
    """
    if not os.path.isdir(settings.inbox):  # noqa: PTH112 - False, too, where it may not be seen
        raise SettingsError(
            f"{PREFIX}INBOX is '{settings.inbox}': there is no such folder. "
            "Make it, mount it, or name another folder."
        )
    for name in ("archive", "refused", "models"):
        folder: Path = getattr(settings, name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}{name.upper()} is '{folder}': it cannot be made "
                f"({error.strerror}). Name a folder that this user may write to."
            ) from error
    _check_apart(settings)


def _check_apart(settings: Settings) -> None:
    names = ("inbox", "archive", "refused", "models")
    folders = {name: getattr(settings, name).resolve() for name in names}
    for one in names:
        for other in names:
            if one == other:
                continue
            if folders[one] == folders[other]:
                raise SettingsError(
                    f"{PREFIX}{one.upper()} and {PREFIX}{other.upper()} are both "
                    f"'{getattr(settings, one)}': they must be different folders."
                )
    for name in names[1:]:
        if folders[name] == folders["inbox"] or folders["inbox"].is_relative_to(folders[name]):
            raise SettingsError(
                f"{PREFIX}INBOX is '{settings.inbox}', inside {PREFIX}{name.upper()} "
                f"('{getattr(settings, name)}'): name a folder outside it."
            )
