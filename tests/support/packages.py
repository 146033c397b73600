"""Model packages made from a real one, for tests that need several, or a bad one."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from worker.imaging.preprocessing import Pixels
from worker.model.familiarity import FAMILIAR
from worker.model.manifest import GOLDEN, MANIFEST, SERVED, read_manifest


def copy_package(
    source: Path, registry_root: Path, *, version: str, **manifest_changes: Any
) -> Path:
    """Copy a package into a registry under another version, its manifest rewritten to match.

    The weights stay, so its own checks pass. `manifest_changes` replace top-level entries, right
    or wrong ones: `temperature=2.0`, `threshold=0.3`, `format=9`.

    Returns:
        The new package's folder.
    """
    folder = registry_root / version
    shutil.copytree(source, folder)
    change_manifest(folder, version=version, **manifest_changes)
    return folder


def change_manifest(folder: Path, **changes: Any) -> None:
    """Replace top-level entries of a package's manifest, whatever that makes of it."""
    path = folder / MANIFEST
    facts = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Replace a file of a package, and what the manifest says of it: only its use can find out."""
    (folder / name).write_bytes(data)
    files = json.loads((folder / MANIFEST).read_bytes())["files"]
    files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    change_manifest(folder, files=files)


def read_golden(folder: Path) -> dict[str, Any]:
    """Return the arrays of a package's golden file by name."""
    with np.load(folder / GOLDEN, allow_pickle=False) as golden:
        return dict(golden)


def golden_bytes(arrays: dict[str, Any]) -> bytes:
    """Return arrays by name as the bytes of a golden file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def without_limits(source: Path, registry_root: Path) -> Path:
    """Copy a package under its own version to a registry where it serves, to find nothing strange.

    Drawn films look like chests to us, not to a model that has learnt from real ones.
    """
    folder = registry_root / source.name
    shutil.copytree(source, folder)
    if read_manifest(folder).familiar is not None:
        change_manifest(folder, familiar=None)
    (registry_root / "CHAMPION").write_text(f"{source.name}\n", encoding="ascii")
    return folder


def with_limits(
    source: Path, registry_root: Path, films: Pixels, *, version: str, **manifest_changes: Any
) -> Path:
    """Copy a package under another version, with these films as all that is familiar to it.

    Args:
        source: the package.
        registry_root: where the copy goes.
        films: (n, height, width) uint8, of the package's input.
        version: of the copy.
        manifest_changes: top-level entries to be replaced.
    """
    # They import TensorFlow, which takes seconds, and most tests that come here need no limits.
    from training.package import build
    from training.package.familiarity import describe, fit

    folder = copy_package(source, registry_root, version=version, format=2, familiar=None)
    served = (folder / SERVED).read_bytes()
    described = describe(served, films)
    found = fit(described, described)
    written = found.familiar.to_bytes()
    replace_file(folder, FAMILIAR, written)
    arrays = read_golden(folder)
    strange = build.golden_strangeness(served, written, arrays["inputs"])
    replace_file(folder, GOLDEN, golden_bytes(arrays | {"strangeness": strange}))
    facts = {"familiar": found.limits.model_dump()} | manifest_changes
    change_manifest(folder, **facts)
    return folder
