"""Negative destinations, drawn by a counter: the same for an event whatever the batch size, the order or the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph.draws import draw_nodes

POPULATIONS = ("destinations", "all", "range")


class NegativeSampler:
    """Uniform draws, with replacement, from a population of nodes.

    Args:
        stream: where events and destinations come from.
        population: ``"destinations"`` (every node that is a destination anywhere in the stream), ``"all"`` nodes, or
            ``"range"``: every node from the lowest to the highest destination.
        device: where draws are made.
        events: whose destinations make the range; all events unless given.

    Raises:
        ConfigError: unknown population, or one of fewer than two nodes.
    """

    def __init__(
        self,
        stream: EventStream,
        population: str = "destinations",
        device: torch.device | str = "cpu",
        events: slice = slice(None),
    ):
        if population not in POPULATIONS:
            raise ConfigError(f"negative population {population!r} is unknown: choose one of {', '.join(POPULATIONS)}.")
        if population == "destinations":
            nodes = stream.destinations
        elif population == "all":
            nodes = np.arange(stream.num_nodes)
        else:
            nodes = np.arange(int(stream.dst[events].min()), int(stream.dst[events].max()) + 1)
        if len(nodes) < 2:
            raise ConfigError(
                f"the population {population!r} holds {len(nodes)} node, so an event has no other destination to be "
                "compared with: use --eval.population all, or data with more nodes."
            )
        self.population = population
        self.nodes = torch.as_tensor(nodes, dtype=torch.int64, device=device)

    def draw(
        self, event: Tensor, destination: Tensor, count: int, seed: int | Tensor, exclude_own: bool = True
    ) -> Tensor:
        """Negatives of some events.

        Args:
            event: event ids, ``[B]``, int64.
            destination: their true destinations, ``[B]``.
            count: negatives per event.
            seed: draws with another seed are independent; or its key on the device, see
                :func:`tgscale.graph.draws.draw_nodes`.
            exclude_own: never draw an event's own destination. (DistTGL's evaluation does not look: about one event in
                ``len(nodes) / count`` then meets its own destination among its negatives, a tie.)

        Returns:
            ``[B, count]``, int64.
        """
        return draw_nodes(self.nodes, event, count, seed, destination if exclude_own else None)
