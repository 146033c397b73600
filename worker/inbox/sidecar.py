"""The JSON that lies beside a refused file and says why."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from worker.inbox.free_names import LONGEST_NAME, cut, take_name, taken_names
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

    def take(candidate: bytes) -> bool:
        path = folder / os.fsdecode(candidate)
        if os.path.lexists(path):
            if _holds(path, why):
                return False
            raise FileExistsError
        write_durably(aside, why)
        move(os.fsencode(aside), os.fsencode(path))
        return True

    try:
        if take_name(_why_name(name), scan.scan_id, take):
            fsync_folder(folder)
    except FileExistsError:
        pass  # a thousand strangers' files have its names: the row says why, too
    finally:
        with suppress(OSError):
            aside.unlink()


def find_why(folder: Path, name: bytes, scan_id: int) -> Path | None:
    """Return the JSON that was written beside a refused file, if it is there, and is this scan's.

    Raises:
        OSError: the folder cannot be looked into.
    """
    # The second is how long names were cut at first.
    for wanted in (_why_name(name), name[:_LONGEST_WHY] + b".json"):
        for candidate, _ in taken_names(os.fsencode(folder), wanted, scan_id):
            path = folder / os.fsdecode(candidate)
            with suppress(OSError):  # if it cannot be read, it is another's of a like name
                if _is_of(_read(path, _LARGEST), scan_id):
                    return path
    return None


def remove_why(folder: Path, name: bytes, scan_id: int) -> None:
    """Remove the JSON of a refused file that has left the folder. What cannot be removed stays."""
    with suppress(OSError):  # it is only in the way of a plain name for the next
        why = find_why(folder, name, scan_id)
        if why is not None:
            why.unlink()


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
        why = json.loads(data or b"")
        return bool(why["scan_id"] == scan_id and why.keys() >= _ALWAYS)
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


def _why_name(name: bytes) -> bytes:
    return cut(name, _LONGEST_WHY) + b".json"
