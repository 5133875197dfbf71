"""Export a run on an event stream: the best weights, and the memory as it is after the last event."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tgscale.data.store import NODE_IDS, fingerprint
from tgscale.models.config import ModelConfig
from tgscale.models.stream_models import model_class
from tgscale.nn.static_memory import StaticMemory, StaticTable
from tgscale.stream.engine import typical_gap
from tgscale.stream.predict.start import Base, make_engine, walk_to_end
from tgscale.stream.trainer import load_config
from tgscale.train.config_io import from_dict, to_dict
from tgscale.train.environment import find_device, set_threads
from tgscale.train.exported import check_out, result_of_run, write_export
from tgscale.train.run_start import data_of, load_best


def export_stream(
    run: Path, out: Path, overwrite: bool = False, quiet: bool = False, data: Path | None = None
) -> dict[str, Any]:
    """Write the best weights of a run and its memory into a folder for :func:`tgscale.load_model`.

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
    base = Base.of(config, config.data, "test")
    engine = make_engine(config, base.stream, find_device(config.device), best)
    walk_to_end(engine, base, quiet)
    stream, static = base.stream, engine.model.static
    about = {
        "engine": "stream",
        "model": to_dict(config.model),
        "scale": float(typical_gap(stream, engine.split)),
        "neighbors": config.sampling.neighbors,
        "static": None if not isinstance(static, StaticTable) else {
            "shape": list(static.table.shape),
            "trained": static.trained,
            "project": static.project is not None,
            "gate": static.gate is not None,
        },
        "data": {
            "name": stream.name,
            "nodes": stream.num_nodes,
            "events": stream.num_events,
            "edge_features": stream.edge_dim,
            "time_unit": stream.time_unit,
            "last_time": base.last_time,
            "fingerprint": fingerprint(config.data),
        },
        "options": to_dict(config),
        "result": result_of_run(run),
    }  # fmt: skip
    ids = [config.data / NODE_IDS] if (config.data / NODE_IDS).exists() else []
    write_export(out, about, engine.model.state_dict(), engine.memory.state_dict(), ids, overwrite)
    return about


def build(config: dict[str, Any]) -> nn.Module:
    """The untrained model of an exported configuration."""
    model = from_dict(ModelConfig, config["model"], "config.json")
    static = StaticMemory()
    if config["static"] is not None:
        kept = config["static"]
        table = torch.zeros(kept["shape"])
        gate = 0.0 if kept["gate"] else None
        static = StaticTable(table, model.dim, kept["trained"], project=kept["project"], gate=gate)
    return model_class(model)(model, config["data"]["edge_features"], static, config["scale"], config["neighbors"])
