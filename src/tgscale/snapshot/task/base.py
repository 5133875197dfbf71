"""What a task is to the engine."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

Metrics = dict[str, float | None]


class Task(Protocol):
    """What is learned from the embeddings of snapshots.

    An embedding of step ``t`` is for what is known of step ``t + lead``, the labelled step.

    Attributes:
        name: for reports.
        lead: steps from an embedding to what it predicts.
        num_steps: the step after the last labelled one.
        metric: by which validations are compared.
        better: ``"higher"`` or ``"lower"``.
        all_nodes: whether the loss needs the embeddings of all nodes, not of a process's own alone. Where it does
            not, the head works on each embedding by itself, and draws nothing.
    """

    name: str
    lead: int
    num_steps: int
    metric: str
    better: str
    all_nodes: bool

    def head(self, dim: int) -> nn.Module:
        """A decoder for embeddings of width ``dim``."""

    def items(self, step: int) -> int:
        """How many labels of a step count in the training loss."""

    def loss(self, head: nn.Module, h: Any, steps: range, seed: int, nodes: slice, part: tuple[int, int]) -> Tensor:
        """Sum of the losses of some labelled steps.

        Args:
            head: the decoder.
            h: embeddings of each step: for tasks on edges a sequence of
                :class:`~tgscale.snapshot.placement.Embeddings`, each of which is asked once, even for no nodes; for
                tasks on nodes a tensor ``[S, n, C]`` of those in ``nodes``.
            steps: the labelled steps, S of them.
            seed: of what is drawn.
            nodes: the nodes whose labels are this process's.
            part: (number, of how many): which share of the drawn edges is this process's.
        """

    def score(self, head: nn.Module, h: Tensor, step: int) -> np.ndarray:
        """What :meth:`summarize` needs of a labelled step, ``[rows, columns]``, float64.

        Raises:
            DivergedError: a score or prediction is NaN.
        """

    def summarize(self, rows: np.ndarray) -> Metrics:
        """Metrics over the rows of all steps of a part, in the order of steps."""

    def baselines(self, steps: range, train: range) -> dict[str, Metrics]:
        """Metrics of rules without training on the same labels.

        Args:
            steps: labelled steps of the part.
            train: labelled steps that may be learned from.
        """

    def describe(self) -> dict[str, Any]:
        """The protocol: all that a metric depends on beside model and split."""
