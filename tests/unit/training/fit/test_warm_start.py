"""Where a fit starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
from packages import copy_package

from training.fit.warm_start import choose_start
from worker.imaging.preprocessing import PREPROCESSING_VERSIONS
from worker.model.registry import Registry


@pytest.mark.parametrize("version", PREPROCESSING_VERSIONS)
def test_a_champion_of_either_preprocessing_is_gone_on_from(
    tmp_path: Path, shipped: Path, version: str
) -> None:
    """The weights are a start; all that depends on pixels is fitted anew behind them."""
    training = {"salt": "s", "architecture": {"height": 32}}
    champion = copy_package(
        shipped, tmp_path, version="before", preprocessing_version=version, training=training
    )
    (tmp_path / "CHAMPION").write_text(f"{champion.name}\n", encoding="ascii")
    start = choose_start(Registry(tmp_path), architecture={"height": 32}, salt="s")
    assert start.weights == champion / "model.keras"
