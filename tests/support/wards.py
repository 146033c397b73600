"""A worker that films pass through one by one, with real folders and a real database."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from scans import manifest, refusal, verdict, worker

from worker.db.engine import Database
from worker.inbox.folders import Inbox
from worker.system.folders import Folders
from worker.types import Changes, Recorded


class Ward:
    """A worker that films pass through one by one, as far as it is told."""

    def __init__(self, root: Path, database: Database) -> None:
        """Make its folders."""
        (root / "inbox").mkdir()
        self.inbox = Inbox(
            Folders(inbox=root / "inbox", archive=root / "archive", refused=root / "refused")
        )
        self.store = worker(database)
        self.store.register_model(manifest())
        self._numbers = count(1)

    def record(self, name: str | None = None, *, refused: bool = False) -> Recorded:
        """Screen a film, and leave it in the inbox."""
        name = name or f"film-{next(self._numbers)}.jpg"
        (self.inbox.folder / name).write_bytes(b"a film")
        return self.record_again(name, refused=refused)

    def record_again(self, name: str, *, refused: bool) -> Recorded:
        """Screen what lies in the inbox."""
        seen = self.inbox.look(name)
        assert seen is not None
        [claim] = self.store.claim([seen], lease_seconds=60).claims
        outcome = refusal(claim) if refused else verdict(claim)
        [recorded] = self.store.apply(Changes(outcomes=[outcome]))
        return recorded

    def move(self, film: Recorded) -> tuple[int, str | None]:
        """Move a recorded film to its place, of which its row does not know yet."""
        return film.scan_id, self.inbox.file_away(film)

    def screen(self, name: str | None = None, *, refused: bool = False) -> str:
        """See a film to its place, and return that."""
        return self.file(self.record(name, refused=refused))

    def file(self, film: Recorded) -> str:
        """See a recorded film to its place, and return that."""
        filed = self.move(film)
        self.store.apply(Changes(filed=[filed]))
        assert filed[1] is not None
        return filed[1]
