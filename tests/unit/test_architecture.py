"""The one wall that `lint-imports` cannot see. The others are contracts in pyproject.toml."""

from __future__ import annotations

from checkout import REPOSITORY

ENTRY_POINTS = {
    "worker/settings.py",
    "worker/cli/check.py",
    "worker/cli/common.py",
    "worker/db/backup.py",
    "training/retrain.py",
}


def test_settings_are_read_in_entry_points_only() -> None:
    """Everything but an entry point is handed plain values."""
    modules = [
        path for side in ("worker", "training") for path in (REPOSITORY / side).rglob("*.py")
    ]
    readers = {
        path.relative_to(REPOSITORY).as_posix()
        for path in modules
        if "read_settings" in path.read_text(encoding="utf-8")
    }
    assert readers == ENTRY_POINTS
