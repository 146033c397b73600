"""The JSON that lies beside a refused file and says why."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from worker.system.filenames import LONGEST_NAME, NAME_TROUBLE, cut, free_names, names_to_try
from worker.system.files import fsync_folder, move, open_regular, write_durably
from worker.types import Recorded

_LARGEST = 1 << 16  # bytes of such a JSON
_ALWAYS = {"file_name", "refusal_code", "sentence", "what_to_do"}  # is said of each
_LONGEST_WHY = LONGEST_NAME - len(b".1234567890123456789-999.json")  # bytes, before its number


def write_why(folder: Path, name: bytes, scan: Recorded) -> None:
    """Write the JSON beside a refused file, unless it is there from before a crash.

    It replaces nothing: another worker may file a film of that very name meanwhile.
    """
    why = _why_of(scan)
    aside = folder / f".why-{scan.scan_id}.tmp"
    try:
        for names in names_to_try(_why_stem(name) + b".json", scan.scan_id):
            for candidate in names:
                path = folder / os.fsdecode(candidate)
                try:
                    if os.path.lexists(path):
                        if _holds(path, why):
                            return
                        continue
                    write_durably(aside, why)
                    move(os.fsencode(aside), os.fsencode(path))
                except FileExistsError:
                    continue
                except OSError as error:
                    if error.errno not in NAME_TROUBLE:
                        raise
                    break
                fsync_folder(folder)
                return
    finally:
        with suppress(OSError):
            aside.unlink()


def whys_of(folder: Path, name: bytes, scan_id: int) -> Iterator[Path]:
    """Yield the JSON that was written beside a refused file, if it is there, and is this scan's."""
    families = [
        *names_to_try(_why_stem(name) + b".json", scan_id),
        free_names(name[:_LONGEST_WHY] + b".json", scan_id),  # as it was cut at first
    ]
    for names in families:
        for number, candidate in enumerate(names):
            path = folder / os.fsdecode(candidate)
            try:
                found = _read(path, _LARGEST)
            except OSError as error:
                gone = error.errno == errno.ENOENT and not os.path.lexists(path)
                # A stranger's that had the plain name may have gone since.
                if error.errno in NAME_TROUBLE or (gone and number > 0):
                    break
                continue  # another's, of a like name
            if _is_of(found, scan_id):
                yield path
                return


def _holds(path: Path, why: bytes) -> bool:
    with suppress(OSError):  # if it may not be read, it is another's
        return _read(path, len(why)) == why
    return False


def _read(path: Path, most: int) -> bytes | None:
    """Return what a file holds, or None of one that holds more than so much.

    Whatever stands under such a name may be a film that was refused itself, of any size.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    with open_regular(path) as file:
        return file.read(most) if os.fstat(file.fileno()).st_size <= most else None


def _is_of(data: bytes | None, scan_id: int) -> bool:
    """Whether this is what `_why_of` writes of a scan, and not some other program's JSON."""
    try:
        found = json.loads(data or b"")
        return bool(found["scan_id"] == scan_id and found.keys() >= _ALWAYS)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _why_of(scan: Recorded) -> bytes:
    """Return what the JSON says: no more than the scan's row holds."""
    refusal = scan.refusal
    if refusal is None:
        raise ValueError(f"scan {scan.scan_id} was not refused")
    why = {
        "scan_id": scan.scan_id,
        "file_name": scan.sighting.name,
        "sha256": scan.sha256,
        "refusal_code": refusal.code.value,
        "sentence": refusal.sentence,
        "measured": refusal.measured,
        "limit": refusal.limit,
        "what_to_do": refusal.code.meaning,
    }
    return json.dumps(why, indent=2, ensure_ascii=False).encode() + b"\n"


def _why_stem(name: bytes) -> bytes:
    return cut(name, _LONGEST_WHY)
