"""Arranges the public download as for the night that made the shipped model.

    python -m training.download DOWNLOAD TREE

DOWNLOAD is the folder of Kaggle's *chest-xray-pneumonia* that contains `train` and `val`. TREE
becomes a folder of links to its films, with the lowest patient numbers of each series in `train` as
`test`. The public test split is left out, to measure finished models.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from training.data.patients import Patients
from training.data.sources import CLASSES
from worker.errors import DataError

# Patient numbers of the test block in each series of names. Fixed, because the shipped model was
# measured on these films.
_BLOCK = {
    "IM": range(115, 222),
    "NORMAL2-IM": range(383, 596),
    "bacteria": range(253, 328),
    "virus": range(80, 280),
}
_WHOLE = {"train": 4632, "val": 16, "test": 584}  # films of the published download


def lay_out(download: Path, tree: Path) -> dict[str, int]:
    """Link the films of a download into a tree, and return the number in each of its folders.

    Existing links stay: a run that was killed can be run again.

    Raises:
        DataError: the folder is not such a download, or the tree has other files.
        OSError: a folder cannot be read or written.
    """
    counts: Counter[str] = Counter()
    for film, split in _films(download):
        place = tree / split / film.parent.name / film.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_symlink():
            if place.exists():
                raise DataError(f"{place} exists and is not a link to a film")
            place.symlink_to(film.resolve())
        elif place.resolve() != film.resolve():
            raise DataError(f"{place} links to another download")
        counts[split] += 1
    if not counts:
        raise DataError(f"no films under {download}: expected train/{CLASSES[0]}/*.jpeg and so on")
    return {split: counts[split] for split in _WHOLE}


def _films(download: Path) -> Iterator[tuple[Path, str]]:
    """Yield each film with the split it belongs to."""
    for split in ("train", "val"):
        for label in CLASSES:
            for film in sorted((download / split / label).glob("*.jpeg")):
                series, _, number = Patients().of(film.name, "").rpartition("-")
                if split == "train" and series in _BLOCK and int(number) in _BLOCK[series]:
                    yield film, "test"
                else:
                    yield film, split


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, and link the films."""
    parser = argparse.ArgumentParser(
        prog="python -m training.download",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("download", type=Path)
    parser.add_argument("tree", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        counts = lay_out(chosen.download, chosen.tree)
    except (DataError, OSError) as error:
        sys.stdout.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{chosen.tree}: {_in_words(counts)}\n")
    if counts != _WHOLE:
        sys.stdout.write(f"error: the download is incomplete; it should have {_in_words(_WHOLE)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
