"""`lungwatch explain`: where on an archived film the model's evidence lies, as a picture."""

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
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write, a .png.")],
    model: Annotated[
        str | None, typer.Option(help="Explain by this version; else the one that screened it.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the picture, if there is one.")
    ] = False,
) -> None:
    """Draw where on an archived film the model's evidence lies, with score and threshold.

    The film is screened again, and must give what its row says. It shows what the model went by,
    not the outline of a lesion. One colour scale for all films.
    """
    if output.suffix.lower() != ".png":
        fail(f"{output}: name a picture that ends in .png")
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
