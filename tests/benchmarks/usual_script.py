"""The usual way to screen a folder of films, as tutorials have it: for the bench to compare with.

    python tests/benchmarks/usual_script.py model.keras

Loads each film with Keras and calls `model.predict` on it. Reads a folder a line, and answers with
the films per second it did of it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import training.fit.network  # noqa: F401 - names the layers that the file holds


def main(package: Path) -> None:
    """Screen the folders that are named on standard input."""
    model = keras.models.load_model(package, compile=False)
    _, height, width, _ = model.input_shape
    for line in sys.stdin:
        paths = sorted(Path(line.strip()).iterdir())
        start = time.perf_counter()
        for path in paths:
            film = keras.utils.load_img(path, color_mode="grayscale", target_size=(height, width))
            model.predict(keras.utils.img_to_array(film)[None], verbose=0)
        print(len(paths) / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
