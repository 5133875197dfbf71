"""`tgscale data export`: a data directory in the format of another program."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.filesize import decimal

from tgscale.data.directory import kind_of
from tgscale.data.export import WRITERS, ExportReport, export_events
from tgscale.data.export.snapshots import SNAPSHOT_WRITERS, export_snapshots
from tgscale.data.value_words import counted
from tgscale.train.config_io import parse


@dataclass
class ExportOptions:
    """Write a data directory in another format. Events or edges go out a chunk at a time, in bounded memory."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Data directory."""
    out: Path
    """File to make (a folder for tgl and dyglib)."""
    format: str
    """Events: csv, parquet, jodie, tgl, dyglib, snap, pyg or tgb-csv. Snapshots: csv, parquet or pgt."""
    overwrite: bool = False
    """Replace what is there."""


def run(argv: list[str]) -> None:
    """`tgscale data export`."""
    options = parse(ExportOptions, argv, prog="tgscale data export")
    export = export_events if kind_of(options.data) == "stream" else export_snapshots
    print(report_text(export(options.data, options.out, format=options.format, overwrite=options.overwrite)))


def report_text(report: ExportReport) -> str:
    """What an export did, what it could not carry, and the command that reads it back."""
    about = WRITERS[report.format].about if report.of == "events" else SNAPSHOT_WRITERS[report.format].about
    rows = counted(report.rows, report.of.replace("s", "", 1), report.of)  # events, or edges of snapshots
    lines = [f"written as {report.format} ({about}): {rows}"]
    if report.lost:
        lines.append(f"warning: {report.format} does not carry {', '.join(report.lost)}")
    lines += [f"note: {remark}" for remark in report.remarks]
    lines += [f"{file}" for file in report.files if file != report.path]
    lines.append(f"read it back: {_command(report.path, report.reading)}")
    return "\n".join([*lines, f"{report.path}: {decimal(report.bytes)} in {report.seconds:.1f} s"])


def _command(path: Path, options: dict[str, Any]) -> str:
    words = ["tgscale", "data", "import", str(path), "--out", "NEW"]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)
