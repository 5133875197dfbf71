"""Export a run on snapshots: the best weights of model and head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from torch import nn

from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.data.store import NODE_IDS, fingerprint
from tgscale.nn.decoder import LinkDecoder, PairClassifier
from tgscale.snapshot.build import make_model
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.task.edges import EdgeClassification
from tgscale.snapshot.task.history import PAIR_DIM
from tgscale.snapshot.trainer import load_config
from tgscale.train.config_io import from_dict, to_dict
from tgscale.train.environment import find_device, set_threads
from tgscale.train.exported import check_out, result_of_run, write_export
from tgscale.train.run_start import data_of, load_best


def export_snapshots(
    run: Path, out: Path, overwrite: bool = False, quiet: bool = False, data: Path | None = None
) -> dict[str, Any]:
    """Write the best weights of a run into a folder for :func:`tgscale.load_model`.

    ``data`` is the run's data directory, where it has moved.

    Returns:
        What ``config.json`` of the folder holds.

    Raises:
        RunError: not a run directory, one without validated weights, or an ``out`` that cannot be used.
    """
    check_out(out, overwrite)
    config = load_config(run)
    config = dataclasses.replace(config, data=data_of(config, data))
    set_threads(config.threads)
    best = load_best(run, config.data)
    sequence = open_snapshots(config.data)
    engine = SnapshotEngine(config, sequence, find_device(config.device))
    about = {
        "engine": "snapshots",
        "data": {
            "name": sequence.name,
            "nodes": sequence.num_nodes,
            "snapshots": sequence.num_steps,
            "relations": sequence.num_relations,
            "features": engine.data.x.shape[2],
            "fingerprint": fingerprint(config.data),
        },
        "head": _describe_head(engine),
        "options": to_dict(config),
        "result": result_of_run(run),
    }
    ids = [config.data / NODE_IDS] if (config.data / NODE_IDS).exists() else []
    write_export(out, about, best["modules"], None, ids, overwrite)
    return about


def build(config: dict[str, Any]) -> nn.Module:
    """The untrained model and head of an exported configuration."""
    options, data = from_dict(SnapshotConfig, config["options"], "config.json"), config["data"]
    sizes = SimpleNamespace(num_nodes=data["nodes"], num_relations=data["relations"], name=data["name"])
    model = make_model(options, cast(SnapshotSequence, sizes), data["features"])
    head = HEADS[config["head"]["kind"]](model.out_dim, config["head"]["outputs"])
    return nn.ModuleDict({"model": model, "head": head})


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "regression": lambda dim, targets: nn.Sequential(nn.ReLU(), nn.Linear(dim, targets)),
    "edge": PairClassifier,
    "link": LinkDecoder,
}
"""Kind -> function of the embedding's width, and of targets, classes or pair features."""


def _describe_head(engine: SnapshotEngine) -> dict[str, Any]:
    if isinstance(engine.head, LinkDecoder):
        return {"kind": "link", "outputs": PAIR_DIM if engine.config.net.pair_encoding else 0}
    if isinstance(engine.task, EdgeClassification):
        return {"kind": "edge", "outputs": len(engine.task.classes)}
    return {"kind": "regression", "outputs": engine.sequence.target_dim}
