"""`lungwatch explain`: draws the model's evidence on an archived film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli import common
from worker.cli.failure import fail
from worker.model.registry import Registry
from worker.reports.explain import explain as explain_film


def explain(
    scan: Annotated[str, typer.Argument(help="Id, file name, or beginning of the SHA-256.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")],
    model: Annotated[
        str | None,
        typer.Option(help="Explain with this version. Default: the one that screened the film."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Draw the model's evidence on an archived film, with score and threshold.

    The film is screened again and must give the logit in its row. The picture shows the model's
    evidence, not the outline of a lesion. All films share one colour scale.
    """
    if output.suffix.lower() != ".png":
        fail(f"{output}: the name must end in .png")
    common.refuse_to_replace(output, force=force)
    settings = common.settings()
    explanation = explain_film(
        common.database(settings),
        Registry(settings.models),
        settings.folders,
        scan,
        limits=settings.limits,
        version=model,
        predict_seconds=settings.screener_options.predict_seconds,
        prevalence=settings.prevalence,
    )
    common.write_file(output, explanation.draw(), force=force)
    caption = explanation.caption
    typer.echo(
        f"{output}: scan {caption.scan_id}, {caption.decision}, score {caption.probability:.3f}, "
        f"threshold {caption.threshold:.3f}, by {caption.version}"
    )
