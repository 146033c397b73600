"""`lungwatch run`: watches the inbox and screens new films."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import common
from worker.service.factory import open_service


def run(
    *,
    once: Annotated[
        bool, typer.Option(help="Screen the films in the inbox, then exit: with 0 if all are done.")
    ] = False,
) -> None:
    """Watch the inbox and screen new films until stopped."""
    with common.discreet(), open_service(common.settings()) as service:
        raise typer.Exit(service.run(once=once))
