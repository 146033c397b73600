"""`lungwatch run`: watches the inbox and screens what arrives."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import common
from worker.service.factory import open_service


def run(
    *,
    once: Annotated[
        bool, typer.Option(help="Work off what is in the inbox, then exit: 0 if all of it was.")
    ] = False,
) -> None:
    """Watch the inbox and screen what arrives, until told to stop."""
    with common.discreet(), open_service(common.settings()) as service:
        raise typer.Exit(service.run(once=once))
