"""`tgscale export`: a run's weights and memory in a folder of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.filesize import decimal

from tgscale.snapshot.export import export_snapshots
from tgscale.stream.export import export_stream
from tgscale.train.config_io import parse
from tgscale.train.rundir import RunDirectory


@dataclass
class ExportCommand:
    """Write the best weights of a run and its memory after the last event, as safetensors, for `tgscale.load_model`."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    out: Path
    """Folder to make."""
    data: Path | None = None
    """The run's data directory, where it has moved."""
    overwrite: bool = False
    """Replace an exported model that is there."""
    json: bool = False
    """Print what config.json holds."""
    quiet: bool = False
    """Print nothing but errors."""


def main(argv: list[str]) -> None:
    """Export as the command line says, and say what was written."""
    command = parse(ExportCommand, argv, prog="tgscale export")
    export = export_snapshots if RunDirectory.kind_of(command.run) == "snapshots" else export_stream
    about = export(command.run, command.out, command.overwrite, command.quiet or command.json, command.data)
    if command.json:
        print(json.dumps(about, indent=1))
    elif not command.quiet:
        for file in sorted(command.out.iterdir()):
            print(f"  {file}  {decimal(file.stat().st_size)}")
