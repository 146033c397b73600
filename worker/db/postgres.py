"""A connection to Postgres that does not wait for ever.

The server's own timeouts are of no use when it is the server that is frozen, and the kernel's
(keepalive, user timeout) none where connections stand: the machine answers and the server does
not, or it is reached through a socket in the file system.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from math import inf
from typing import Any

import psycopg

_HOLDS_ANY_NAME = ("UTF8", "SQL_ASCII")  # the latter takes bytes as they are


class Impatient(psycopg.Connection[Any]):
    """Gives up on a server that has not answered a question for `answer_seconds`."""

    answer_seconds: float = inf

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for what the server has to say; psycopg calls this whenever it waits.

        Raises:
            psycopg.OperationalError: nothing came in time. The connection is closed.
        """
        return super().wait(
            self._until(gen, time.monotonic() + self.answer_seconds), *args, **kwargs
        )

    def refuse_other_letters(self) -> None:
        """Close this connection to a database that cannot hold every film's name.

        Raises:
            psycopg.OperationalError: it cannot.
        """
        encoding = self.info.parameter_status("server_encoding")
        if encoding not in _HOLDS_ANY_NAME:
            self.close()
            raise psycopg.OperationalError(
                f"the database's encoding is {encoding}, which cannot hold every film's name: "
                "make one with ENCODING 'UTF8'"
            )

    def _until(self, gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
        try:
            wanted = next(gen)
            while True:
                # psycopg looks up several times a second, though there is nothing to be read.
                ready = yield wanted
                if time.monotonic() > deadline:
                    self.close()
                    silence = f"the database has not answered for {self.answer_seconds:g} s"
                    raise psycopg.OperationalError(silence)
                wanted = gen.send(ready)
        except StopIteration as over:
            return over.value
