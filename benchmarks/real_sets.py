"""The real event streams that benchmarks and results use, imported once into data directories."""

from pathlib import Path

import tgscale

COLUMNS = {"src": "src", "dst": "dst", "time": "t", "edge_features": None}
BIPARTITE = {"wikipedia"}


def real_set(name: str, source: Path, out: Path) -> Path:
    """Data directory ``out/name`` of ``source/name/events.parquet`` (columns src, dst, t), imported when missing."""
    path = out / name
    if not path.exists():
        query = f"SELECT src, dst, t FROM '{source / name / 'events.parquet'}'"
        tgscale.import_events(None, path, query=query, src="src", dst="dst", time="t", name=name)
    return path
