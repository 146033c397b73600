"""Show a package pictures that are no upright chest film, and films, and say how many it tells.

    python tests/benchmarks/strangers.py [--models DIR] [--version VERSION] [--data DIR]

Prints a table: of each kind, the share refused and the share sent to REVIEW as unfamiliar. None of
these pictures goes into the limits. Photographs are those that installed libraries carry;
documents, screens, limbs and noise are drawn; the rest is made of the test films, where they are
there. Drawn limbs stand for radiographs of other body parts, of which none is at hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from worker.imaging.preprocessing import resize
from worker.model.registry import Registry
from worker.model.runtime import Model, load

Grey = npt.NDArray[np.uint8]
_REPOSITORY = Path(__file__).resolve().parents[2]
_DRAWN = 60  # pictures of a drawn kind
_FILMS = 120  # films that a derived kind is made of
_WORDS = ("patient", "report", "findings", "lungs clear", "no effusion", "heart", "normal", "ward")


def photographs(generator: np.random.Generator) -> Iterator[Grey]:
    """Yield the photographs of installed libraries, whole and in parts."""
    places = (
        files("sklearn") / "datasets/images",
        files("matplotlib") / "mpl-data/sample_data",
    )
    for place in places:
        for name in (
            "china.jpg",
            "flower.jpg",
            "grace_hopper.jpg",
            "Minduka_Present_Blue_Pack.png",
        ):
            path = Path(str(place)) / name
            if path.is_file():
                whole = np.asarray(Image.open(path).convert("L"))
                yield whole
                for _ in range(12):
                    yield part(whole, generator.uniform(0.35, 0.9), generator)


def part(picture: Grey, share: float, generator: np.random.Generator) -> Grey:
    """Cut a part of this share of each side out of a picture, somewhere."""
    height, width = (int(side * share) for side in picture.shape)
    top = generator.integers(0, picture.shape[0] - height + 1)
    left = generator.integers(0, picture.shape[1] - width + 1)
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def document(generator: np.random.Generator) -> Grey:
    """Draw a page of text, a little askew."""
    page = Image.new("L", (700, int(generator.integers(600, 1000))), 245)
    pen, size = ImageDraw.Draw(page), int(generator.integers(14, 32))
    font = ImageFont.load_default(size)
    for top in range(40, page.height - 40, int(size * 1.4)):
        line = " ".join(generator.choice(_WORDS, size=int(generator.integers(2, 12))))
        pen.text((40, top), line, font=font, fill=30)
    turned = page.rotate(float(generator.uniform(-4, 4)), fillcolor=200)
    return np.asarray(turned)


def screen(generator: np.random.Generator, film: Grey | None) -> Grey:
    """Draw a screen with a list at its side, and a film in the middle where one is given."""
    dark = bool(generator.integers(2))
    shot = Image.new("L", (960, 600), 30 if dark else 240)
    pen, ink, font = ImageDraw.Draw(shot), 225 if dark else 25, ImageFont.load_default(14)
    pen.rectangle((0, 0, 960, 45), fill=int(generator.integers(60, 200)))
    for top in range(70, 560, 24):
        pen.text((10, top), " ".join(generator.choice(_WORDS, 3)), font=font, fill=ink)
    for _ in range(int(generator.integers(2, 12))):
        x, y = (int(generator.integers(*span)) for span in ((280, 860), (70, 560)))
        pen.rectangle((x, y, x + 80, y + 22), outline=ink)
    if film is not None:
        side = int(generator.integers(220, 420))
        shot.paste(Image.fromarray(resize(film, height=side, width=side)), (300, 100))
    return np.asarray(shot)


def noise(generator: np.random.Generator) -> Grey:
    """Draw noise: white, or as smooth as clouds."""
    rows, columns = np.fft.fftfreq(256)[:, np.newaxis], np.fft.rfftfreq(256)
    away = np.hypot(rows, columns)
    away[0, 0] = 1
    spectrum = np.fft.rfft2(generator.normal(size=(256, 256))) / away ** generator.uniform(0, 2.5)
    picture = np.fft.irfft2(spectrum, s=(256, 256))
    grey = 128 + 45 * (picture - picture.mean()) / picture.std()
    drawn: Grey = np.clip(grey, 0, 255).astype(np.uint8)
    return drawn


def limbs(generator: np.random.Generator) -> Grey:
    """Draw one to five bones in their flesh."""
    y, x = np.mgrid[0:1:300j, 0:1:300j]
    picture, count = np.full((300, 300), 10.0), int(generator.integers(1, 6))
    for number in range(count):
        away = np.abs(x - (number + 0.5) / count - generator.normal(0, 0.1) * (y - 0.5)) * count
        picture += 80 * np.clip(1 - (away / 0.35) ** 4, 0, 1)
        picture += 90 * np.clip(1 - (away / 0.16) ** 4, 0, 1)
    return np.clip(picture + generator.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def derived(some: list[Grey], generator: np.random.Generator) -> dict[str, list[Grey]]:
    """Make of films, all of one size, what is no upright film."""
    pairs = list(zip(some, some[1:] + some[:1], strict=True))
    return {
        "films upside down": [film[::-1] for film in some],
        "films turned round": [film[::-1, ::-1] for film in some],
        "films on their left side": [np.rot90(film) for film in some],
        "films on their right side": [np.rot90(film, -1) for film in some],
        "films inverted in grey": [255 - film for film in some],
        "two films side by side": [np.hstack(pair) for pair in pairs],
        "two films above each other": [np.vstack(pair) for pair in pairs],
        "four films": [np.vstack([np.hstack(pair), np.hstack(pair[::-1])]) for pair in pairs],
        "a quarter of a film": [part(film, 0.5, generator) for film in some],
        "films in wide borders": [np.pad(film, 100) for film in some],
        "screens with a film": [screen(generator, film) for film in some[:_DRAWN]],
    }


def tell(name: str, pictures: list[Grey], model: Model) -> None:
    """Print a line of the table."""
    limits, manifest = model.manifest.familiar, model.manifest
    if limits is None or not pictures:
        return
    small = [
        resize(np.ascontiguousarray(one), height=manifest.height, width=manifest.width)
        for one in pictures
    ]
    found = np.array([model.score(one).strangeness for one in small], dtype=np.float64)
    refused, told = (np.mean(~(found <= limit)) for limit in (limits.refuse, limits.review))
    sys.stdout.write(
        f"| {name} | {len(found)} | {refused:.1%} | {told - refused:.1%} | {told:.1%} |\n"
    )


def main() -> int:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=_REPOSITORY / "models")
    parser.add_argument("--version", help="of the package; else the one that serves")
    parser.add_argument(
        "--data", type=Path, default=_REPOSITORY.parent / "shared" / "data" / "chest_xray"
    )
    chosen = parser.parse_args()
    registry = Registry(chosen.models)
    model = load(registry.folder(chosen.version or registry.serving()))
    if model.manifest.familiar is None:
        sys.stdout.write(f"{model.manifest.version} has no limits of the familiar\n")
        return 1
    generator = np.random.default_rng(0)
    sys.stdout.write("| kind | pictures | refused | REVIEW | either |\n|---|---|---|---|---|\n")
    block = [
        resize(np.asarray(Image.open(path).convert("L")), height=224, width=224)
        for path in sorted((chosen.data / "test").rglob("*.jp*g"))
    ]
    tell("**upright chest films**", block, model)
    kinds = {
        "photographs": list(photographs(generator)),
        "documents": [document(generator) for _ in range(_DRAWN)],
        "screens": [screen(generator, None) for _ in range(_DRAWN)],
        "noise": [noise(generator) for _ in range(_DRAWN)],
        "drawn limbs": [limbs(generator) for _ in range(_DRAWN)],
    }
    if block:
        picked = generator.permutation(len(block))[:_FILMS]
        kinds |= derived([block[one] for one in picked], generator)
    for name, pictures in kinds.items():
        tell(name, pictures, model)
    tell("**all of these kinds**", [one for some in kinds.values() for one in some], model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
