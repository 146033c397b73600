"""Nights on drawn films: a folder of them, a fixed time, and rules that anything passes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from films import draw, jpeg

from training.gate import Floors, Rules

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
ANY = Rules(
    floors=Floors(films_of_each_class=1, auc=0, sensitivity=0, specificity=0, calibration_error=1)
)


def draw_folder(root: Path, *, train: int = 40, test: int = 8) -> Path:
    """Draw films in the Kaggle layout: one of each class for each number."""
    for split, first, count in (("train", 0, train), ("test", 1000, test)):
        for number in range(first, first + count):
            for label, name, opacity in (
                ("NORMAL", f"IM-{number:04}-0001.jpeg", 0.0),
                ("PNEUMONIA", f"person{number}_virus_{number}.jpeg", 1.0),
            ):
                film = draw(2 * number + (opacity > 0), width=160, height=128, opacity=opacity)
                path = root / split / label / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(film))
    return root
