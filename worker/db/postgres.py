"""A Postgres connection with a deadline for every answer.

The server's timeouts do not help if the server is frozen. Those of the kernel (keepalive, user
timeout) do not help if the machine still answers, or if the server is reached by a Unix socket.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from math import inf
from typing import Any

import psycopg

_HOLDS_ANY_NAME = ("UTF8", "SQL_ASCII")  # SQL_ASCII stores bytes as they are


class DeadlineConnection(psycopg.Connection[Any]):
    """A connection that fails if the server does not answer within `answer_seconds`."""

    answer_seconds: float = inf

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for the server; psycopg calls this for every wait.

        Raises:
            psycopg.OperationalError: no answer in time. The connection is closed.
        """
        return super().wait(
            self._until(gen, time.monotonic() + self.answer_seconds), *args, **kwargs
        )

    def check_encoding(self) -> None:
        """Close the connection if the database's encoding cannot hold every file name.

        Raises:
            psycopg.OperationalError: it cannot.
        """
        encoding = self.info.parameter_status("server_encoding")
        if encoding not in _HOLDS_ANY_NAME:
            self.close()
            raise psycopg.OperationalError(
                f"the database's encoding is {encoding}, which cannot hold every file name: "
                "create one with ENCODING 'UTF8'"
            )

    def _until(self, gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
        try:
            wanted = next(gen)
            while True:
                # psycopg wakes up several times a second even if nothing has arrived.
                ready = yield wanted
                if time.monotonic() > deadline:
                    self.close()
                    silence = f"the database has not answered for {self.answer_seconds:g} s"
                    raise psycopg.OperationalError(silence)
                wanted = gen.send(ready)
        except StopIteration as over:
            return over.value
