"""What a JPEG says of itself before a pixel is decoded: its frame, scans, orientation and holes.

Walks marker segments as the decoder does (ITU-T T.81, annex B), and opens no library: whatever
the bytes are, the outcome is a `Header` or a refusal, in time that grows with the file's size.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from worker.errors import FilmRefused, RefusalCode

# Start-of-frame markers, ITU-T T.81 table B.1: those libjpeg-turbo decodes to 8 bits, and the rest.
_PROGRESSIVE = 0xC2
HUFFMAN_FRAMES = {0xC0, 0xC1, _PROGRESSIVE}
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_OTHER_FRAMES |= {0xF7}  # JPEG-LS, ITU-T T.87
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_SOI, _EOI, _SOS, _DHT, _DQT, _APP1 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xE1
_FILL = re.compile(rb"\xff*")
# What ends a scan's data: any marker but a restart (FF 00 is a stuffed byte, FF FF fill).
_AFTER_SCAN = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
# A hole in a file is of whole sectors, 512 bytes or more. Where zeros are no flat grey, the longest
# run in 20 real films in five encodings was of 31.
_HOLE = bytes(256)
_EXIF_ORIENTATION = 0x0112
_EXIF_WRITERS = {0x010F, 0x0110, 0x0131}  # make, model, software
_EXIF_ASCII = 2
_WRITER_BYTES = 64  # of each, at most
_EXIF_HEADER = b"Exif\0\0"
_TIFF_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_TIFF_INTEGERS = {3: "H", 4: "I"}  # SHORT, as the standard asks, and LONG, as some write


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a JPEG's markers say of it before a pixel is decoded."""

    width: int
    height: int
    depth_bits: int
    components: int
    frame_marker: int  # second byte of the start-of-frame marker, 0xC0 for baseline
    jpeg_scans: int
    orientation: int  # EXIF, 1 to 8; 1 where there is none or it cannot be read
    complete: bool  # an end-of-image marker follows the first scan
    encoding: str  # 8 hex digits: what wrote the file, see `parse_header`
    hole_at: int | None  # byte from which a scan's data is zeros that no encoder writes


def parse_header(data: bytes) -> Header:
    """Walk the JPEG's marker segments up to its first scan (ITU-T T.81, annex B).

    `encoding` is a digest of what an encoder writes alike into all its files: quantisation tables,
    the frame's kind, depth and sampling, and make, model and software in EXIF (Kee, Johnson and
    Farid 2011, *Digital Image Authentication from JPEG Headers*). It tells devices and exports
    apart, and nothing of the patient.

    Raises:
        FilmRefused: not a JPEG, truncated inside a segment, or damaged (a frame header that
            makes no sense, a scan before any frame).
    """
    if data[:3] != b"\xff\xd8\xff":
        raise FilmRefused(
            RefusalCode.NOT_A_JPEG,
            f"The file does not begin as a JPEG does (FF D8 FF) but with "
            f"{data[:3].hex(' ').upper()}.",
            measured=data[:3].hex(" ").upper(),
            limit="FF D8 FF",
        )
    frame: tuple[int, bytes] | None = None
    exif: _Exif | None = None
    tables: list[tuple[int, bytes]] = []
    position = 2
    while True:
        marker, start, end = _segment(data, position)
        if marker == _SOS:
            break
        body = data[start:end]
        if marker in HUFFMAN_FRAMES or marker in _OTHER_FRAMES:
            frame = (marker, body)
        elif marker in (_DQT, _DHT):
            tables.append((marker, body))
        elif marker == _APP1 and body.startswith(_EXIF_HEADER):
            exif = exif or _read_exif(body)
        position = end
    if frame is None or len(frame[1]) < 6:
        raise FilmRefused(RefusalCode.DAMAGED, "The JPEG's picture data comes before its frame.")
    kind, body = frame
    exif = exif or _Exif()
    quantisation = [table for marker, table in tables if marker == _DQT]
    huffman = [table for marker, table in tables if marker == _DHT]
    zeros = set().union(*map(_meanings_of_zeros, huffman))
    jpeg_scans, hole_at = 0, -1
    for scan, first, last in _walk_scans(data, start, end):
        jpeg_scans += 1
        if hole_at < 0 and not _zeros_are_flat(scan, zeros, progressive=kind == _PROGRESSIVE):
            hole_at = data.find(_HOLE, first, last)
    return Header(
        width=int.from_bytes(body[3:5]),
        height=int.from_bytes(body[1:3]),
        depth_bits=body[0],
        components=body[5],
        frame_marker=kind,
        jpeg_scans=jpeg_scans,
        orientation=exif.orientation,
        encoding=_digest([*quantisation, bytes([kind]), body[:1], body[5:], *exif.writers]),
        complete=data.rfind(b"\xff\xd9", end) > 0,  # from the end: that is where it is
        hole_at=None if hole_at < 0 else hole_at,
    )


def _digest(parts: Iterable[bytes]) -> str:
    told = hashlib.sha256()
    for part in parts:
        told.update(len(part).to_bytes(4) + part)
    return told.hexdigest()[:8]


def _meanings_of_zeros(body: bytes) -> set[tuple[int, int]]:
    # (class, symbol) of each Huffman table in a segment: the symbol that zero bits stand for is its
    # first (T.81, annex C). Class 0 is blocks' means, 1 their detail; symbol 0 means "no more".
    meanings = set()
    while len(body) > 17:
        meanings.add((body[0] >> 4, body[17]))
        body = body[17 + sum(body[1:17]) :]
    return meanings


def _zeros_are_flat(scan: bytes, zeros: set[tuple[int, int]], *, progressive: bool) -> bool:
    # Whether an encoder may write long runs of zeros in this scan, for an even grey. Progressive
    # detail has other codes for that; refined means are bare bits, and hide no more than one step.
    if not progressive:
        return all(symbol == 0 for _, symbol in zeros)
    means, refined = scan[-3:-2] == b"\0", scan[-1:] >= b"\x10"
    return means and (refined or all(symbol == 0 for table, symbol in zeros if table == 0))


def _walk_scans(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (header, start of data, end of data) of each scan; the first's header is `start:end`.

    Steps over the segments between scans as the decoder does: a comment there may hold the bytes
    of any marker.
    """
    while True:
        found = _AFTER_SCAN.search(data, end)
        yield data[start:end], end, found.start() if found else len(data)
        while found and found[1][0] not in (_SOI, _EOI, _SOS):
            length = int.from_bytes(data[found.end() : found.end() + 2])
            found = _AFTER_SCAN.search(data, found.end() + max(2, length))
        if not found or found[1][0] != _SOS:
            return
        start = found.end() + 2
        end = found.end() + max(2, int.from_bytes(data[found.end() : start]))


def _segment(data: bytes, position: int) -> tuple[int, int, int]:
    """Return (marker, start of its body, end of its body) of the segment at `position`."""
    while True:
        if position + 4 > len(data):
            raise FilmRefused(
                RefusalCode.TRUNCATED, "The file ends inside its header.", measured=len(data)
            )
        if data[position] != 0xFF:
            raise FilmRefused(
                RefusalCode.DAMAGED,
                f"The JPEG's header is corrupt: byte {position:,} should begin a segment.",
                measured=position,
            )
        marker = data[position + 1]
        if marker == 0xFF and (fill := _FILL.match(data, position)):
            position = fill.end() - 1
        elif marker in _STANDALONE:
            position += 2
        else:
            break
    length = int.from_bytes(data[position + 2 : position + 4])
    if marker == _EOI or length < 2:
        raise FilmRefused(RefusalCode.DAMAGED, "The JPEG's header ends without a picture.")
    end = position + 2 + length
    if end > len(data):
        raise FilmRefused(
            RefusalCode.TRUNCATED, "The file ends inside its header.", measured=len(data), limit=end
        )
    return marker, position + 4, end


@dataclass(frozen=True)
class _Exif:
    orientation: int = 1  # 1 to 8; 1 where there is none or it cannot be read
    writers: tuple[bytes, ...] = ()  # make, model and software, those that there are


def _read_exif(segment: bytes) -> _Exif:
    # By hand, because Pillow loads every tag there is and warns of each: 64 KB of EXIF can cost
    # half a second and thousands of lines in the log. Broken EXIF is not the picture's fault.
    tiff = segment.removeprefix(_EXIF_HEADER)
    order = _TIFF_BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return _Exif()
    orientation: int | None = None
    writers: dict[int, bytes] = {}
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, entry)
            if (
                tag == _EXIF_ORIENTATION
                and kind in _TIFF_INTEGERS
                and count == 1
                and orientation is None
            ):
                (orientation,) = struct.unpack_from(
                    f"{order}{_TIFF_INTEGERS[kind]}", tiff, entry + 8
                )
            elif tag in _EXIF_WRITERS and kind == _EXIF_ASCII:
                # Four bytes stand in the entry itself, more where it points to.
                (place,) = (
                    (entry + 8,) if count <= 4 else struct.unpack_from(f"{order}I", tiff, entry + 8)
                )
                writers.setdefault(tag, tiff[place : place + min(count, _WRITER_BYTES)])
    except struct.error:  # it points beyond its own end
        pass
    upright = orientation if orientation is not None and 1 <= orientation <= 8 else 1
    return _Exif(upright, tuple(writers[tag] for tag in sorted(writers)))
