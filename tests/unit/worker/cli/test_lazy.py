"""Commands that are imported when they are called."""

from __future__ import annotations

import subprocess
import sys

import typer.main

from worker.cli.app import app
from worker.cli.lazy import LazyCommand


def test_the_list_says_of_each_command_what_it_says_of_itself() -> None:
    """`lungwatch --help` has the first sentence of each command's own help."""
    listed = vars(typer.main.get_command(app))["commands"].values()
    assert len(listed) > 10
    for command in listed:
        assert isinstance(command, LazyCommand)
        own = " ".join(command.load().help.partition("\n\n")[0].split())
        assert command.help == own


def test_help_is_quick() -> None:
    """It imports nothing of what the commands work with."""
    program = (
        "import sys\n"
        "from worker.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print(sys.modules.keys() & {'numpy', 'pydantic', 'sqlalchemy'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True
    )
    assert "backfill" in done.stdout
    assert done.stdout.endswith("set()\n")
