"""The ids that nodes had in their source, and the numbers that a data directory gave them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tgscale.data.formats.source import sql_text
from tgscale.data.problems import Dropped
from tgscale.data.store import NODE_IDS, destinations_shifted, read_meta
from tgscale.data.value_words import counted
from tgscale.errors import DataError

SIDES = ("src", "dst")


class NodeIds:
    """The ids of a data directory's nodes.

    ``rule`` says what they are: ``mapped`` by a table, ``shifted`` (each side dense, destinations after the sources),
    or ``plain`` (an id is the node's number).

    Args:
        data: the data directory.
        nodes, table: how many nodes there are and the table of their ids, where rows have brought more since.
    """

    def __init__(self, data: Path, nodes: int | None = None, table: Path | None = None) -> None:
        self.meta = meta = read_meta(data)
        self.nodes, self.table = nodes or meta["nodes"], table or data / NODE_IDS
        self.rule = "shifted" if destinations_shifted(meta) else "plain"
        self.kind = "int"
        self.has_side = False
        if self.table.exists():
            self.rule = "mapped"
            schema = pq.read_schema(self.table)
            self.kind = "int" if str(schema.field("id").type) == "int64" else "text"
            self.has_side = "side" in schema.names

    @property
    def apart(self) -> bool:
        """Whether the two sides have ids of their own, as those of a bipartite source have."""
        return destinations_shifted(self.meta)

    def known(self, side: str) -> str:
        """SQL of the known ``(node, id)`` of a side."""
        sources, nodes = self.meta["num_sources"], self.nodes
        if self.rule == "mapped":
            where = ""
            if self.apart:
                of_side = f"node {'<' if side == 'src' else '>='} {sources}"
                where = f" WHERE {'side = ' + sql_text(side) if self.has_side else of_side}"
            return f"SELECT node, id FROM read_parquet({sql_text(self.table)}){where}"
        first, last = {"plain": (0, nodes), "shifted": (0, sources) if side == "src" else (sources, nodes)}[self.rule]
        shift = first if self.rule == "shifted" else 0
        return f"SELECT range AS node, range - {shift} AS id FROM range({first}, {last})"

    def number(
        self, db: duckdb.DuckDBPyConnection, where: str, others: tuple[str, ...], unknown: str
    ) -> tuple[int, list[Dropped]]:
        """Make the tables ``src_nodes`` and ``dst_nodes`` (node, id) of the usable rows' nodes, and ``fresh``.

        Returns:
            How many nodes are new, and the rows that were left out for one.
        """
        dropped: list[Dropped] = []
        groups = [("src", others)] if not self.apart else [(side, ()) for side in ("src", *others)]
        db.execute("CREATE TABLE fresh (node BIGINT, id VARCHAR, side VARCHAR)")
        for side, more in groups:
            wanted = " UNION ".join(
                f"SELECT DISTINCT {role} AS id FROM staged WHERE problem IS NULL" for role in (side, *more)
            )
            db.execute(f"CREATE TABLE {side}_ids AS {wanted}")
            found = f"SELECT node, id FROM ({self.known(side)}) SEMI JOIN {side}_ids USING (id)"
            db.execute(f"CREATE TABLE {side}_nodes AS {found}")
            count, example = db.execute(
                f"SELECT count(*), min(id) FROM {side}_ids ANTI JOIN {side}_nodes USING (id)"
            ).fetchall()[0]
            words = f"{counted(count, 'id is not a node', 'ids are not nodes')} of the data"
            if count and unknown == "stop":
                raise DataError(
                    f"{where}: {words}, such as {example!r}. Pass --unknown fresh to give them a memory that starts "
                    "empty, or --unknown drop to leave their rows out."
                )
            if count and unknown == "drop":
                either = " OR ".join(f"{role} NOT IN (SELECT id FROM {side}_nodes)" for role in (side, *more))
                rows = db.execute(f"SELECT count(*) FROM staged WHERE problem IS NULL AND ({either})").fetchall()[0][0]
                db.execute(f"UPDATE staged SET problem = '{side}' WHERE problem IS NULL AND ({either})")
                dropped.append(Dropped(side, rows, [f"{where}: {words}."]))
            elif count:
                first = self.nodes + db.execute("SELECT count(*) FROM fresh").fetchall()[0][0]
                db.execute(
                    f"CREATE TABLE {side}_new AS SELECT {first} + row_number() OVER (ORDER BY id) - 1 AS node, id "
                    f"FROM {side}_ids ANTI JOIN {side}_nodes USING (id)"
                )
                db.execute(f"INSERT INTO {side}_nodes FROM {side}_new")
                db.execute(f"INSERT INTO fresh SELECT node, id::VARCHAR, '{side}' FROM {side}_new")
        if not self.apart and others:
            db.execute("CREATE VIEW dst_nodes AS FROM src_nodes")
        return db.execute("SELECT count(*) FROM fresh").fetchall()[0][0], dropped

    def write(self, db: duckdb.DuckDBPyConnection, file: Path) -> None:
        """Write the table of all ids, those of new nodes included; with the side of each where the sides are apart."""
        kind = "VARCHAR" if self.kind == "text" else "BIGINT"
        side = ", side" if self.apart else ""
        if self.apart:
            parts = [f"SELECT node, id::{kind} AS id, '{s}' AS side FROM ({self.known(s)})" for s in SIDES]
        else:
            parts = [f"SELECT node, id::{kind} AS id FROM ({self.known('src')})"]
        parts.append(f"SELECT node, id::{kind} AS id{side} FROM fresh")
        union = " UNION ALL ".join(parts)
        db.execute(f"COPY (FROM ({union}) ORDER BY node) TO {sql_text(file)} (FORMAT parquet)")


def ascending(ids: pa.Array) -> bool:
    """Whether each id is above the one before it."""
    return len(ids) < 2 or pc.all(pc.less(ids.slice(0, len(ids) - 1), ids.slice(1))).as_py()
