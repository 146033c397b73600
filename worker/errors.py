"""The exceptions of Lungwatch, and the codes that stand in the database.

    LungwatchError
    ├── SettingsError          a setting is wrong: the start ends with one line
    ├── FilmRefused            the film cannot be scored: a refusal with its code
    ├── FilmStuck              one film cannot be read or moved now; its neighbours can
    ├── ModelPackageError      a model package that must not serve
    ├── RegistryError          the models folder cannot do what was asked
    ├── ScanError              a scan that was asked for does not exist, or its film changed
    ├── DataError              labelled films that contradict one another
    └── OwnTrouble             not the film's fault: the worker waits and continues later
        ├── DatabaseTrouble
        ├── StorageTrouble
        └── ScreenerTrouble

Errors of libraries are wrapped in one of these at the boundary.
"""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """A stable code in the database, with its meaning for the person who reads it."""

    meaning: str  # what it means, and what to do

    def __new__(cls, code: str, meaning: str) -> Self:
        """Make a member with its code as value and its meaning as attribute."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    @classmethod
    def of(cls, code: str) -> Self:
        """Return the member with this code.

        Raises:
            ValueError: there is none.
        """
        for member in cls:
            if member.value == code:
                return member
        raise ValueError(f"{code!r} is not a {cls.__name__}")


class RefusalCode(Code):
    """Why a film got no prediction. Stable: people query these."""

    EMPTY = "empty", "The file holds no bytes. Send the film again."
    TOO_MANY_BYTES = (
        "too_many_bytes",
        "The file is larger than LUNGWATCH_MAX_MEGABYTES. Export a smaller file, "
        "or raise the limit.",
    )
    NOT_A_JPEG = (
        "not_a_jpeg",
        "The file is not a JPEG, although its name may say so. Export the film as JPEG.",
    )
    TRUNCATED = (
        "truncated",
        "The file ends before the picture is complete, as after a broken copy. Send it again.",
    )
    DAMAGED = "damaged", "The picture data is damaged, so the film is not scored. Send it again."
    TOO_SMALL = (
        "too_small",
        "One side of the picture is shorter than LUNGWATCH_MIN_SIDE_PIXELS. "
        "Send the full-size film.",
    )
    TOO_MANY_PIXELS = (
        "too_many_pixels",
        "The picture is larger than LUNGWATCH_MAX_MEGAPIXELS. Export a smaller picture, "
        "or raise the limit.",
    )
    UNSUPPORTED_COLOUR = (
        "unsupported_colour",
        "Only grey and three-channel colour pictures are read, not CMYK. Export the film in grey.",
    )
    UNSUPPORTED_DEPTH = (
        "unsupported_depth",
        "Only 8 bits a sample are read. Export the film as 8-bit JPEG.",
    )
    UNSUPPORTED_CODING = (
        "unsupported_coding",
        "Only baseline, extended and progressive Huffman JPEG is read, not lossless, "
        "hierarchical or arithmetic. Export it as baseline JPEG.",
    )
    TOO_MANY_SCANS = (
        "too_many_scans",
        "The progressive JPEG has more scans than LUNGWATCH_MAX_JPEG_SCANS, which can stall "
        "a decoder. Export it as baseline JPEG.",
    )
    BLANK = "blank", "The picture has almost no contrast, so there is nothing to read."
    NOT_A_CHEST_XRAY = (
        "not_a_chest_xray",
        "The picture is very unlike the training films: not a frontal chest X-ray, or one that is "
        "upside down, turned, inverted or cropped. Send the whole film, upright, one in a file.",
    )
    SCREENER_CRASHED = (
        "screener_crashed",
        "Reading this file ended the screener process twice, the second time alone. "
        "Keep the file and report it.",
    )
    SCREENER_OVERRAN = (
        "screener_overran",
        "Reading this file took longer than LUNGWATCH_SCREEN_SECONDS twice, the second time "
        "alone. Keep the file and report it.",
    )
    SCREENER_OUT_OF_MEMORY = (
        "screener_out_of_memory",
        "Reading this file took more memory than LUNGWATCH_SCREENER_MEMORY_MB twice, the second "
        "time alone. Export it smaller, or raise the limit.",
    )


class ReviewReason(Code):
    """Why a scan's decision is REVIEW. Stable: people query these."""

    NEAR_THRESHOLD = (
        "near_threshold",
        "The probability is in the review band around the threshold, so a person decides.",
    )
    UNFAMILIAR = (
        "unfamiliar",
        "The film is unlike the training films, whatever its probability is. Look at the film "
        "first. Where `near_threshold` applies as well, this reason is given.",
    )


class LungwatchError(Exception):
    """Root of everything Lungwatch raises on purpose."""


class SettingsError(LungwatchError):
    """A setting is wrong. The message names it, its value, and what is valid."""


class FilmRefused(LungwatchError):
    """The film is refused: it gets a code, not a prediction."""

    def __init__(
        self,
        code: RefusalCode,
        sentence: str,
        *,
        measured: float | str | None = None,
        limit: float | str | None = None,
    ) -> None:
        """Set the sentence for people, the measured value and its limit."""
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.measured = None if measured is None else str(measured)
        self.limit = None if limit is None else str(limit)


class FilmStuck(LungwatchError):
    """One film cannot be read or moved now, although its folder is fine. Try again later."""


class ModelPackageError(LungwatchError):
    """A model package is damaged, incomplete, of a newer format, or fails its golden outputs."""


class RegistryError(LungwatchError):
    """The models folder has no such version, or what was asked of it is not allowed."""


class ScanError(LungwatchError):
    """The scan does not exist, was refused, or its film changed since screening."""


class DataError(LungwatchError):
    """Labelled films contradict one another. The message lists them."""


class OwnTrouble(LungwatchError):
    """Trouble that is not the film's fault. ``kind`` groups it in the log."""

    kind = "own"


class DatabaseTrouble(OwnTrouble):
    """The database is away, locked, full, or not at the schema this code expects."""

    kind = "database"


class StorageTrouble(OwnTrouble):
    """A folder cannot be listed, read or written: rights, a full disk, a lost mount."""

    kind = "storage"


class ScreenerTrouble(OwnTrouble):
    """No screener can be started or kept: the model package, memory, or the system."""

    kind = "screener"


def not_installed(package: str) -> str:
    """Return a message that an optional package is missing, with the command to install it."""
    command = shlex.join([sys.executable, "-m", "pip", "install", package])
    return f"needs {package}, which is not installed: run `{command}`"
