"""The folders of films."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from worker.system.filenames import bytes_of


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The folders of new, screened and refused films."""

    inbox: Path
    archive: Path
    refused: Path

    def path_of(self, place: str, *, in_inbox: bool) -> bytes:
        """Return the absolute path of a screened film from the place in its row."""
        folder = self.inbox if in_inbox else self.archive
        return os.path.join(os.fsencode(folder.absolute()), bytes_of(place))  # noqa: PTH118 - bytes
