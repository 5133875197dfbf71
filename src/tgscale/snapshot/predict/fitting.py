"""Whether a run's model can be used on other snapshots than those it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tgscale.data.directory import read_json
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.snapshot.build import task_name
from tgscale.snapshot.config import SnapshotConfig

OF_SERIES = ("lags", "steps_per_day")
"""Options of an import of a series that decide what its features are."""


def check_fits(
    sequence: SnapshotSequence, place: Path, trained: SnapshotSequence, data: Path, config: SnapshotConfig
) -> None:
    """Refuse snapshots that say other things of their nodes and edges than those that a run was trained on.

    Args:
        sequence: the snapshots; place: their data directory.
        trained: those of the run; data: their data directory.
        config: of the run.

    Raises:
        ConfigError: as said.
    """
    metas = [read_json(folder) for folder in (place, data)]
    sources = [meta.get("source") or {} for meta in metas]
    for what, (found, expected) in _compared(sequence, trained, metas, sources, config).items():
        if found != expected:
            raise ConfigError(
                f"--snapshots {place}: {what}: {_said(found)}, and the run was trained with {_said(expected)}: import "
                "them with the same options."
            )
    if config.model == "lrgcn" and sequence.num_relations > trained.num_relations:
        raise ConfigError(
            f"--snapshots {place} has {sequence.num_relations} edge types, and the run was trained with "
            f"{trained.num_relations}."
        )
    if task_name(config, trained) == "regression" and not _equally_scaled(sequence, trained, sources):
        cure = "scale its target by those"
        if sources[0].get("format") == "array":
            cure = f"import it with --scale-as {data} (in place of --zscore)"
        raise ConfigError(
            f"--snapshots {place} is scaled by another mean and deviation (target_mean, target_std) than the run's "
            f"data: {cure}."
        )


def _compared(
    sequence: SnapshotSequence,
    trained: SnapshotSequence,
    metas: list[dict[str, Any]],
    sources: list[dict[str, Any]],
    config: SnapshotConfig,
) -> dict[str, list[Any]]:
    """What must be the same: as it is, and as it was in training; so are ``metas`` and their ``sources`` in pairs."""
    both = (sequence, trained)
    same: dict[str, list[Any]] = {
        "node features": [each.node_dim for each in both],
        "edges both ways": [each.undirected for each in both],
        "edge weights": [each.edge_weight is not None for each in both],
    }
    if config.model == "lrgcn":
        same["edge types"] = [each.edge_type is not None for each in both]
    if task_name(config, trained) == "regression":
        same["values to predict"] = [each.target_dim for each in both]
        same["steps until a target is known"] = [each.target_delay for each in both]
    cuts = [source.get("cut") or {} for source in sources]
    if all("every" in cut for cut in cuts) and sequence.time_unit == trained.time_unit:
        same["--every"] = [cut["window"] for cut in cuts]
    if all("events_per_snapshot" in cut for cut in cuts):
        same["--events-per-snapshot"] = [cut["events_per_snapshot"] for cut in cuts]
    # Data directories from before these were kept are taken as they are.
    if all("weight" in source for source in sources):
        same["meaning of weights"] = [source["weight"] for source in sources]
    if all("num_sources" in meta for meta in metas):
        same["--bipartite"] = [meta["num_sources"] is not None for meta in metas]
    if all(source.get("format") == "array" for source in sources):
        same |= {f"--{name.replace('_', '-')}": [source.get(name) for source in sources] for name in OF_SERIES}
    return same


def _said(value: Any) -> str:
    return {True: "yes", False: "no", None: "none"}[value] if isinstance(value, bool | None) else str(value)


def _equally_scaled(sequence: SnapshotSequence, trained: SnapshotSequence, sources: list[dict[str, Any]]) -> bool:
    """Whether targets are scaled alike; there may be more or fewer nodes, where all of them are scaled by the same."""
    if all(source.get("format") == "array" for source in sources):
        return all(sources[0][name] == sources[1][name] for name in ("mean", "std"))
    for name in ("target_mean", "target_std"):
        found, expected = getattr(sequence, name), getattr(trained, name)
        if found is None or expected is None:
            if found is not expected:
                return False
        elif not np.array_equal(found, expected) and len(np.unique(np.concatenate([found, expected]), axis=0)) > 1:
            return False
    return True
