"""Class scores of an event or a node from the embeddings of its ends, what was there before, and the pair's past."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ClassHead(nn.Module):
    """``Linear(ReLU(sum_e Linear_e(h_e) [+ Linear(past)] [+ MLP(pair)])) [+ Linear(past) + sum_g w_g * evidence_g]``.

    Past labels also reach the output directly, and evidence does so class by class: it is unbounded and as wide as
    there are classes, so that a dense layer on it would move its scores by far too much in a step.

    Args:
        dim: width of embeddings and of the hidden layer.
        outputs: scores per row.
        ends: embeddings per row: 2 for an event, 1 for a node.
        past_dim: width of what is known of past labels; 0 for nothing.
        groups: groups of past labels that give evidence.
        pair_dim: width of the pair features (:mod:`tgscale.nn.pair_encoding`); 0 leaves them out.
        dropout: on the hidden layer.
    """

    def __init__(
        self,
        dim: int,
        outputs: int,
        ends: int = 2,
        past_dim: int = 0,
        groups: int = 0,
        pair_dim: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.ends = nn.ModuleList(nn.Linear(dim, dim) for _ in range(ends))
        self.past = nn.Linear(past_dim, dim, bias=False) if past_dim else None
        self.direct = nn.Linear(past_dim, outputs, bias=False) if past_dim else None
        self.belief = nn.Parameter(torch.full((groups, outputs), 1 / groups)) if groups else None
        self.pair = nn.Sequential(nn.Linear(pair_dim, dim), nn.ReLU(), nn.Linear(dim, dim)) if pair_dim else None
        self.dropout = dropout
        self.out = nn.Linear(dim, outputs)

    @torch.no_grad()
    def begin(self, bias: Tensor, belief: float) -> None:
        """Start from a rule in place of small random numbers: ``bias`` ``[outputs]`` is what it says without evidence,
        ``belief`` what each group's evidence counts."""
        self.out.weight.mul_(0.1)
        self.out.bias.copy_(bias)
        if self.direct is not None:
            self.direct.weight.zero_()
        if self.belief is not None:
            self.belief.fill_(belief)

    def forward(
        self, ends: list[Tensor], past: Tensor | None = None, evidence: Tensor | None = None, pair: Tensor | None = None
    ) -> Tensor:
        """Logits.

        Args:
            ends: embeddings, ``[B, dim]`` each.
            past: ``[B, past_dim]``, bounded.
            evidence: for each output, ``[B, groups, outputs]``.
            pair: ``[B, pair_dim]``.

        Returns:
            ``[B, outputs]``.
        """
        hidden = sum(linear(h) for linear, h in zip(self.ends, ends, strict=True))
        if self.past is not None and past is not None:
            hidden = hidden + self.past(past)
        if self.pair is not None and pair is not None:
            hidden = hidden + self.pair(pair)
        logits = self.out(F.dropout(F.relu(hidden), self.dropout, self.training))
        if self.direct is not None and past is not None:
            logits = logits + self.direct(past)
        if self.belief is not None and evidence is not None:
            logits = logits + (evidence * self.belief).sum(1)
        return logits
