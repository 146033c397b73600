"""Every setting, described. Read by entry points only; everything else is handed plain values.

A setting comes from the environment (`LUNGWATCH_INBOX=...`), else from `.env` in the working
folder, else from a file of its name (`lungwatch_database_url`) in the secrets folder, which is
`LUNGWATCH_SECRETS`, or systemd's `CREDENTIALS_DIRECTORY`, or `/run/secrets`.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import SettingsError
from worker.imaging.preprocessing import FilmLimits
from worker.system.files import shipped

PREFIX = "LUNGWATCH_"
_ENV_FILE = Path(".env")


class Settings(BaseSettings):
    """Lungwatch's settings. Paths that are not absolute start at the working folder."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=_ENV_FILE, extra="ignore", frozen=True, env_ignore_empty=True
    )

    inbox: Path = Field(Path("inbox"), description="Folder that films are dropped into.")
    archive: Path = Field(
        Path("var/archive"), description="Where screened films go, a folder a day."
    )
    refused: Path = Field(
        Path("var/refused"), description="Where refused films go, each beside a JSON saying why."
    )
    models: Path = Field(
        Path("var/models"),
        description="Model packages in use; seeded from the shipped one at first start.",
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///var/lungwatch.db"),
        description="SQLite, or `postgresql+psycopg://user:password@host/database`.",
    )
    database_seconds: float = Field(
        20.0,
        ge=1,
        le=40,  # with the time to connect it must stay below the WatchdogSec of the service
        description="A database that has not answered for so long is taken to be away.",
    )
    settle_seconds: float = Field(
        1.0,
        ge=0,
        le=3600,
        description="A file is taken when it has stood still this long; at once if it was written "
        "aside on the same disk and moved in.",
    )
    incomplete_seconds: float = Field(
        30.0,
        ge=0,
        le=86400,
        description="A file that is empty or breaks off is refused only after standing still "
        "this long: its copy may have stalled.",
    )
    scan_seconds: float = Field(
        10.0, gt=0, le=3600, description="The inbox is listed this often, whatever events say."
    )
    screeners: int = Field(
        0, ge=0, le=256, description="Screener processes; 0 means one for each core."
    )
    screen_seconds: float = Field(
        20.0, gt=0, le=3600, description="A screener that takes longer over one film is ended."
    )
    screener_memory_mb: int = Field(
        768,
        ge=64,
        le=65536,
        description="Memory a screener may take for a film, beyond its own code and model, in MiB.",
    )
    predict_milliseconds: float = Field(
        250.0,
        gt=0,
        le=60000,
        description="Processor time a model may take for a film; a slower one is not served.",
    )
    lease_seconds: float = Field(
        60.0,
        ge=1,
        le=86400,
        description="A claim not renewed for this long is free for another worker.",
    )
    keep_in_inbox: bool = Field(
        default=False,
        description="Leave films where they are: for an inbox that something else empties.",
    )
    max_megabytes: float = Field(64.0, gt=0, le=1024, description="Largest file read, in MiB.")
    max_megapixels: float = Field(
        50.0, gt=0, le=1000, description="Largest picture decoded, in millions of pixels."
    )
    min_side_pixels: int = Field(
        96, ge=1, le=10000, description="Shortest side a picture may have, in pixels."
    )
    max_jpeg_scans: int = Field(
        100, ge=1, le=100000, description="Most passes a progressive JPEG may be made of."
    )
    min_contrast: float = Field(
        5.0,
        ge=0,
        le=128,
        description="Least standard deviation of the pixels, in grey levels; less is blank.",
    )
    prevalence: float | None = Field(
        None,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Share of films with pneumonia at this site. Probability, confidence and "
        "threshold are then written for it, and the row says so; decisions stay as they are. "
        "Unset: the 0.5 that models are calibrated for.",
    )
    patient_pattern: str = Field(
        "",
        description="A regular expression that finds the patient in a film's name, with a group "
        "for it, so that a night keeps a patient's films together; for example `^(\\d+)_`.",
    )
    promotion: Literal["auto", "propose"] = Field(
        "auto",
        description="Whether a night promotes what passes its gate, or leaves it to "
        "`lungwatch models promote VERSION`.",
    )
    evidence: Literal["point", "paired95"] = Field(
        "paired95",
        description="What of a challenger must keep within the margins below: its differences "
        "from the champion themselves, or the worse ends of their 95 % intervals.",
    )
    sensitivity_margin: float = Field(
        0.02,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much less sensitive than the champion a challenger may be.",
    )
    calibration_margin: float = Field(
        0.03,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much larger than the champion's its calibration error may be.",
    )
    lost_margin: float = Field(
        0.05,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Of the test films that the champion has right, the share that a challenger "
        "may have wrong.",
    )
    review_margin: float = Field(
        0.05,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much larger than the champion's the share of test films may be that a "
        "person has to look at: REVIEW, or refused as no chest film.",
    )
    min_test_films: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="Fewest test films of each class that a night promotes anything on.",
    )
    min_auc: float = Field(
        0.90, ge=0, le=1, allow_inf_nan=False, description="Least AUC that is promoted."
    )
    min_sensitivity: float = Field(
        0.85, ge=0, le=1, allow_inf_nan=False, description="Least sensitivity that is promoted."
    )
    min_specificity: float = Field(
        0.70, ge=0, le=1, allow_inf_nan=False, description="Least specificity that is promoted."
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
        description="Of so many of the last archived films a night says, before it promotes, whose "
        "decision would change; 0 for none.",
    )
    worker_name: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[\w.-]{1,100}$",
        description="What claims and `status` call this machine; its host name if unset. Of two "
        "machines or containers on one database each needs its own.",
    )
    log_format: Literal["auto", "plain", "json", "journal"] = Field(
        "auto",
        description="`plain` for a person, `json` for a machine, `journal` for systemd's journal, "
        "with fields; `auto` asks whether a terminal is watching, or the journal.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level logged. Only DEBUG names files."
    )

    metrics_file: Path | None = Field(
        None,
        description="Where numbers for Prometheus are written, for its node exporter to pick up: "
        "a name that ends in `.prom`. None are if unset.",
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
    def screener_count(self) -> int:
        """How many screeners to keep: as set, or one for each core this process may use."""
        return self.screeners or len(os.sched_getaffinity(0))


def read_settings() -> Settings:
    """Read the settings of this process.

    Raises:
        SettingsError: one line naming the first wrong setting, what it holds and what would do.
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
    """Make the folders that are ours to make, and refuse what cannot work.

    The inbox is never made: a missing one may be a share that is not mounted.

    Raises:
        SettingsError: one line naming the setting, what it holds and what would do.
    """
    if not os.path.isdir(settings.inbox):  # noqa: PTH112 - False, too, where it may not be seen
        raise SettingsError(
            f"{PREFIX}INBOX is '{settings.inbox}': there is no such folder. "
            "Make it, mount it, or name another."
        )
    for name in ("archive", "refused", "models"):
        folder: Path = getattr(settings, name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}{name.upper()} is '{folder}': it cannot be made "
                f"({error.strerror}). Name a folder that this user may write."
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
