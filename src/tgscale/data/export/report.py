"""What an export did."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tgscale.data.formats.tabular import COMPRESSED
from tgscale.errors import ConfigError

NOT_TEXT = ("parquet", "pyg", "tgl", "dyglib", "pgt")


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        path: the file or folder.
        files: all files written.
        format: name of the format.
        rows: how many ``of`` were written: ``"events"``, or ``"edges of snapshots"``.
        lost: what the stream has and the format cannot hold, in words.
        remarks: what else is worth knowing.
        reading: options of the import that reads it back.
        bytes: size of the files.
        seconds: how long it took.
    """

    path: Path
    files: list[Path]
    format: str
    rows: int
    of: str
    reading: dict[str, Any]
    bytes: int
    seconds: float
    lost: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def check_format(name: str, table: dict[str, Any]) -> None:
    """Refuse a name that is not in a table of writers.

    Raises:
        ConfigError: names the nearest right one.
    """
    if name not in table:
        begin = [known for known in table if name and known.startswith(name)]
        near = begin or difflib.get_close_matches(name, table, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"--format {name!r} cannot be written: choose {', '.join(table)}.{hint}")


def check_suffix(out: Path, format: str) -> None:
    """Refuse the name of a compressed file where it would not be one.

    Raises:
        ConfigError: text alone is compressed, by gzip, bzip2 or xz.
    """
    if out.suffix in COMPRESSED and (format in NOT_TEXT or out.suffix == ".zst"):
        raise ConfigError(
            f"--out {out}: {format} is not compressed by {out.suffix}; text formats are, by .gz, .bz2 or .xz. "
            "Give another name."
        )
