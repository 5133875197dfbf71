"""The real event streams that benchmarks and results use, imported once into data directories."""

from pathlib import Path

import tgscale

COLUMNS = {"src": "src", "dst": "dst", "time": "t", "edge_features": None}
BIPARTITE = {"wikipedia"}


def real_set(name: str, source: Path, out: Path) -> Path:
    """Data directory ``out/name`` of a real set, imported when missing.

    Its columns src, dst, t lie in ``source/name/events.parquet``, or in ``source/*/name.parquet``. Fractions of seconds
    are dropped.
    """
    path = out / name
    if not path.exists():
        file = next(source.glob(f"*/{name}.parquet"), source / name / "events.parquet")
        query = f"SELECT src, dst, CAST(floor(t) AS BIGINT) AS t FROM '{file}'"
        tgscale.import_events(None, path, query=query, src="src", dst="dst", time="t", name=name)
    return path
