"""Faults put into the worker's own code, or into its screeners', by a few lines run beforehand."""

from __future__ import annotations

import shlex
import sys

from driver import Site

_SCREENER = """
import sys
{program}
from worker.screening.screener import main
main(int(sys.argv[1]))
"""


def with_program(site: Site, program: str) -> None:
    """Have every process of a site, screeners not, run a program before anything else."""
    folder = site.root / "program"
    folder.mkdir(exist_ok=True)
    with (folder / "sitecustomize.py").open("a", encoding="utf-8") as file:
        file.write(program)
    site.variables["PYTHONPATH"] = str(folder)


def with_screener_program(site: Site, program: str) -> None:
    """Have every screener run a program before it begins, in its own surroundings."""
    script = site.root / "screener.py"
    script.write_text(_SCREENER.format(program=program), encoding="utf-8")
    python = site.root / "python"
    run = shlex.join([sys.executable, "-I", str(script)])
    # The pool calls `python -I -m worker.screening.screener FD`.
    python.write_text(f'#!/bin/sh\nexec {run} "$4"\n', encoding="utf-8")
    python.chmod(0o755)
    with_program(site, f"\nimport sys\nsys.executable = {str(python)!r}\n")
