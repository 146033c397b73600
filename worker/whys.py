"""The JSON that lies beside a refused file and says why."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from worker.files import write_atomically
from worker.names import LONGEST_NAME, NAME_TROUBLE, cut, free_names, names_to_try
from worker.records import Recorded

_LONGEST_WHY = LONGEST_NAME - len(b".1234567890123456789-999.json")  # bytes, before its number


def write_why(folder: Path, name: bytes, scan: Recorded) -> None:
    """Write the JSON beside a refused file, unless it is there from before a crash."""
    why = _why_of(scan)
    for names in names_to_try(_why_stem(name) + b".json", scan.scan_id):
        for candidate in names:
            path = folder / os.fsdecode(candidate)
            try:
                if not path.exists():
                    write_atomically(path, why, aside=folder / f".why-{scan.scan_id}.tmp")
                    return
                if path.read_bytes() == why:
                    return
            except OSError as error:
                if error.errno not in NAME_TROUBLE:
                    raise
                break


def whys_of(folder: Path, name: bytes, scan_id: int) -> Iterator[Path]:
    """Yield the JSON that was written beside a refused file, if it is there, and is this scan's."""
    families = [
        *names_to_try(_why_stem(name) + b".json", scan_id),
        free_names(name[:_LONGEST_WHY] + b".json", scan_id),  # as it was cut at first
    ]
    for names in families:
        for candidate in names:
            path = folder / os.fsdecode(candidate)
            try:
                ours = json.loads(path.read_bytes()).get("scan_id") == scan_id
            except FileNotFoundError:
                break
            except (OSError, ValueError, AttributeError) as error:
                if isinstance(error, OSError) and error.errno in NAME_TROUBLE:
                    break
                continue  # another's, of a like name
            if ours:
                yield path
                return


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
