"""Weights of PyTorch Geometric Temporal's recurrent layers, taken over into the models of the same name.

Layers and models have the same equations and nearly the same names of weights, so outputs are equal, save where that
library differs from the paper: its ``A3TGCN`` never hands the hidden state on (``A3TGCN(..., compat=True)`` does the
same), and its ``EvolveGCNO`` and ``EvolveGCNH`` hand their evolved weights on from call to call, so that they are equal
within one group after ``reinitialize_weight()``. Nothing of that library is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tgscale.errors import ConfigError
from tgscale.models.a3tgcn import A3TGCN
from tgscale.models.evolvegcn import EvolveGCN
from tgscale.models.gclstm import GCLSTM
from tgscale.models.gconv_gru import GConvGRU
from tgscale.models.lrgcn import LRGCN
from tgscale.models.mpnn_lstm import MPNNLSTM
from tgscale.models.snapshot_model import SnapshotModel
from tgscale.models.tgcn import TGCN

RENAMED: dict[type[SnapshotModel], dict[str, str]] = {
    TGCN: {},
    A3TGCN: {"_base_tgcn.": "tgcn.", "_attention": "attention"},
    LRGCN: {},
    GCLSTM: {},
    GConvGRU: {},
    EvolveGCN: {"pooling_layer.select.weight": "scorer", "pooling_layer.weight": "scorer"},
    MPNNLSTM: {},
}
"""Model -> how its layer's names of weights begin, and what that is here; other names are the same."""


def load_pygt(model: SnapshotModel, layer: nn.Module | Mapping[str, Tensor]) -> None:
    """Copy the weights of a layer of PyTorch Geometric Temporal into a model; nothing is copied if anything is wrong.

    Args:
        model: a :class:`~tgscale.models.tgcn.TGCN`, ``A3TGCN``, ``LRGCN``, ``GCLSTM``, ``GConvGRU``, ``EvolveGCN`` or
            ``MPNNLSTM`` of the same sizes. Weights take on its dtype and device.
        layer: the layer of that name (``EvolveGCNO`` or ``EvolveGCNH`` by the variant), or its state dict.

    Raises:
        ConfigError: another model; or weights that are missing, unexpected or of another shape.
    """
    if type(model) not in RENAMED:
        known = ", ".join(kind.__name__ for kind in RENAMED)
        raise ConfigError(f"{type(model).__name__} is no layer of PyTorch Geometric Temporal: give one of {known}.")
    given: Mapping[str, Any] = layer.state_dict() if isinstance(layer, nn.Module) else layer
    found = {_our_name(model, name): value for name, value in given.items()}
    expected = model.state_dict()
    if isinstance(model, EvolveGCN) and found.get("scorer") is not None:
        found["scorer"] = found["scorer"].flatten()  # [1, F] there
    _check_names(model, set(expected) - set(found), {name for name in given if _our_name(model, name) not in expected})
    _check_shapes(model, found, expected)
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(found[name])


def _our_name(model: SnapshotModel, name: str) -> str:
    for theirs, ours in RENAMED[type(model)].items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _check_names(model: SnapshotModel, missing: set[str], unexpected: set[str]) -> None:
    if not missing and not unexpected:
        return
    parts = [f"{what} {_some(names)}" for what, names in (("lacks", missing), ("also has", unexpected)) if names]
    hint = "make both with the same options"
    if any(name.partition(".")[2] in model.state_dict() for name in unexpected):
        hint = "it is a model that holds the layer: give the layer alone, such as model.recurrent"
    elif any("comp" in name for name in missing | unexpected):
        hint = "make both with the same number of bases"
    elif "scorer" in missing or any("pooling_layer" in name for name in unexpected):
        hint = "EvolveGCNO goes with variant O, EvolveGCNH with variant H"
    raise ConfigError(f"the layer given for {type(model).__name__} {' and '.join(parts)}: {hint}.")


def _some(names: set[str]) -> str:
    first = sorted(names)[:4]
    return ", ".join(first) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _check_shapes(model: SnapshotModel, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    wrong = [name for name in expected if found[name].shape != expected[name].shape]
    if wrong:
        name = wrong[0]
        raise ConfigError(
            f"{name} of the layer given for {type(model).__name__} is {list(found[name].shape)}, here it is "
            f"{list(expected[name].shape)} ({len(wrong)} of {len(expected)} weights differ): make both with the same "
            "features, hidden width and other sizes."
        )
