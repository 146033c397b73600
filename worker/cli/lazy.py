"""Commands whose modules are imported when they are called, so that `--help` is fast."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand


class LazyCommand(TyperCommand):
    """A placeholder for a command, or a group of commands, in the list of commands."""

    def __init__(self, name: str, *, module: str, sentence: str) -> None:
        """Set the module with the command of this name, and the sentence for `--help`."""
        super().__init__(name, help=sentence)
        self._module = module

    def load(self) -> Any:
        """Import the module, and return its command or group of commands."""
        command = getattr(import_module(self._module), self.name or "")
        if not isinstance(command, typer.Typer):
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            alone.command(self.name)(command)
            command = alone
        return typer.main.get_command(command)

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Let the real command parse its arguments."""
        return self.load().make_context(info_name, args, parent, **extra)
