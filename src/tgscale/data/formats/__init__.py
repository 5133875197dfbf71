"""Formats that can be imported: one file each, and the table of their names."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tgscale.data.formats import database, dyglib, jodie, pyg, snap, tabular, tgb, tgl
from tgscale.data.formats.source import Source
from tgscale.errors import ConfigError, DataError


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        recognise: are these paths of this format? Looks at names and first lines only.
        read: describe the rows; ``work`` is a folder for what has to be unpacked, removed after the import.
    """

    recognise: Callable[[list[Path]], bool]
    read: Callable[[list[Path], Path], Source]


# In the order in which "auto" tries them: the particular before the general.
FORMATS = {
    "tgl": Format(tgl.recognise, tgl.read),
    "dyglib": Format(dyglib.recognise, dyglib.read),
    "tgb": Format(tgb.recognise, tgb.read),
    "jodie": Format(jodie.recognise, jodie.read),
    "pyg": Format(pyg.recognise, pyg.read),
    "sqlite": Format(database.is_sqlite, database.read_sqlite),
    "duckdb": Format(database.is_duckdb, database.read_duckdb),
    "snap": Format(snap.recognise, snap.read),
    "csv": Format(tabular.is_csv, tabular.read_csv),
    "parquet": Format(tabular.is_parquet, tabular.read_parquet),
    "json": Format(tabular.is_json, tabular.read_json),
}

OF_SNAPSHOTS = ("pgt", "array")
"""Formats that hold snapshots rather than rows of edges; they have imports of their own."""


def check_format(name: str) -> None:
    """Refuse a name that is not in the table.

    Raises:
        ConfigError: names the nearest right one.
    """
    if name not in ("auto", *FORMATS):
        near = difflib.get_close_matches(name, [*FORMATS, *OF_SNAPSHOTS], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        ready = f"or {' or '.join(OF_SNAPSHOTS)} for a file that holds snapshots"
        raise ConfigError(f"unknown format {name!r}: choose auto, {', '.join(FORMATS)}, {ready}.{hint}")


def recognised(paths: list[Path]) -> Format | None:
    """The format that these files have by name and content; None where it is no known one."""
    return next((known for known in FORMATS.values() if known.recognise(paths)), None)


def read_source(paths: list[Path], format: str, work: Path) -> Source:
    """Describe the rows of these files.

    Raises:
        DataError: nothing recognises them, or they are not of the format given.
    """
    if format != "auto":
        return FORMATS[format].read(paths, work)
    if known := recognised(paths):
        return known.read(paths, work)
    given = ", ".join(str(path) for path in paths[:3])
    raise DataError(f"cannot tell the format of {given} from name and content: say --format {'|'.join(FORMATS)}.")
