"""JSON files of PyTorch Geometric Temporal: the same snapshots as its own loaders make of them.

Each file has a layout of its own; the layout is recognised by its keys. Most hold a series ``y`` of one value per node
and step: the features of a snapshot are the ``lags`` values before it, and the target is the value at it.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tgscale.data.directory import check_target
from tgscale.data.snapshot_report import SnapshotReport, report_on
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DataError

OPENERS: dict[str, Callable[..., IO[str]]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
LOG_DEGREE_CUTOFF, TENTHS = 4, 11  # classes of the one-hot features of the tennis graphs


def import_pgt(
    source: str | Path, out: str | Path, *, lags: int | None = None, name: str | None = None, overwrite: bool = False
) -> SnapshotReport:
    """Import a JSON file of PyTorch Geometric Temporal (``.json``, also ``.xz``, ``.gz``, ``.bz2``).

    Args:
        source: the file: Chickenpox, PedalMe, EnglandCovid, TwitterTennis, MontevideoBus, WikiMaths or a windmill's.
        out: the data directory to make.
        lags: number of earlier values that are a snapshot's features; None: as the loader has it.
        name: name for reports; the directory's name unless given.
        overwrite: replace a data directory that is already there.

    Raises:
        ConfigError: ``lags`` that do not fit.
        DataError: not such a file; names what is missing.
        StoreError: the target exists, or the disk is full.
    """
    began = clock.perf_counter()
    out = Path(out)
    check_target(out, overwrite)
    data = _load(Path(source))
    layout = next((one for one in LAYOUTS if one.recognise(data)), None)
    if layout is None:
        known = ", ".join(layout.name for layout in LAYOUTS)
        raise DataError(
            f"{source} is of no layout of PyTorch Geometric Temporal that is known ({known}); its keys are "
            f"{sorted(data)[:8]}."
        )
    if layout.lags is None and lags is not None:
        raise ConfigError(f"--lags does not go with {layout.name}, whose features are no lagged values: leave it out.")
    lags = layout.lags if lags is None else lags
    try:
        sequence = layout.read(data, lags, name or out.absolute().name)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{source} is not as {layout.name} has it: {type(error).__name__} {error}.") from None
    about = {"format": "pgt", "files": [str(source)], "layout": layout.name, "lags": lags}
    save_snapshots(sequence, out, overwrite, about)
    return report_on(out, began, "pgt", f"the layout of {layout.name}")


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"source {path} not found: give a JSON file of PyTorch Geometric Temporal.")
    try:
        with OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise DataError(f"{path} is not a JSON file, or is cut short: {error}.") from None
    if not isinstance(data, dict):
        raise DataError(f"{path} holds {type(data).__name__}, a JSON object is expected.")
    return data


@dataclass(frozen=True)
class _Layout:
    """One layout: its name, how it is recognised, its loader's number of lags (None: not lagged), how it is read."""

    name: str
    recognise: Callable[[Mapping[str, Any]], bool]
    lags: int | None
    read: Callable[[Mapping[str, Any], Any, str], SnapshotSequence]


def _has(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda data: all(key in data for key in keys)


def _lagged(series: np.ndarray, lags: int) -> dict[str, np.ndarray]:
    """Features ``[P - lags, N, lags]``, oldest first, and target ``[P - lags, N]`` of a series ``[P, N]``."""
    if series.ndim != 2:
        raise DataError(f"the series has shape {list(series.shape)}, one value per step and node is expected.")
    if not 1 <= lags < len(series):
        raise ConfigError(f"--lags {lags} does not fit a series of {len(series)} steps: give 1 to {len(series) - 1}.")
    windows = np.lib.stride_tricks.sliding_window_view(series, lags, axis=0)
    return {"node_features": windows[:-1], "target": series[lags:]}


def _standard(series: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A series with mean 0 and standard deviation 1 at each node, and both as they were, ``[N, 1]``."""
    mean, std = series.mean(axis=0), series.std(axis=0)
    std[std == 0] = 1.0  # a node that never changes: the loaders would divide by 0 or by 1e-10
    return (series - mean) / std, {"target_mean": mean[:, None], "target_std": std[:, None]}


def _static(edges: Any, weights: Any, values: dict[str, np.ndarray], name: str) -> SnapshotSequence:
    """One graph for all steps of ``values``."""
    edges = np.asarray(edges, np.int64).reshape(-1, 2)
    steps = len(values["target"])
    return SnapshotSequence.from_arrays(
        np.zeros(len(edges), np.int64),
        edges[:, 0],
        edges[:, 1],
        graph_of=np.zeros(steps, np.int64),
        edge_weight=np.ones(len(edges)) if weights is None else weights,
        name=name,
        **values,  # type: ignore[arg-type]
    )


def _dynamic(edges: list[Any], weights: list[Any], values: dict[str, np.ndarray], name: str) -> SnapshotSequence:
    """A graph for each step."""
    graphs = [np.asarray(graph, np.int64).reshape(-1, 2) for graph in edges]
    joined = np.concatenate(graphs)
    return SnapshotSequence.from_arrays(
        np.repeat(np.arange(len(graphs)), [len(graph) for graph in graphs]),
        joined[:, 0],
        joined[:, 1],
        edge_weight=np.concatenate([np.asarray(weight, np.float64) for weight in weights]),
        name=name,
        **values,  # type: ignore[arg-type]
    )


def _read_chickenpox(data: Mapping[str, Any], lags: int, name: str) -> SnapshotSequence:
    return _static(data["edges"], None, _lagged(np.array(data["FX"], np.float64), lags), name)


def _read_pedalme(data: Mapping[str, Any], lags: int, name: str) -> SnapshotSequence:
    return _static(data["edges"], data["weights"], _lagged(np.array(data["X"], np.float64), lags), name)


def _read_covid(data: Mapping[str, Any], lags: int, name: str) -> SnapshotSequence:
    series, scale = _standard(np.array(data["y"], np.float64))
    values = _lagged(series[: data["time_periods"]], lags) | scale
    graphs, steps = data["edge_mapping"], [str(t) for t in range(len(values["target"]))]
    edges, weights = ([graphs[key][t] for t in steps] for key in ("edge_index", "edge_weight"))
    return _dynamic(edges, weights, values, name)


def _read_tennis(data: Mapping[str, Any], lags: None, name: str) -> SnapshotSequence:
    steps = [data[str(t)] for t in range(data["time_periods"])]
    features = np.stack([_tennis_features(np.array(step["X"], np.float64)) for step in steps])
    after = [*steps[1:], steps[-1]]  # the last one has no successor; the loader gives it its own value
    target = np.log(1.0 + np.array([step["y"] for step in after], np.float64))
    edges, weights = ([step[key] for step in steps] for key in ("edges", "weights"))
    return _dynamic(edges, weights, {"node_features": features, "target": target}, name)


def _tennis_features(raw: np.ndarray) -> np.ndarray:
    """Degree and transitivity, each as one-hot classes, float64 ``[N, 16]``."""
    degree = np.minimum(np.ceil(np.log(raw[:, 0] + 1.0)), LOG_DEGREE_CUTOFF).astype(np.int64)
    tenths = np.floor(raw[:, 1] * 10).astype(np.int64)
    return np.concatenate([np.eye(LOG_DEGREE_CUTOFF + 1)[degree], np.eye(TENTHS)[tenths]], axis=1)


def _read_bus(data: Mapping[str, Any], lags: int, name: str) -> SnapshotSequence:
    place = {node["bus_stop"]: number for number, node in enumerate(data["nodes"])}
    edges = [(place[link["source"]], place[link["target"]]) for link in data["links"]]
    series, scale = _standard(np.array([node["y"] for node in data["nodes"]], np.float64).T)
    return _static(edges, [link["weight"] for link in data["links"]], _lagged(series, lags) | scale, name)


def _read_wiki(data: Mapping[str, Any], lags: int, name: str) -> SnapshotSequence:
    series, scale = _standard(np.array([data[str(t)]["y"] for t in range(data["time_periods"])], np.float64))
    return _static(data["edges"], data["weights"], _lagged(series, lags) | scale, name)


def _read_windmill(data: Mapping[str, Any], lags: int, name: str) -> SnapshotSequence:
    series, scale = _standard(np.array(data["block"], np.float64))
    return _static(data["edges"], data["weights"], _lagged(series, lags) | scale, name)


LAYOUTS = (
    _Layout("Chickenpox", _has("edges", "FX"), 4, _read_chickenpox),
    _Layout("EnglandCovid", _has("edge_mapping", "time_periods", "y"), 8, _read_covid),
    _Layout("MontevideoBus", _has("nodes", "links"), 4, _read_bus),
    _Layout("PedalMe", _has("edges", "weights", "X"), 4, _read_pedalme),
    _Layout("Windmill", _has("edges", "weights", "block"), 8, _read_windmill),
    _Layout("WikiMaths", _has("edges", "weights", "time_periods"), 8, _read_wiki),
    _Layout("TwitterTennis", _has("time_periods", "0"), None, _read_tennis),
)
