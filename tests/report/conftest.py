"""Run directories as the engines write them, small, of known figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tgscale.stream.config import default_config, replace
from tgscale.train.config_io import to_dict
from tgscale.train.timeline import write_timeline

PROTOCOL = {"name": "mrr49", "negatives": 49, "population": "destinations", "population_size": 100,
            "exclude_own": False, "ties": "half", "batch_size": 10, "seed": 0}  # fmt: skip
ENVIRONMENT = {"cpu": "Z80", "cores": 2, "gpus": [], "torch": "2.13.0", "date": "2026-01-02T03:04:05+00:00"}
CAPTURED = {"batch_sizes": [5, 10, 20, 40], "missing": [0.1, 0.2, 0.4, 0.8], "missing_busy": [0.2, 0.4, 0.8, 0.9],
            "busy_nodes": 3, "local_batch": 10, "global_batch": 20}  # fmt: skip


PARTS = (("forward", 0, 0.4), ("read memory", 0.1, 0.1), ("backward", 0.4, 0.4), ("optimizer", 0.9, 0.1))
"""Of a step: name, start and length as shares of it."""


def events_of(steps=6, step_ms=10.0, lane="trainer", start=0.0):
    """Spans of some steps: a forward with a wait within it, a backward, the optimiser; ``start`` in ms."""
    events = []
    for step in range(steps):
        at = start + step_ms * step
        for name, begin, length in (
            ("forward", 0, 0.4),
            ("read memory", 0.1, 0.1),
            ("backward", 0.4, 0.4),
            ("optimizer", 0.9, 0.1),
        ):
            span = {"ts": round(1e6 * (at + step_ms * begin)), "dur": round(1e6 * step_ms * length)}
            events.append({"ph": "X", "name": name, "pid": 0, "tid": lane, "args": {}, **span})
    return events


def write_run(
    path: Path, test_mrr: float | None = 0.5, data="wikipedia", layout="2x1x2", profile=True, scores=True, **options
) -> Path:
    """A run on a stream; without ``test_mrr`` one that is still going."""
    path.mkdir(parents=True)
    config = replace(default_config(Path("/data") / data, path), layout=layout, train__batch_size=10, **options)
    (path / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
    lines = [
        {"kind": "epoch", "iteration": 10 * e, "epoch": e, "loss": 1 / e, "seconds": 1.0, "val_mrr": 0.3 + 0.05 * e,
         "val_ap": 0.8, "val_auc": 0.7, "val_mrr_new_nodes": None, "val_seconds": 0.5}
        for e in (1, 2, 3)
    ]  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "epo')
    if test_mrr is None:
        return path
    process = {"iterations": 30, "seconds": 3.0,
               "time": {"forward": 1.5, "read memory": 0.3, "backward": 0.9, "sample": 0.6},
               "own_time": {"forward": 1.2, "read memory": 0.3, "backward": 0.9}}  # fmt: skip
    metrics = {"mrr": test_mrr, "ap": 0.9, "auc": 0.8, "mrr_new_nodes": None}
    result = {
        "task": "link prediction",
        "model": "tgn",
        "data": {"name": data, "events": 1000, "nodes": 50},
        "split": {"train": 700, "val": 850, "test": 1000, "by": "time"},
        "protocol": PROTOCOL,
        "val": metrics,
        "test": metrics,
        "baselines": {"edgebank": {**metrics, "mrr": 0.4}, "recency": {**metrics, "mrr": 0.6}},
        "captured": CAPTURED,
        "train": {"layout": layout, "emulated": False, "ranks": 4, "iterations": 30, "epochs": 3, "best_epoch": 3,
                  "seconds": 3.0, "events_per_second": 700.0, "profiled": profile, "processes": [process] * 4,
                  "peak_memory_bytes": 2**28, "parameters": 1234},
        "environment": ENVIRONMENT,
    }  # fmt: skip
    (path / "result.json").write_text(json.dumps(result))
    if profile:
        processes = [(f"trainer {rank}", events_of(start=1.0 * rank)) for rank in range(4)]
        write_timeline(path / "timeline.json", processes)
    if scores:
        rng = np.random.default_rng(0)
        np.savez(path / "test_scores.npz", event=np.arange(850, 1000), rank=np.full(150, 2, np.float32),
                 source_degree=rng.integers(0, 2000, 150), destination_degree=np.zeros(150, np.int64),
                 new_node=np.arange(150) < 30, rank_recency=np.full(150, 4, np.float32))  # fmt: skip
    return path


def write_snapshot_run(path: Path, data="days", **changes) -> Path:
    """A finished run on snapshots, on two devices."""
    path.mkdir(parents=True)
    config = {"data": f"/data/{data}", "run": str(path), "model": "tgcn", "partition": "blad", "seed": 0, **changes}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [
        {
            "kind": "epoch",
            "iteration": 5 * e,
            "epoch": e,
            "loss": 1 / e,
            "imbalance": 1.1,
            "val_mae": 1 / e,
            "val_rmse": 2 / e,
        }
        for e in (1, 2)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    process = {"iterations": 10, "time": {"graph": 1.0, "nn": 2.0, "all-reduce": 0.1}, "own_time": {"all-reduce": 0.1}}
    result = {
        "task": "node regression",
        "model": "tgcn",
        "data": {"name": data, "snapshots": 60, "nodes": 20, "edges": 100},
        "split": {"train": [0, 42], "val": [42, 51], "test": [51, 60]},
        "protocol": {"name": "node regression", "units": "as stored"},
        "val": {"mae": 0.5, "rmse": 1.0},
        "test": {"mae": 0.6, "rmse": 1.2},
        "baselines": {"persistence": {"mae": 0.55, "rmse": 1.1}},
        "train": {"partition": "blad", "assign": "lpt", "executor": "streams", "ranks": 2, "groups": 35,
                  "groups_per_step": 8, "executor_choice": {"why": "1.7 times as fast"}, "iterations": 10,
                  "epochs": 2, "seconds": 4.0, "imbalance": [1.2, 1.1], "sync_wait_seconds": [0.2, 0.1],
                  "notes": ["a note"], "processes": [process] * 2, "peak_memory_bytes": 2**28, "parameters": 99},
        "environment": ENVIRONMENT,
    }  # fmt: skip
    (path / "result.json").write_text(json.dumps(result))
    write_timeline(path / "timeline.json", [("device 0", events_of() + events_of(lane="worker 0"))])
    return path


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Two finished runs on a stream, one that is still going, and one on snapshots."""
    return [
        write_run(tmp_path / "a", 0.5),
        write_run(tmp_path / "b", 0.7, layout="1x1x1", profile=False, scores=False, train__lr=0.5),
        write_run(tmp_path / "c", None),
        write_snapshot_run(tmp_path / "s"),
    ]


@pytest.fixture
def make_run():
    """Writes a run on a stream; see :func:`write_run`."""
    return write_run


@pytest.fixture
def make_snapshot_run():
    """Writes a run on snapshots; see :func:`write_snapshot_run`."""
    return write_snapshot_run
