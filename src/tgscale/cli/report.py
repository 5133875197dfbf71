"""`tgscale report`: one page about one run or several."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tgscale.errors import ConfigError
from tgscale.train.config_io import parse
from tgscale.train.rundir import RunDirectory


@dataclass
class ReportCommand:
    """Write one HTML page about runs: results, curves, timelines, and how several runs differ."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Run directories."""
    out: Path | None = None
    """The page, which needs nothing beside itself; report.html in the run directory unless given, for one run."""
    figures: Path | None = None
    """Folder for the drawings as files, .svg and .png."""
    json: bool = False
    """Print the figures as JSON; a page is then written with --out alone."""


def main(argv: list[str]) -> None:
    """Report as the command line says."""
    command = parse(ReportCommand, argv, prog="tgscale report")
    if not command.runs:
        raise ConfigError("`tgscale report` needs a run directory: give one or several.")
    for run in command.runs:
        RunDirectory.read_config(run)  # refused before anything is imported or drawn
    out = command.out
    if out is None and not command.json and command.figures is None:
        if len(command.runs) > 1:
            raise ConfigError("several runs have no directory in common for their report: give --out FILE.html.")
        out = command.runs[0] / "report.html"
    _check_writable(out, command.figures)
    from tgscale.report.report import make_report  # slow to import

    report = make_report(command.runs)
    if out:
        report.save(out)
        print(f"report written to {out}", file=sys.stderr)
    if command.figures:
        files = report.save_figures(command.figures)
        print(f"{len(files)} drawings written to {command.figures}", file=sys.stderr)
    if command.json:
        print(json.dumps(report.figures(), indent=1))


def _check_writable(out: Path | None, figures: Path | None) -> None:
    """Refuse places that cannot be written to, before anything is drawn."""
    if out is not None:
        if out.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--out {out}: give a name that ends in .html.")
        if out.is_dir() or not out.absolute().parent.is_dir():
            raise ConfigError(f"--out {out}: {out.absolute().parent} is not a directory, or {out.name} is one.")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise ConfigError(f"--figures {figures} is a file: give a folder.")
