"""Whether a run's model can be used on other snapshots than those it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.snapshot.build import task_name
from tgscale.snapshot.config import SnapshotConfig


def check_fits(sequence: SnapshotSequence, trained: SnapshotSequence, config: SnapshotConfig, data: Path) -> None:
    """Refuse snapshots that say other things of their nodes and edges than those that a run was trained on.

    Args:
        sequence: the snapshots.
        trained: those of the run.
        config: of the run.
        data: the run's data directory.

    Raises:
        ConfigError: as said.
    """
    same = {
        "node features": (sequence.node_dim, trained.node_dim),
        "edges both ways": (sequence.undirected, trained.undirected),
        "edge weights": (sequence.edge_weight is not None, trained.edge_weight is not None),
    }
    if regression := task_name(config, trained) == "regression":
        same["values to predict"] = (sequence.target_dim, trained.target_dim)
        same["steps until a target is known"] = (sequence.target_delay, trained.target_delay)
    for what, (found, expected) in same.items():
        if found != expected:
            raise ConfigError(
                f"--snapshots {sequence.path}: {what}: {_said(found)}, and the run was trained with {_said(expected)}: "
                "import them with the same options."
            )
    if sequence.num_relations > trained.num_relations:
        raise ConfigError(
            f"--snapshots {sequence.path} has {sequence.num_relations} edge types, and the run was trained with "
            f"{trained.num_relations}."
        )
    if regression and not (
        _equal(sequence.target_mean, trained.target_mean) and _equal(sequence.target_std, trained.target_std)
    ):
        raise ConfigError(
            f"--snapshots {sequence.path} is scaled by another mean and deviation than the run's data: import it with "
            f"--scale-as {data} (in place of --zscore)."
        )


def _said(value: int | bool) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _equal(found: np.ndarray | None, expected: np.ndarray | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return found.shape == expected.shape and np.array_equal(found, expected)
