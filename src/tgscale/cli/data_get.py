"""`tgscale data list` and `tgscale data get`: public data sets by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from tgscale.cli.console import Output
from tgscale.cli.data_report import events_text
from tgscale.data.datasets.fetch import Fetched
from tgscale.data.datasets.get import FILE_BAR, GetReport, downloads_folder, get_dataset
from tgscale.data.datasets.registry import DATASETS, Dataset
from tgscale.train.config_io import parse

SAID = {
    "published": "as published",
    "given": "as given",
    "recorded": "as at the first fetch",
    "first": "no digest is published, so this first fetch was trusted; check later ones with --sha256",
}


@dataclass
class ListOptions:
    """List the public data sets that `tgscale data get` knows."""

    json: bool = False
    """Print JSON instead of a table."""


@dataclass
class GetOptions:
    """Fetch a public data set, check it, and import it into a data directory."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """A name that `tgscale data list` prints."""
    out: Path | None = None
    """Data directory to make; data/NAME unless given."""
    downloads: Path | None = None
    """Folder for the files as they come; $TGSCALE_DOWNLOADS or ~/.cache/tgscale unless given."""
    mirror: str | None = None
    """Address of a folder, or a folder, that holds the files under their names."""
    sha256: str | None = None
    """SHA-256 that the file must have; FILE=HEX,FILE=HEX for a data set of several files."""
    fetch_only: bool = False
    """Fetch and check, but do not import."""
    memory_limit: str = "2GB"
    """How much memory the import may take."""
    overwrite: bool = False
    """Replace a data directory that is already there."""
    quiet: bool = False
    """Show no progress."""


def run_list(argv: list[str]) -> None:
    """`tgscale data list`."""
    options = parse(ListOptions, argv, prog="tgscale data list")
    if options.json:
        print(json.dumps([_as_json(dataset) for dataset in DATASETS.values()], indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "events", "format", "digest", "what"):
        table.add_column(heading, justify="right" if heading == "events" else "left", no_wrap=heading != "what")
    for dataset in DATASETS.values():
        needs = f" (needs {dataset.needs})" if dataset.needs else ""
        events = "" if dataset.events is None else f"{dataset.events:,}"
        table.add_row(dataset.name, events, dataset.format, _digest(dataset), dataset.about + needs)
    Output().print(table)
    print(f"\nEvents: as the source states. `tgscale data get NAME` fetches into {downloads_folder()} and imports.")


def _digest(dataset: Dataset) -> str:
    if all(file.sha256 for file in dataset.files):
        return "SHA-256"
    return "SHA-1" if all(file.sha1 for file in dataset.files) else "none known"


def _as_json(dataset: Dataset) -> dict[str, object]:
    return {
        "name": dataset.name,
        "about": dataset.about,
        "events": dataset.events,
        "home": dataset.home,
        "needs": dataset.needs,
        "options": dict(dataset.options),
        "files": [vars(file) for file in dataset.files],
    }


def run_get(argv: list[str]) -> None:
    """`tgscale data get`."""
    options = parse(GetOptions, argv, prog="tgscale data get")
    with _bars(options.quiet) as bar:
        report = get_dataset(
            options.name,
            options.out,
            downloads=options.downloads,
            mirror=options.mirror,
            sha256=options.sha256,
            import_it=not options.fetch_only,
            overwrite=options.overwrite,
            memory_limit=options.memory_limit,
            bar=bar,
            progress=lambda step: None if options.quiet else print(f"{step} ...", file=sys.stderr),
        )
    print(_text(report))


@contextmanager
def _bars(quiet: bool) -> Iterator[FILE_BAR]:
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as shown:

        def bar(name: str):
            task = shown.add_task(name, start=True, total=None)
            return lambda done, total: shown.update(task, completed=done, total=total)

        yield bar


def _text(report: GetReport) -> str:
    lines = [_file_text(file) for file in report.files]
    if report.imported is not None:
        lines.append(events_text(report.imported))
    return "\n".join([*lines, *(f"note: {hint}" for hint in report.hints), f"described at {report.dataset.home}"])


def _file_text(file: Fetched) -> str:
    return f"{file.path}: {'fetched' if file.new else 'was there'}, SHA-256 {file.sha256} ({SAID[file.checked]})"
