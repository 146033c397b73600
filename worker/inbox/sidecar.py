"""The JSON file next to a refused film, with the reason."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from worker.inbox.free_names import LONGEST_NAME, cut, take_name, taken_names
from worker.system.files import fsync_folder, move, open_regular, write_durably
from worker.types import Recorded

_LARGEST = 1 << 16  # bytes of such a file
_ALWAYS = {"file_name", "refusal_code", "sentence", "what_to_do"}  # in every such file
_LONGEST_WHY = LONGEST_NAME - len(b".1234567890123456789-999.json")  # bytes, without the number


def write_why(folder: Path, name: bytes, scan: Recorded) -> None:
    """Write the JSON file of a refused film, unless it exists from before a crash.

    It replaces nothing, because another worker may file a film of the same name at that moment.
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
        pass  # other files took all its names; the row has the reason too
    finally:
        with suppress(OSError):
            aside.unlink()


def find_why(folder: Path, name: bytes, scan_id: int) -> Path | None:
    """Return the JSON file of a refused film, if it exists and belongs to this scan.

    Raises:
        OSError: the folder cannot be read.
    """
    # The second is how early releases cut long names.
    for wanted in (_why_name(name), name[:_LONGEST_WHY] + b".json"):
        for candidate, _ in taken_names(os.fsencode(folder), wanted, scan_id):
            path = folder / os.fsdecode(candidate)
            with suppress(OSError):  # an unreadable file is not ours
                if _is_of(_read(path, _LARGEST), scan_id):
                    return path
    return None


def remove_why(folder: Path, name: bytes, scan_id: int) -> None:
    """Remove the JSON file of a refused film that left the folder, if possible."""
    with suppress(OSError):  # a leftover only blocks a plain name
        why = find_why(folder, name, scan_id)
        if why is not None:
            why.unlink()


def _holds(path: Path, why: bytes) -> bool:
    with suppress(OSError):  # an unreadable file is not ours
        return _read(path, len(why)) == why
    return False


def _read(path: Path, most: int) -> bytes | None:
    """Return the content of a file, or None if it has more than `most` bytes.

    The file may be a refused film of any size.

    Raises:
        OSError: it does not exist or cannot be read.
    """
    with open_regular(path) as file:
        return file.read(most) if os.fstat(file.fileno()).st_size <= most else None


def _is_of(data: bytes | None, scan_id: int) -> bool:
    """Whether the JSON was written by `_why_of` for this scan, not by another program."""
    try:
        why = json.loads(data or b"")
        return bool(why["scan_id"] == scan_id and why.keys() >= _ALWAYS)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _why_of(scan: Recorded) -> bytes:
    """Return the content of the JSON file. It holds no more than the scan's row."""
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
