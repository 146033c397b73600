"""Commands whose modules are imported when they are called, so that `--help` stays quick."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand


class LazyCommand(TyperCommand):
    """Stands for a command, or a group of them, in the list of commands."""

    def __init__(self, name: str, *, module: str, sentence: str) -> None:
        """Name the module that has the command by this name, and say what the command is for."""
        super().__init__(name, help=sentence)
        self._module = module

    def load(self) -> Any:
        """Import the module, and return the command itself: typer's, or a group of typer's."""
        command = getattr(import_module(self._module), self.name or "")
        if not isinstance(command, typer.Typer):
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            alone.command(self.name)(command)
            command = alone
        return typer.main.get_command(command)

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Have the command itself read its arguments."""
        return self.load().make_context(info_name, args, parent, **extra)
