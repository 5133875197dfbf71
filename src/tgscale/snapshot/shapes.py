"""What of a model matters for its time and its messages: how wide it is, and which aggregations need the state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A model in numbers. Chebyshev models are those of order 2.

    Attributes:
        gates: results of width C per node and step that are made ahead of the recurrence and handed to it.
        ahead: aggregations of width C ahead of the recurrence, after the one of the features.
        in_loop: aggregations of width C per step that need the hidden state.
        inputs: aggregations of the features, of width F.
        recurrent: nodes have a hidden state that passes from step to step. In EvolveGCN the weights have it.
    """

    gates: int
    ahead: int = 0
    in_loop: int = 0
    inputs: int = 1
    recurrent: bool = True

    def aggregated(self, features: int, hidden: int, cache: bool) -> tuple[int, int]:
        """Columns that a step aggregates ahead of the recurrence, and inside it.

        Args:
            features: F.
            hidden: C.
            cache: the aggregated features are kept for the whole run, so none of them counts.
        """
        return (0 if cache else self.inputs * features) + self.ahead * hidden, self.in_loop * hidden

    def parameters(self, features: int, hidden: int) -> int:
        """About how many weights: gates of features, of the state (or of a second layer), and biases."""
        return self.gates * hidden * (features + hidden + 1)


SHAPES = {
    "tgcn": Shape(3),
    "a3tgcn": Shape(3),
    "lrgcn": Shape(4, in_loop=1),
    "gclstm": Shape(4, in_loop=1, inputs=0),
    "gconv_gru": Shape(3, in_loop=2),
    "evolvegcn_o": Shape(1, recurrent=False),
    "evolvegcn_h": Shape(1, recurrent=False),
    "mpnn_lstm": Shape(8, ahead=1),
}
