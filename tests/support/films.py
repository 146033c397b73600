"""Films drawn for the tests, and ways to spoil them. No patient's picture is needed for any.

`draw` and `jpeg` make sound films, `with_comment` makes any number of them differ in their bytes
alone, `bad_films` lists what must be refused and why, `odd_but_sound` what looks odd and must
not be.
"""

from __future__ import annotations

import functools
import io
import struct
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from worker.errors import RefusalCode

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
_SCAN = b"\xff\xda"
_FRAMES = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2")


def draw(seed: int, *, width: int = 480, height: int = 400, opacity: float = 0.0) -> Grey:
    """Draw a film of a chest: (height, width) uint8, the same for the same arguments.

    Args:
        seed: varies build, position, exposure, noise, and where an opacity lies.
        width: pixels.
        height: pixels.
        opacity: how dense a hazy patch one lung holds, 0 (none) to 1 (as white as bone).
    """
    rng = np.random.default_rng(seed)

    def vary(middle: float, by: float = 0.03) -> float:
        return middle + float(rng.uniform(-by, by))

    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]

    def blob(
        cx: float, cy: float, rx: float, ry: float, *, edge: float, power: float = 2
    ) -> Floats:
        away = np.abs((x - cx) / rx) ** power + np.abs((y - cy) / ry) ** power
        result: Floats = 1 / (1 + np.exp(np.clip((away - 1) / edge, -50, 50)))
        return result

    middle = vary(0.5, 0.02)
    thorax = blob(middle, 0.62, vary(0.46), 0.66, edge=0.05, power=3)
    neck = blob(middle, 0.0, 0.13, 0.25, edge=0.2)
    right = blob(middle - 0.2, vary(0.48), vary(0.15, 0.01), vary(0.34), edge=0.15, power=2.4)
    left = blob(middle + 0.2, vary(0.47), vary(0.14, 0.01), vary(0.33), edge=0.15, power=2.4)
    lungs = np.maximum(right, left)
    spine = np.exp(-(((x - middle) / 0.05) ** 2))
    heart = blob(middle + 0.05, 0.62, vary(0.14, 0.02), vary(0.15, 0.02), edge=0.2)
    diaphragm = 1 / (1 + np.exp(-(y - vary(0.8) - 0.12 * np.abs(x - middle)) / 0.015))
    ribs = np.sin(2 * np.pi * (y * 9 - ((x - middle) / 0.3) ** 2 * 1.3)) ** 8
    clavicles = np.exp(-(((y - 0.17 + 0.12 * np.abs(x - middle)) / 0.015) ** 2))

    light = 0.62 * np.maximum(thorax, neck)
    light -= 0.42 * lungs * (1 - 0.75 * heart)
    light += thorax * (0.12 * ribs + 0.1 * clavicles + 0.16 * spine + 0.1 * heart)
    light = np.maximum(light, 0.72 * diaphragm * thorax)
    side = middle + 0.2 * float(rng.choice([-1, 1]))
    patch = blob(side, vary(0.55, 0.1), vary(0.11), vary(0.13), edge=0.5)
    light += opacity * 0.45 * patch * lungs
    light += rng.normal(0, 0.012, light.shape)
    # What makes each chest its own: without it all would be near copies of one another.
    own = np.random.default_rng((seed, 1)).normal(0, 0.1, (14, 14)).astype(np.float32)
    texture = Image.fromarray(own).resize((width, height), Image.Resampling.BICUBIC)
    light += thorax * np.asarray(texture)

    exposure = vary(1.0, 0.08)
    picture = Image.fromarray(np.clip(14 + 255 * exposure * light, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)  # the side marker, without which a mirrored film looks the same
    left_x, top, unit = width * 0.06, height * 0.08, max(width, height) * 0.02
    pen.rectangle((left_x, top, left_x + unit, top + 4 * unit), fill=250)
    pen.rectangle((left_x, top + 3 * unit, left_x + 3 * unit, top + 4 * unit), fill=250)
    return np.asarray(picture)


def jpeg(
    array: npt.NDArray[np.uint8],
    *,
    quality: int = 90,
    progressive: bool = False,
    mode: Literal["L", "RGB", "CMYK"] = "L",
    orientation: int | None = None,
    model: str | None = None,
    comment: bytes | None = None,
    restart_rows: int = 0,
) -> bytes:
    """Encode as JPEG: the pixels as they lie, with an EXIF `orientation` saying how to turn them.

    A `comment` makes the bytes unique; `restart_rows` puts a restart marker after so many rows
    of blocks.
    """
    picture = Image.fromarray(array).convert(mode)
    tags = Image.Exif()
    if orientation is not None:
        tags[0x0112] = orientation
    if model is not None:
        tags[0x0110] = model  # of a camera, in EXIF's words
    data = _saved(
        picture,
        "JPEG",
        quality=quality,
        progressive=progressive,
        exif=tags,
        restart_marker_rows=restart_rows,
    )
    return data if comment is None else with_comment(data, comment)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def with_comment(data: bytes, comment: bytes) -> bytes:
    """Put a comment segment behind the start of a JPEG: other bytes, the same picture. Cheap."""
    return with_segments(data, segment(0xFE, comment))


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """Put marker segments behind the start of a JPEG."""
    return data[:2] + b"".join(segments) + data[2:]


def segment(marker: int, body: bytes) -> bytes:
    """Return one JPEG marker segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def stored(upright: Grey, orientation: int) -> Grey:
    """Lay an upright picture out as a file of that EXIF orientation stores it (CIPA DC-008)."""
    turned = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(turned[orientation])


def bordered(array: Grey) -> Grey:
    """Set a film in broad black borders, as on a plate much larger than the child."""
    height, width = array.shape
    return np.pad(array, ((height, height), (width * 2, width)))


def frame_at(data: bytes) -> int:
    """Return where a JPEG's frame header begins (its FF C0, C1 or C2)."""
    position = 2
    while data[position : position + 2] not in _FRAMES:
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return position


def with_frame(
    data: bytes,
    *,
    marker: int | None = None,
    depth_bits: int | None = None,
    width: int | None = None,
    height: int | None = None,
) -> bytes:
    """Rewrite what a JPEG's frame header claims, and leave the picture's data as it is."""
    at = frame_at(data)
    frame = bytearray(data[at : at + 9])
    if marker is not None:
        frame[1] = marker
    if depth_bits is not None:
        frame[4] = depth_bits
    if height is not None:
        frame[5:7] = struct.pack(">H", height)
    if width is not None:
        frame[7:9] = struct.pack(">H", width)
    return data[:at] + frame + data[at + 9 :]


def truncated(data: bytes, percent: float) -> bytes:
    """Keep the first `percent` of a file."""
    return data[: int(len(data) * percent / 100)]


def zeroed(data: bytes, start: float, stop: float = 1.0) -> bytes:
    """Fill a part of a file with zeros, as a hole or a preallocated copy leaves it."""
    first, last = int(len(data) * start), int(len(data) * stop)
    return data[:first] + bytes(last - first) + data[last:]


def scan_starts(data: bytes) -> list[int]:
    """Return where each scan header of a JPEG without odd comments begins."""
    starts = [data.index(_SCAN)]
    while (following := data.find(_SCAN, starts[-1] + 2)) > 0:
        starts.append(following)
    return starts


def many_scans(data: bytes, count: int, *, between: bytes = b"") -> bytes:
    """Repeat the last scan of a progressive JPEG until there are `count`.

    `between` goes between the first scan and the rest: a comment there can hide an end of image.
    """
    starts = scan_starts(data)
    end = data.rindex(EOI)
    last = data[starts[-1] : end]
    # The tables of the second scan stand before its header, right behind the first one's data.
    second = data.index(b"\xff\xc4", starts[0])
    repeated = last * (count - len(starts))
    return data[:second] + between + data[second:end] + repeated + data[end:]


def exif(orientation: int, *, order: Literal["<", ">"] = ">", long: bool = False) -> bytes:
    """Return the EXIF segment of an orientation, in either byte order, as SHORT or as LONG."""
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, 1)
    entry = struct.pack(f"{order}HHI", 0x0112, 4 if long else 3, 1)
    value = struct.pack(f"{order}I" if long else f"{order}HH", *([orientation] + [0] * (not long)))
    return segment(0xE1, b"Exif\0\0" + start + entry + value + bytes(4))


def exif_bomb() -> bytes:
    """Return 64 KB of EXIF whose 4,000 tags each claim a large part of it: costly to read whole."""
    tags, orientation = 4000, struct.pack("<HHIHH", 0x0112, 3, 1, 1, 0)
    data_at = 8 + 2 + 12 * (tags + 1) + 4
    size = 65535 - 2 - 6 - data_at
    entries = b"".join(struct.pack("<HHII", 0x8000 + i, 7, size, data_at) for i in range(tags))
    tiff = b"II*\0" + struct.pack("<IH", 8, tags + 1) + orientation + entries + bytes(4)
    return segment(0xE1, b"Exif\0\0" + tiff + bytes(size))


def batch(
    count: int, *, seed: int = 0, width: int = 480, height: int = 400, pictures: int = 8
) -> dict[str, bytes]:
    """Draw sound films by name, each with bytes of its own; only so many pictures differ."""
    drawn = [
        jpeg(draw(number, width=width, height=height, opacity=number % 3 / 2))
        for number in range(min(pictures, count))
    ]
    return {
        f"scan-{seed}-{number:03}.jpeg": with_comment(
            drawn[number % len(drawn)], b"%d/%d" % (seed, number)
        )
        for number in range(count)
    }


def small_batch(count: int, *, seed: int = 0) -> dict[str, bytes]:
    """Draw sound films, by name, that cost little to write and to screen."""
    return batch(count, seed=seed, width=128, height=104)


class BadFilm(NamedTuple):
    """Bytes that must be refused."""

    data: bytes
    codes: frozenset[RefusalCode]  # one, or several where either name for the damage is right


@functools.cache
def plain(times: int = 1) -> Grey:
    """Return the picture that every film of `odd_but_sound` shows, but for the bordered one.

    It is (272, 320) uint8, or so many `times` as high and wide: 4 makes a full-size film of it.
    """
    return draw(7, width=320 * times, height=272 * times, opacity=0.5)


@functools.cache
def bad_films(times: int = 1) -> dict[str, BadFilm]:
    """Name every way in which bytes alone get a film refused, at the default limits.

    Damaged ones would show `plain`, so many `times` as high and wide.
    """
    array = plain(times)
    sound = jpeg(array)
    passes = jpeg(array, progressive=True)
    rng = np.random.default_rng(11)
    half = len(sound) // 2
    small_passes = jpeg(draw(2, width=120, height=104), progressive=True)
    hidden = segment(0xFE, b"the picture ends here: " + EOI)
    code = RefusalCode
    either = (code.TRUNCATED, code.DAMAGED)

    films: dict[str, tuple[bytes, tuple[RefusalCode, ...]]] = {
        "empty": (b"", (code.EMPTY,)),
        "png": (_saved(Image.fromarray(array), "PNG"), (code.NOT_A_JPEG,)),
        "tiff": (_saved(Image.fromarray(array), "TIFF"), (code.NOT_A_JPEG,)),
        "text": (b"Dear colleague, please find the film attached.\n", (code.NOT_A_JPEG,)),
        "random": (b"\0" + rng.bytes(40_000), (code.NOT_A_JPEG,)),
        "all_zeros": (bytes(len(sound)), (code.NOT_A_JPEG,)),
        "one_byte": (b"\xff", (code.NOT_A_JPEG,)),
        "starts_late": (sound[1:], (code.NOT_A_JPEG,)),
        "start_and_end_alone": (SOI + EOI, either),
        "header_alone": (sound[: sound.index(_SCAN)], (code.TRUNCATED,)),
        "no_frame": (SOI + sound[sound.index(_SCAN) :], (code.DAMAGED,)),
        "last_byte_lost": (sound[:-1], (code.TRUNCATED,)),
        "end_marker_lost": (sound[:-2], (code.TRUNCATED,)),
        "preallocated_half": (zeroed(sound, 0.5), (code.TRUNCATED,)),
        "preallocated_last_percent": (zeroed(sound, 0.99), (code.TRUNCATED,)),
        "half_zeroed_end_kept": (zeroed(sound, 0.5)[:-2] + EOI, (code.DAMAGED,)),
        "half_cut_end_kept": (sound[:half] + EOI, (code.DAMAGED,)),
        "hole": (sound[:half] + bytes(4096) + sound[half + 4096 :], (code.DAMAGED,)),
        "hole_progressive": (passes[:half] + bytes(4096) + passes[half + 4096 :], (code.DAMAGED,)),
        "hole_in_last_pass": (zeroed(passes, 0.75, 0.8), (code.DAMAGED,)),
        "random_half": (sound[:half] + rng.bytes(half - 2) + EOI, either),
        "ones_half": (sound[:half] + b"\xff" * (half - 2) + EOI, (code.DAMAGED,)),
        "middle_lost": (sound[:half] + sound[half + 1000 :], (code.DAMAGED,)),
        "middle_doubled": (sound[:half] + sound[half - 1000 :], (code.DAMAGED,)),
        "header_zeroed": (sound[:30] + bytes(300) + sound[330:], (code.DAMAGED,)),
        "taller_than_its_data": (with_frame(sound, height=400 * times), (code.DAMAGED,)),
        "shorter_than_its_data": (with_frame(sound, height=200 * times), (code.DAMAGED,)),
        "wider_than_its_data": (with_frame(sound, width=400 * times), (code.DAMAGED,)),
        "narrower_than_its_data": (with_frame(sound, width=200 * times), (code.DAMAGED,)),
        "too_small": (jpeg(draw(1, width=95, height=300)), (code.TOO_SMALL,)),
        "one_pixel": (jpeg(np.full((1, 1), 90, np.uint8)), (code.TOO_SMALL,)),
        "height_left_for_later": (with_frame(sound, height=0), (code.TOO_SMALL,)),
        "huge": (with_frame(sound, width=65_500, height=65_500), (code.TOO_MANY_PIXELS,)),
        "144_megapixels": (
            jpeg(np.zeros((12_000, 12_000), np.uint8), quality=1),
            (code.TOO_MANY_PIXELS,),
        ),
        "cmyk": (jpeg(np.stack([array] * 3, -1), mode="CMYK"), (code.UNSUPPORTED_COLOUR,)),
        "12_bit": (with_frame(sound, depth_bits=12), (code.UNSUPPORTED_DEPTH,)),
        "lossless": (with_frame(sound, marker=0xC3), (code.UNSUPPORTED_CODING,)),
        "hierarchical": (with_frame(sound, marker=0xC5), (code.UNSUPPORTED_CODING,)),
        "arithmetic": (with_frame(sound, marker=0xC9), (code.UNSUPPORTED_CODING,)),
        "arithmetic_progressive": (with_frame(passes, marker=0xCA), (code.UNSUPPORTED_CODING,)),
        "jpeg_ls": (with_frame(sound, marker=0xF7), (code.UNSUPPORTED_CODING,)),
        "2000_scans": (many_scans(small_passes, 2000), (code.TOO_MANY_SCANS,)),
        "2000_scans_hidden": (
            many_scans(small_passes, 2000, between=hidden),
            (code.TOO_MANY_SCANS,),
        ),
        "grey": (jpeg(np.full((300, 300), 117, np.uint8)), (code.BLANK,)),
        "black": (jpeg(np.zeros((300, 300), np.uint8)), (code.BLANK,)),
        "white_in_colour": (jpeg(np.full((300, 300, 3), 255, np.uint8), mode="RGB"), (code.BLANK,)),
        "noise_alone": (jpeg(rng.integers(98, 102, (300, 300), np.uint8)), (code.BLANK,)),
    }
    for percent in (1, 5, 25, 50, 75, 90, 99):
        films[f"truncated_at_{percent}"] = truncated(sound, percent), (code.TRUNCATED,)
        films[f"progressive_truncated_at_{percent}"] = truncated(passes, percent), (code.TRUNCATED,)
    return {name: BadFilm(data, frozenset(codes)) for name, (data, codes) in films.items()}


@functools.cache
def odd_but_sound(times: int = 1) -> dict[str, bytes]:
    """Name what looks odd in a JPEG and harms nothing. All show `plain`, one `bordered(plain)`."""
    array = plain(times)
    sound = jpeg(array, quality=95)
    colour = np.stack([array] * 3, -1)
    in_borders = Image.fromarray(bordered(array))
    in_colour = Image.fromarray(colour)
    passes = jpeg(array, quality=95, progressive=True)
    frame = frame_at(sound)
    films = {
        "plain": sound,
        "best_quality": jpeg(array, quality=100),
        "colour": jpeg(colour, quality=95, mode="RGB"),
        "progressive": passes,
        "progressive_colour": jpeg(colour, quality=95, mode="RGB", progressive=True),
        "black_borders": jpeg(bordered(array), quality=95),
        "black_borders_of_zeros": _saved(in_borders, "JPEG", quality=95, optimize=True),
        "black_borders_progressive": _saved(in_borders, "JPEG", quality=95, progressive=True),
        "full_colour_resolution": _saved(in_colour, "JPEG", quality=95, subsampling="4:4:4"),
        "half_colour_resolution": _saved(in_colour, "JPEG", quality=95, subsampling="4:2:2"),
        "stored_as_rgb": _saved(in_colour, "JPEG", quality=95, keep_rgb=True),
        "restart_markers": jpeg(array, quality=95, restart_rows=1),
        "comment": jpeg(array, quality=95, comment=b"film 1"),
        "long_comments": with_comment(with_comment(sound, bytes(65_533)), b"\xff\xd9" * 30_000),
        "comment_with_markers": with_comment(sound, b"\xff\xd8\xff\xda\xff\xc0\xff\xd9" * 99),
        "comment_between_scans": many_scans(
            passes, len(scan_starts(passes)), between=segment(0xFE, _SCAN * 2000 + EOI)
        ),
        "unknown_segments": with_segments(sound, segment(0xE5, b"vendor"), segment(0xEF, bytes(9))),
        "fill_bytes": sound[:frame] + b"\xff" * 1000 + sound[frame:],
        "fill_bytes_at_the_end": sound[:-2] + b"\xff" * 5 + EOI,
        "sampling_factor_2": sound[: frame + 11] + b"\x22" + sound[frame + 12 :],
        "trailing_zeros": sound + bytes(5000),
        "trailing_text": sound + b"\r\nsent by the archive\r\n",
        "trailing_random": sound + np.random.default_rng(3).bytes(500_000),
        "second_picture_behind": sound + jpeg(draw(8, width=160, height=120)),
        "second_picture_cut_short": sound + truncated(passes, 60),
        "exif_bomb": with_segments(sound, exif_bomb()),
        "exif_bombs": with_segments(sound, *([exif_bomb()] * 50)),
        "exif_nonsense": with_segments(sound, segment(0xE1, b"Exif\0\0 nothing of the kind")),
        "exif_empty": with_segments(sound, segment(0xE1, b"Exif\0\0")),
        "exif_cut_short": with_segments(sound, segment(0xE1, exif(6)[4:24])),
        "exif_pointing_outside": with_segments(
            sound, segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xf0")
        ),
        "exif_orientation_0": with_segments(sound, exif(0)),
        "exif_orientation_9": with_segments(sound, exif(9)),
        "xmp": with_segments(sound, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")),
    }
    for orientation in range(1, 9):
        films[f"orientation_{orientation}"] = jpeg(
            stored(array, orientation), quality=95, orientation=orientation
        )
    return films
