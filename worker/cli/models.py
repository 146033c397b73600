"""`lungwatch models ...`: lists, promotes, rolls back, compares and prunes models."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import common
from worker.db.promotions import Promotions
from worker.db.pruning import Prunable, choose
from worker.errors import DatabaseTrouble, LungwatchError
from worker.model.registry import Registry
from worker.model.runtime import load, seconds_for_a_film
from worker.reports.models import write_difference, write_explanation, write_model, write_models
from worker.settings import Settings

models = typer.Typer(
    add_completion=False,
    help="List the model packages and which one serves; promote, roll back, compare, prune.",
    invoke_without_command=True,
)
Version = Annotated[
    str, typer.Argument(help="Version of a model, as listed by `lungwatch models`.")
]


@models.callback()
def default(context: typer.Context) -> None:
    """List the model packages and which one serves; promote, roll back, compare, prune."""
    if context.invoked_subcommand is None:
        list_models()


@models.command("list")
def list_models() -> None:
    """List the model packages, and which one serves."""
    write_models(_registry(common.settings()))


@models.command()
def promote(
    version: Version,
    *,
    why: Annotated[str, typer.Option(help="The reason, for the history.")] = "by hand",
    again: Annotated[
        bool, typer.Option("--again", help="Promote it even if it was rolled back.")
    ] = False,
) -> None:
    """Make a version the champion, after its package has passed its checks.

    A running worker loads it within seconds, between films.
    """
    settings = common.settings()
    registry = _registry(settings)
    _load(registry, version, settings)
    left = registry.rejected(version)
    registry.promote(version, who=common.person(), why=why, again=again)
    if left is not None:
        typer.echo(
            f"{version} was rolled back on {left.at:%Y-%m-%d} ({left.why}); "
            "it is promoted again as you asked"
        )
    typer.echo(f"{version} is promoted: a running worker loads it within seconds")
    _write_down(registry, settings)


@models.command()
def rollback(
    *,
    to: Annotated[
        str | None, typer.Option(help="The version to go back to. Default: the one before.")
    ] = None,
    why: Annotated[str, typer.Option(help="The reason, for the history.")],
) -> None:
    """Make an earlier version serve again. The present one is then rolled back.

    A version that was rolled back is not promoted again, not by a night either. Only
    `models promote VERSION --again` does.
    """
    settings = common.settings()
    registry = _registry(settings)
    if to is not None:
        _load(registry, to, settings)
    change = registry.rollback(to=to, who=common.person(), why=why)
    typer.echo(
        f"{change.version} serves again: a running worker loads it within seconds\n"
        f"{change.from_version} is rolled back and will not be promoted again"
    )
    _write_down(registry, settings)


@models.command()
def verify(
    version: Annotated[
        str | None, typer.Argument(help="The version to check. Default: all.")
    ] = None,
) -> None:
    """Check hashes, golden outputs and speed, as a worker does before a package serves.

    Exit status: 0 if all versions checked are fit to serve, else 1.
    """
    settings = common.settings()
    registry = _registry(settings)
    failed = 0
    versions = [version] if version else registry.versions()
    if not versions:  # as before the first start; not an error
        typer.echo(f"there is no model in {registry.root} yet")
    for one in versions:
        try:
            took_seconds = _load(registry, one, settings)
        except LungwatchError as error:
            failed += 1
            typer.echo(f"FAILED  {one}: {error}")
        else:
            milliseconds = f"{took_seconds * 1000:.1f} ms a film"
            typer.echo(f"ok      {one}: hashes and golden outputs agree, {milliseconds}")
    raise typer.Exit(1 if failed else 0)


@models.command()
def show(version: Version) -> None:
    """Show a version's manifest and a summary of its evaluation."""
    write_model(_registry(common.settings()), version)


@models.command()
def diff(one: Version, other: Version) -> None:
    """Show the differences between two versions: manifest and evaluation."""
    write_difference(_registry(common.settings()), one, other)


@models.command()
def explain(version: Version) -> None:
    """Show everything about a version: package, card, measures, training run, promotions."""
    settings = common.settings()
    write_explanation(_registry(settings), common.database_if_any(settings), version)


@models.command()
def prune(
    *,
    keep: Annotated[int, typer.Option(min=1, help="The number of newest packages to keep.")],
    even_if_needed: Annotated[
        bool,
        typer.Option("--even-if-needed", help="Remove packages that predictions name, too."),
    ] = False,
) -> None:
    """Remove old packages, except one that serves or that predictions name.

    A prediction names its model version. Without the package it can be neither explained nor
    repeated.
    """
    settings = common.settings()
    registry = _registry(settings)
    database = common.database_if_any(settings) if even_if_needed else common.database(settings)
    for answer in choose(registry, database, keep=keep, even_if_needed=even_if_needed):
        if isinstance(answer, Prunable):
            registry.remove(answer.version)
            typer.echo(f"removed {answer.version}")
        else:
            typer.echo(f"kept    {answer.version}: {answer.why}")


def _registry(settings: Settings) -> Registry:
    return Registry(settings.models)


def _load(registry: Registry, version: str, settings: Settings) -> float:
    """Check a package as a screener does, and return its seconds per film."""
    registry.manifest(version)
    model = load(registry.folder(version), predict_seconds=settings.predict_milliseconds / 1000)
    return seconds_for_a_film(model)


def _write_down(registry: Registry, settings: Settings) -> None:
    """Copy the registry's history into the database; if that fails, the worker will do it."""
    try:
        database = common.database_if_any(settings)
        if database is not None:
            Promotions(database).record(registry.history())
    except DatabaseTrouble as error:
        typer.echo(f"not yet in the database, the worker will write it: {error}", err=True)
