"""What each operator of a program computes, on tensors of one step or of all steps of a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgscale.graph.adjacency import Adjacency
from tgscale.nn.program import Node


class GroupView(Protocol):
    """A group of snapshots as a plan sees it.

    Attributes:
        first: number of the group's first step.
        window: number of its steps, w.
        x: node features, ``[w, N, F]``.
    """

    @property
    def first(self) -> int: ...

    @property
    def window(self) -> int: ...

    @property
    def x(self) -> Tensor: ...

    def aggregate(self, operator: str, x: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """``A_t x_t`` for all steps, ``[w, N, F]``."""

    def aggregate_at(self, operator: str, step: int, x: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """``A_t x`` at one step of the group, ``[N, F]``."""

    def adjacency(self, operator: str) -> Adjacency | None:
        """The adjacency of that name, for kernels that run a whole recurrence; None where nodes are split."""

    def graphs(self) -> Tensor:
        """Which graph of the adjacency each step shows, int64 ``[w]``."""

    def batch_norm(self, module: nn.BatchNorm1d, x: Tensor) -> Tensor:
        """Batch normalisation over all nodes and steps, ``[w, N, C]``."""

    def top_rows(self, x: Tensor, score: Tensor, count: int) -> Tensor:
        """The ``count`` rows of highest score per step, ``[..., count, F]``."""


Evaluate = Callable[[Node, list[Tensor]], Tensor]


def _add(node: Node, at: list[Tensor]) -> Tensor:
    return at[0] + at[1]


def _concat(node: Node, at: list[Tensor]) -> Tensor:
    most = max(at, key=lambda part: part.dim()).shape[:-1]
    return torch.cat([part.expand(*most, part.shape[-1]) for part in at], dim=-1)


def _affine(node: Node, at: list[Tensor]) -> Tensor:
    x, weight, bias = at
    if weight.dim() > 2:  # weights of each step
        return torch.matmul(x, weight) + bias
    return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], weight.shape[-1])


def _mix(node: Node, at: list[Tensor]) -> Tensor:
    return torch.tensordot(at[0][node.attrs[0]], at[1], dims=1)


def _skip(node: Node, at: list[Tensor]) -> Tensor:
    x = at[0]
    return torch.cat([x[0], x[1:, :, -1].T], dim=1)


def _attend(node: Node, at: list[Tensor]) -> Tensor:
    return torch.tensordot(torch.softmax(at[1], dim=0), at[0], dims=1)


OPERATORS: dict[str, Evaluate] = {
    "add": _add,
    "affine": _affine,
    "subtract": lambda node, at: at[0] - at[1],
    "multiply": lambda node, at: at[0] * at[1],
    "matmul": lambda node, at: torch.matmul(at[0], at[1]),
    "sigmoid": lambda node, at: torch.sigmoid(at[0]),
    "tanh": lambda node, at: torch.tanh(at[0]),
    "relu": lambda node, at: F.relu(at[0]),
    "complement": lambda node, at: 1 - at[0],
    "scale": lambda node, at: node.attrs[0] * at[0],
    "concat": _concat,
    "columns": lambda node, at: at[0][..., node.attrs[0] : node.attrs[1]],
    "rows": lambda node, at: at[0][..., node.attrs[0] : node.attrs[1], :],
    "transpose": lambda node, at: at[0].T,
    "stack_rows": lambda node, at: torch.cat(at, dim=-2) if len(at) > 1 else at[0],
    "pick": lambda node, at: at[0][node.attrs[0]],
    "mix": _mix,
    "attend": _attend,
    "last": lambda node, at: at[0][-1],
    "skip": _skip,
}
"""Operators that need nothing but their inputs. Those of one step and of all steps at once have the same form."""


def score_rows(x: Tensor, scorer: Tensor) -> Tensor:
    """``tanh(x p / |p|)``, by which EvolveGCN-H picks nodes, ``[..., N]``."""
    return torch.tanh(x @ scorer / scorer.norm())


def pick_top(x: Tensor, score: Tensor, count: int) -> Tensor:
    """The ``count`` rows of ``x`` ``[..., N, F]`` of highest ``score`` ``[..., N]``, each times its score."""
    best, index = score.topk(count, dim=-1)
    return x.gather(-2, index[..., None].expand(*index.shape, x.shape[-1])) * best[..., None]
