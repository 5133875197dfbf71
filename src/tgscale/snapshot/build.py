"""Models and tasks by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.models.a3tgcn import A3TGCN
from tgscale.models.evolvegcn import EvolveGCN
from tgscale.models.gclstm import GCLSTM
from tgscale.models.gconv_gru import GConvGRU
from tgscale.models.lrgcn import LRGCN
from tgscale.models.mpnn_lstm import MPNNLSTM
from tgscale.models.snapshot_model import SnapshotModel
from tgscale.models.tgcn import TGCN
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.task.base import Task
from tgscale.snapshot.task.edges import EdgeClassification
from tgscale.snapshot.task.links import LinkPrediction
from tgscale.snapshot.task.regression import Regression

Make = Callable[[SnapshotConfig, int, int], SnapshotModel]

MODELS: dict[str, Make] = {
    "tgcn": lambda config, features, relations: TGCN(features, config.net.hidden),
    "a3tgcn": lambda config, features, relations: A3TGCN(features, config.net.hidden, config.window, config.net.compat),
    "lrgcn": lambda config, features, relations: LRGCN(features, config.net.hidden, relations, config.net.bases),
    "gclstm": lambda config, features, relations: GCLSTM(features, config.net.hidden, config.net.order),
    "gconv_gru": lambda config, features, relations: GConvGRU(features, config.net.hidden, config.net.order),
    "evolvegcn_o": lambda config, features, relations: EvolveGCN(features, config.net.hidden, "O"),
    "evolvegcn_h": lambda config, features, relations: EvolveGCN(features, config.net.hidden, "H"),
    "mpnn_lstm": lambda config, features, relations: MPNNLSTM(
        features, config.net.hidden, config.window, config.net.dropout
    ),
}
"""Name -> function of (config, node features, edge types)."""


def make_model(config: SnapshotConfig, sequence: SnapshotSequence, features: int) -> SnapshotModel:
    """The model that ``config`` names, with weights drawn by its seed.

    Raises:
        ConfigError: a model that does not fit the data.
    """
    if config.model == "evolvegcn_h" and features > sequence.num_nodes:
        raise ConfigError(
            f"evolvegcn_h picks as many nodes as there are features ({features}), and {sequence.name} has "
            f"{sequence.num_nodes}: choose evolvegcn_o."
        )
    torch.manual_seed(config.seed)
    return MODELS[config.model](config, features, sequence.num_relations)


def task_name(config: SnapshotConfig, sequence: SnapshotSequence) -> Literal["regression", "link", "edge"]:
    """The task that ``config`` names; with ``auto``, node regression where there is a target, else link prediction."""
    if config.task != "auto":
        return config.task
    return "link" if sequence.target is None else "regression"


def make_task(
    config: SnapshotConfig, sequence: SnapshotSequence, device: torch.device, dtype: torch.dtype = torch.float32
) -> Task:
    """The task that ``config`` names, on a sequence."""
    name = task_name(config, sequence)
    if name == "regression":
        return Regression(sequence, device, dtype, config.net.residual)
    return EdgeClassification(sequence, config, device) if name == "edge" else LinkPrediction(sequence, config, device)
