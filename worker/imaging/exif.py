"""EXIF of a picture: its orientation, and what made it (CIPA DC-008).

Read by hand, because Pillow loads every tag and warns of each: 64 KB of EXIF can cost half a second
and thousands of lines in the log. Broken EXIF is ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

EXIF_HEADER = b"Exif\0\0"  # first bytes of a segment that holds EXIF
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}  # of TIFF, the format of EXIF
_INTEGERS = {3: "H", 4: "I"}  # SHORT (the standard) and LONG (some writers)
_ASCII = 2
_ORIENTATION = 0x0112
_WRITERS = {0x010F, 0x0110, 0x0131}  # make, model, software
_WRITER_BYTES = 64  # at most, of each
_ENTRY_BYTES = 12


@dataclass(frozen=True, kw_only=True)
class Exif:
    """The EXIF that is used."""

    orientation: int = 1  # 1 to 8; 1 if missing or unreadable
    writers: tuple[bytes, ...] = ()  # make, model, software, as far as present


def read_exif(segment: bytes) -> Exif:
    """Read the body of a segment that begins with `EXIF_HEADER`, as far as it is valid."""
    tiff = segment.removeprefix(EXIF_HEADER)
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return Exif()
    orientation: int | None = None
    writers: dict[int, bytes] = {}
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        first = directory + 2
        for entry in range(first, first + _ENTRY_BYTES * entries, _ENTRY_BYTES):
            tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, entry)
            value = entry + 8
            if tag == _ORIENTATION and kind in _INTEGERS and count == 1 and orientation is None:
                (orientation,) = struct.unpack_from(f"{order}{_INTEGERS[kind]}", tiff, value)
            elif tag in _WRITERS and kind == _ASCII:
                if count > 4:  # the entry holds its offset instead
                    (value,) = struct.unpack_from(f"{order}I", tiff, value)
                writers.setdefault(tag, tiff[value : value + min(count, _WRITER_BYTES)])
    except struct.error:  # an offset beyond the end
        pass
    upright = orientation if orientation is not None and 1 <= orientation <= 8 else 1
    return Exif(orientation=upright, writers=tuple(writers[tag] for tag in sorted(writers)))
