"""Event streams written in the formats of others: one file each, and the table of their names."""

from __future__ import annotations

import time as clock
from pathlib import Path

from tgscale.data.export import dyglib, jodie, pyg, snap, tables, tgb, tgl
from tgscale.data.export.outgoing import PARTS, Outgoing, Writer
from tgscale.data.export.publish import publishing
from tgscale.data.export.report import ExportReport, check_format, check_suffix
from tgscale.data.formats import OF_SNAPSHOTS
from tgscale.errors import ConfigError

__all__ = ["WRITERS", "ExportReport", "export_events"]

WRITERS: dict[str, Writer] = {
    "csv": tables.CSV,
    "parquet": tables.PARQUET,
    "jodie": jodie.WRITER,
    "tgl": tgl.WRITER,
    "dyglib": dyglib.WRITER,
    "snap": snap.WRITER,
    "pyg": pyg.WRITER,
    "tgb-csv": tgb.WRITER,
}


def export_events(
    data: str | Path | Outgoing, out: str | Path, *, format: str, overwrite: bool = False
) -> ExportReport:
    """Write an event stream in another format; memory stays bounded whatever the number of events.

    Args:
        data: a data directory, or a stream.
        out: the file (csv, parquet, jodie, snap, pyg, tgb-csv) or the folder (tgl, dyglib) to make.
        format: a name of :data:`WRITERS`.
        overwrite: replace what is there.

    Raises:
        ConfigError: no such format.
        DataError: the format cannot hold this stream.
        StoreError: no data directory, the target exists, or the disk is full.
    """
    began = clock.perf_counter()
    if format in OF_SNAPSHOTS:
        raise ConfigError(
            f"{format} holds snapshots, and this is a stream of events: make snapshots of it first, with "
            "`tgscale data import DIR --out NEW --every 1d`."
        )
    check_format(format, WRITERS)
    check_suffix(Path(out), format)
    writer, out = WRITERS[format], Path(out)
    data = data if isinstance(data, Outgoing) else Outgoing.open(data)
    least = sum(table.nbytes for table in (data.stream.edge_features, data.stream.node_features) if table is not None)
    with publishing(out, writer.files, overwrite, least if writer.binary else 0) as target:
        remarks = writer.check(data)
        writer.write(data, target)
        names = [file.name for file in (target if writer.files else target.parent).iterdir()]
    files = sorted((out if writer.files else out.parent) / name for name in names)
    return ExportReport(
        path=out,
        files=files,
        format=format,
        rows=data.stream.num_events,
        of="events",
        reading=writer.reading(data, out),
        bytes=sum(file.stat().st_size for file in files),
        seconds=clock.perf_counter() - began,
        lost=[PARTS[part] for part in PARTS if part in data.parts - writer.carries],
        remarks=remarks,
    )
