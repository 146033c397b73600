"""TensorBoard event files, written without TensorBoard or TensorFlow: `tensorboard --logdir DIR`.

The format is TensorFlow's `event.proto` in TFRecord framing: length, its checksum, the message,
its checksum; checksums are CRC-32C, masked. Only scalars are written.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from training.io import needed

_POLYNOMIAL = 0x82F63B78  # CRC-32C, Castagnoli, reflected
_MASK = 0xA282EAD8
_TROUBLE = "TensorBoard's events cannot be written"


class EventFile:
    """One run's event file, added to a step at a time."""

    def __init__(self, folder: Path, *, now: float) -> None:
        """Start a file in `folder`. `now` is in seconds since 1970.

        Raises:
            DataError: it cannot be written.
        """
        with needed(_TROUBLE, folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{now:.0f}.lungwatch"
        self._write(_double(1, now) + _bytes(3, b"brain.Event:2"))

    def add(self, step: int, scalars: Mapping[str, float], *, now: float) -> None:
        """Add named numbers at a step.

        Raises:
            DataError: they cannot be written.
        """
        values = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in scalars.items()
        )
        self._write(_double(1, now) + b"\x10" + _varint(step) + _bytes(5, values))

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        with needed(_TROUBLE, self.path), self.path.open("ab") as file:
            file.write(length + _checksum(length) + event + _checksum(event))


def _double(field: int, value: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)
