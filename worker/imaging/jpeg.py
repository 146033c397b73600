"""The header of a JPEG: its frame, scans, orientation and holes, read before decoding.

Walks the marker segments as a decoder does (ITU-T T.81, annex B), without a library. Any bytes give
a `Header` or a refusal, in time proportional to the file's size.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from worker.errors import FilmRefused, RefusalCode
from worker.imaging.exif import EXIF_HEADER, Exif, read_exif

# Start-of-frame markers, ITU-T T.81 table B.1: those that libjpeg-turbo decodes to 8 bits; others.
_PROGRESSIVE = 0xC2
HUFFMAN_FRAMES = {0xC0, 0xC1, _PROGRESSIVE}
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_OTHER_FRAMES |= {0xF7}  # JPEG-LS, ITU-T T.87
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_SOI, _EOI, _SOS, _DHT, _DQT, _APP1 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xE1
_FILL = re.compile(rb"\xff*")
# Ends a scan's data: any marker but a restart (FF 00 is a stuffed byte, FF FF is fill).
_AFTER_SCAN = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
# A hole in a file is whole sectors, of 512 bytes or more. Where zeros do not encode flat grey, the
# longest run of zeros in 20 real films in five encodings was 31.
_HOLE = bytes(256)
_FRAME = struct.Struct(">BHHB")  # P, Y, X and Nf of a frame header, T.81 table B.2
_MEANS = 0  # Tc, the class of a Huffman table: 0 for the means of blocks (DC)


@dataclass(frozen=True, kw_only=True)
class Header:
    """Facts of a JPEG read from its markers."""

    width: int
    height: int
    depth_bits: int
    components: int
    frame_marker: int  # second byte of the start-of-frame marker, 0xC0 for baseline
    jpeg_scans: int
    orientation: int  # EXIF, 1 to 8; 1 if missing or unreadable
    complete: bool  # an end-of-image marker follows the first scan
    encoding: str  # 8 hex digits: the writer of the file, see `parse_header`
    quantisation: bytes  # its quantisation tables as stored, T.81, B.2.4.1
    hole_at: int | None  # offset of zeros in a scan that no encoder writes


def parse_header(data: bytes) -> Header:
    """Read the JPEG's marker segments (ITU-T T.81, annex B).

    `encoding` is a digest of what one encoder writes into all its files: quantisation tables, the
    frame's type, depth and sampling, and make, model and software from EXIF (Kee, Johnson and
    Farid 2011, *Digital Image Authentication from JPEG Headers*). It distinguishes devices and
    export programs, and identifies no patient.

    Raises:
        FilmRefused: not a JPEG, truncated inside a segment, or damaged (an invalid frame header,
            or a scan before the frame).
    """
    if data[:3] != b"\xff\xd8\xff":
        raise FilmRefused(
            RefusalCode.NOT_A_JPEG,
            f"The file is not a JPEG: it begins with {data[:3].hex(' ').upper()}, "
            "not with FF D8 FF.",
            measured=data[:3].hex(" ").upper(),
            limit="FF D8 FF",
        )
    frame: tuple[int, bytes] | None = None
    exif: Exif | None = None
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
        elif marker == _APP1 and body.startswith(EXIF_HEADER):
            exif = exif or read_exif(body)
        position = end
    if frame is None or len(frame[1]) < _FRAME.size:
        raise FilmRefused(RefusalCode.DAMAGED, "The JPEG has picture data before its frame header.")
    kind, body = frame
    depth_bits, height, width, components = _FRAME.unpack_from(body)
    exif = exif or Exif()
    quantisation = [table for marker, table in tables if marker == _DQT]
    huffman = [table for marker, table in tables if marker == _DHT]
    zeros = set().union(*map(_meanings_of_zeros, huffman))
    jpeg_scans, hole_at = 0, -1
    for header, first, last in _walk_scans(data, start, end):
        jpeg_scans += 1
        if hole_at < 0 and not _zeros_are_flat(header, zeros, progressive=kind == _PROGRESSIVE):
            hole_at = data.find(_HOLE, first, last)
    return Header(
        width=width,
        height=height,
        depth_bits=depth_bits,
        components=components,
        frame_marker=kind,
        jpeg_scans=jpeg_scans,
        orientation=exif.orientation,
        encoding=_digest([*quantisation, bytes([kind]), body[:1], body[5:], *exif.writers]),
        quantisation=b"".join(quantisation),
        complete=data.rfind(b"\xff\xd9", end) > 0,  # searched from the end, where it is
        hole_at=None if hole_at < 0 else hole_at,
    )


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4) + part)
    return digest.hexdigest()[:8]


def _meanings_of_zeros(body: bytes) -> set[tuple[int, int]]:
    # (class, symbol) of each Huffman table in a segment. Zero bits encode the table's first symbol
    # (T.81, annex C). Symbol 0 means "no more".
    meanings = set()
    while len(body) > 17:
        table_class = body[0] >> 4  # Tc
        code_counts = body[1:17]  # L1 to L16: the number of codes of each length
        symbols = body[17:]  # V, and then the next table
        meanings.add((table_class, symbols[0]))
        body = symbols[sum(code_counts) :]
    return meanings


class _ScanHeader(NamedTuple):
    """The part of the picture that a scan holds: T.81, table B.3."""

    first_coefficient: int  # Ss; 0 is a block's mean
    last_coefficient: int  # Se; below 64
    bit_before: int  # Ah: Al of the scan that this one refines, else 0
    bit: int  # Al: the lowest bit in this scan

    @classmethod
    def read(cls, header: bytes) -> _ScanHeader | None:
        """Read the body of a start-of-scan segment; None if its length is invalid."""
        components = header[0] if header else 0  # Ns, each with two bytes that follow
        if len(header) != 1 + 2 * components + 3:
            return None
        first, last, bits = header[-3:]
        return cls(first, last, bits >> 4, bits & 0xF)


def _zeros_are_flat(header: bytes, zeros: set[tuple[int, int]], *, progressive: bool) -> bool:
    # Whether an encoder may write long runs of zeros in this scan, for flat grey. Progressive
    # detail has other codes for that. Refined means are single bits, so a hole changes one step
    # at most.
    if not progressive:
        return all(symbol == 0 for _, symbol in zeros)
    scan = _ScanHeader.read(header)
    if scan is None or scan.first_coefficient > 0:
        return False
    return scan.bit_before > 0 or all(symbol == 0 for table, symbol in zeros if table == _MEANS)


def _walk_scans(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (header, start of data, end of data) of each scan; the first header is `start:end`.

    Skips the segments between scans as a decoder does, because a comment may hold the bytes of any
    marker.
    """
    while True:
        after = _AFTER_SCAN.search(data, end)
        yield data[start:end], end, after.start() if after else len(data)
        while after and after[1][0] not in (_SOI, _EOI, _SOS):
            length = int.from_bytes(data[after.end() : after.end() + 2])
            after = _AFTER_SCAN.search(data, after.end() + max(2, length))
        if not after or after[1][0] != _SOS:
            return
        start = after.end() + 2
        end = after.end() + max(2, int.from_bytes(data[after.end() : start]))


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
                f"The JPEG's header is corrupt: no segment starts at byte {position:,}.",
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
