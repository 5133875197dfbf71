"""What of a model matters for its time and its messages: how wide it is, and which aggregations need the state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A model in numbers, after the rewrites of its operator plan. F features, hidden width C; one edge type, order 2.

    Attributes:
        input_products: products of F x C per node and step.
        state_products: products of C x C per node and step.
        ahead_products: how many of these are ahead of the recurrence.
        handed: results of width C per node and step that are handed to the recurrence.
        inputs: aggregations of the features, of width F.
        ahead: aggregations of width C ahead of the recurrence.
        in_loop: aggregations of width C per step that need the hidden state.
        evolving: the weights have the state, not the nodes: what is handed on are the aggregated features.
    """

    input_products: int
    state_products: int
    ahead_products: int = 0
    handed: int = 0
    inputs: int = 1
    ahead: int = 0
    in_loop: int = 0
    evolving: bool = False

    def aggregated(self, features: int, hidden: int, cache: bool) -> tuple[int, int]:
        """Columns that a step aggregates ahead of the recurrence, and inside it.

        Args:
            features: F.
            hidden: C.
            cache: the aggregated features are kept for the whole run, so none of them counts.
        """
        return (0 if cache else self.inputs * features) + self.ahead * hidden, self.in_loop * hidden

    def handed_on(self, features: int, hidden: int, cache: bool) -> tuple[int, int]:
        """Columns per node and step that the recurrence takes over, and columns of gradients that come back."""
        if self.evolving:
            return 0 if cache else features, 0
        return self.handed * hidden, self.handed * hidden


SHAPES = {
    "tgcn": Shape(3, 3, handed=3),
    "a3tgcn": Shape(3, 3, handed=3),
    "lrgcn": Shape(8, 8, handed=4, in_loop=1),
    "gclstm": Shape(4, 8, handed=4, inputs=0, in_loop=1),
    "gconv_gru": Shape(6, 6, handed=3, in_loop=2),
    "evolvegcn_o": Shape(1, 0, evolving=True),
    "evolvegcn_h": Shape(1, 0, evolving=True),
    "mpnn_lstm": Shape(1, 21, ahead_products=9, handed=4, ahead=1),
}
