"""tgscale: train temporal graph networks on streams of events.

The names below are the short way in; they are imported when they are first used, so that ``import tgscale`` is quick::

    import tgscale

    stream = tgscale.EventStream.from_arrays(src, dst, time)
    tgscale.save_stream(stream, "data/mine")
    config = tgscale.default_config("data/mine", "runs/mine")
    result = tgscale.train_stream(config)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tgscale.data.datasets.get import get_dataset
    from tgscale.data.export import export_events
    from tgscale.data.export.snapshots import export_snapshots
    from tgscale.data.generate import generate_stream
    from tgscale.data.ingest import import_events
    from tgscale.data.snapshot_array import import_array
    from tgscale.data.snapshot_generate import generate_snapshots
    from tgscale.data.snapshot_ingest import import_snapshots
    from tgscale.data.snapshot_pgt import import_pgt
    from tgscale.data.snapshot_store import open_snapshots, save_snapshots
    from tgscale.data.snapshots import SnapshotSequence
    from tgscale.data.store import open_stream, save_stream
    from tgscale.data.stream import EventStream
    from tgscale.errors import TgscaleError
    from tgscale.graph.history import History
    from tgscale.graph.sampling import NeighborSampler
    from tgscale.models.tgn import TGN, TGNConfig
    from tgscale.snapshot.config import SnapshotConfig
    from tgscale.snapshot.predict import predict_snapshots
    from tgscale.snapshot.trainer import evaluate_snapshots, train_snapshots
    from tgscale.stream.config import TrainConfig, default_config, disttgl_config, replace
    from tgscale.stream.predict import predict
    from tgscale.stream.trainer import evaluate, resume, train_stream
    from tgscale.train.exported import load_model

_HOME = {
    "EventStream": "tgscale.data.stream",
    "History": "tgscale.graph.history",
    "NeighborSampler": "tgscale.graph.sampling",
    "SnapshotConfig": "tgscale.snapshot.config",
    "SnapshotSequence": "tgscale.data.snapshots",
    "TGN": "tgscale.models.tgn",
    "TGNConfig": "tgscale.models.tgn",
    "TgscaleError": "tgscale.errors",
    "TrainConfig": "tgscale.stream.config",
    "default_config": "tgscale.stream.config",
    "disttgl_config": "tgscale.stream.config",
    "evaluate": "tgscale.stream.trainer",
    "evaluate_snapshots": "tgscale.snapshot.trainer",
    "export_events": "tgscale.data.export",
    "export_snapshots": "tgscale.data.export.snapshots",
    "generate_snapshots": "tgscale.data.snapshot_generate",
    "generate_stream": "tgscale.data.generate",
    "get_dataset": "tgscale.data.datasets.get",
    "import_array": "tgscale.data.snapshot_array",
    "import_events": "tgscale.data.ingest",
    "import_pgt": "tgscale.data.snapshot_pgt",
    "import_snapshots": "tgscale.data.snapshot_ingest",
    "load_model": "tgscale.train.exported",
    "open_snapshots": "tgscale.data.snapshot_store",
    "open_stream": "tgscale.data.store",
    "predict": "tgscale.stream.predict",
    "predict_snapshots": "tgscale.snapshot.predict",
    "replace": "tgscale.stream.config",
    "resume": "tgscale.stream.trainer",
    "save_snapshots": "tgscale.data.snapshot_store",
    "save_stream": "tgscale.data.store",
    "train_snapshots": "tgscale.snapshot.trainer",
    "train_stream": "tgscale.stream.trainer",
}

__all__ = [
    "TGN", "EventStream", "History", "NeighborSampler", "SnapshotConfig", "SnapshotSequence", "TGNConfig",
    "TgscaleError", "TrainConfig", "default_config", "disttgl_config", "evaluate", "evaluate_snapshots",
    "export_events", "export_snapshots", "generate_snapshots", "generate_stream", "get_dataset", "import_array",
    "import_events", "import_pgt", "import_snapshots", "load_model", "open_snapshots", "open_stream", "predict",
    "predict_snapshots", "replace", "resume", "save_snapshots", "save_stream", "train_snapshots", "train_stream",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tgscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
