"""A screener as its parent has it: the process, the channel to it, and the films it was handed."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from worker.errors import ScreenerTrouble
from worker.screening.ipc import Channel, Message, Setup
from worker.types import Claim

QUEUE = 12  # films with one screener: enough to bridge a commit
# Nothing of our surroundings reaches a screener. One thread each: the processes are the threads.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


@dataclass(eq=False)
class Child:
    """One screener."""

    package: Path
    process: subprocess.Popen[bytes]
    channel: Channel
    started: float  # monotonic seconds
    version: str | None = None  # once ready
    unfenced: str = ""  # what of its fence could not be put up
    outside: bool = False  # its fence stands around an inbox that is gone
    jobs: deque[Claim] = field(default_factory=deque)
    head_since: float = 0.0
    overran: bool = False
    unfit: str | None = None
    alone: bool = False  # takes no other film until it is done with this one

    @classmethod
    def start(cls, package: Path, setup: Setup, now: float) -> Self:
        """Start a screener on a package, and tell it what it needs to know.

        Raises:
            ScreenerTrouble: it cannot be started.
        """
        with ExitStack() as undo:
            try:
                ours, theirs = Channel.pair()
                undo.callback(ours.close)
                with theirs:
                    process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
                        [
                            sys.executable,
                            "-I",
                            "-m",
                            "worker.screening.screener",
                            str(theirs.fileno()),
                        ],
                        pass_fds=[theirs.fileno()],
                        env=_ENVIRONMENT,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
            except OSError as error:
                raise ScreenerTrouble(f"a screener cannot be started: {error}") from error
            undo.pop_all()
        child = cls(package, process, ours, now)
        child.tell(setup)
        return child

    @property
    def room(self) -> int:
        """How many more films it can be handed."""
        return 0 if self.alone or self.version is None else QUEUE - len(self.jobs)

    def tell(self, message: Message) -> None:
        """Send it a message."""
        # One that has ended is found out, and what it had dealt with, when it is read from.
        with suppress(OSError):
            self.channel.send(message)

    def hand(self, claim: Claim, job: Message, now: float, *, alone: bool) -> None:
        """Give it a film to screen."""
        if not self.jobs:
            self.head_since = now
        self.jobs.append(claim)
        self.alone = alone
        self.tell(job)

    def forgive(self, seconds: float) -> None:
        """Count so much of the time that it took as not its own."""
        self.head_since += seconds
        self.started += seconds

    def end(self, *, wait_seconds: float = 0.0) -> None:
        """End it: at once, or if it has not gone by itself within so many seconds."""
        self.channel.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(wait_seconds)
        self.process.kill()
        self.process.wait()
