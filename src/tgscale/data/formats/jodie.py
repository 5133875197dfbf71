"""JODIE csv: ``user_id,item_id,timestamp,state_label,comma_separated_list_of_features``.

The header names five columns, the rows hold four and then as many features as they like. Users and items each have
ids of their own, integers from zero or text, so the stream is bipartite.
"""

from __future__ import annotations

from pathlib import Path

from tgscale.data.formats.delimited import csv_relation, first_lines, plain
from tgscale.data.formats.source import Columns, Source
from tgscale.data.formats.tabular import kind_of
from tgscale.errors import DataError

NAMES = ["user_id", "item_id", "timestamp", "state_label"]


def recognise(paths: list[Path]) -> bool:
    return len(paths) == 1 and paths[0].is_file() and kind_of(paths[0]) == "csv" and _header(paths[0])[:4] == NAMES


def read(paths: list[Path], work: Path) -> Source:
    for path in paths:
        if not path.is_file() or _header(path)[:4] != NAMES:
            raise DataError(f"{path} is not a JODIE csv: its first line must begin with {','.join(NAMES)}.")
    lines = first_lines(paths[0], 2)
    if len(lines) < 2:
        raise DataError(f"{paths[0]} is empty: it has a header and no row.")
    features = [f"f{i}" for i in range(lines[1].count(",") + 1 - len(NAMES))]
    return Source(
        format="jodie",
        relation=csv_relation(plain(paths, work), NAMES + features, ","),
        files=paths,
        columns=Columns("user_id", "item_id", "timestamp", "state_label", edge_features=tuple(features)),
        text=True,
        first_id=0,
        bipartite=True,
        note=f"JODIE csv with {len(features)} features (by its header)",
    )


def _header(file: Path) -> list[str]:
    lines = first_lines(file, 1)
    return [name.strip() for name in lines[0].split(",")] if lines else []
