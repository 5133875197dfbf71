"""What an evaluated event is compared with: the interface of all kinds of negatives, and the uniform ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tgscale.data.stream import EventStream
from tgscale.graph.search import as_tensor
from tgscale.stream.negatives import NegativeSampler


@dataclass
class Drawn:
    """Negatives of a batch of events.

    Attributes:
        node: destinations, ``[B, n]``, int64.
        source: sources of whole negative edges, ``[B, n]``; None where a negative has its event's source.
        there: False where a row has fewer negatives than others and its ``node`` means nothing, ``[B, n]``; None where
            all are full.
    """

    node: Tensor
    source: Tensor | None = None
    there: Tensor | None = None


class Negatives:
    """Draws the negatives of one part of a stream.

    Attributes:
        count: negatives per event, at most.
        by_batch: the draws of an event depend on the batch it is in, so batches must be those of the protocol.
    """

    count: int
    by_batch = False

    def draw(self, event: Tensor) -> Drawn:
        """Negatives of the consecutive events ``[B]``; a function of the events and the seed alone."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What is written of them into the result."""
        raise NotImplementedError


class RandomNegatives(Negatives):
    """Uniform draws with replacement.

    Args:
        stream: the events.
        sampler: population and draws.
        count: negatives per event.
        seed: of the draws.
        exclude_own: never an event's own destination.
    """

    def __init__(self, stream: EventStream, sampler: NegativeSampler, count: int, seed: int, exclude_own: bool) -> None:
        self.count, self._sampler, self._seed, self._exclude_own = count, sampler, seed, exclude_own
        self._destination = as_tensor(stream.dst, torch.device("cpu"))

    def draw(self, event: Tensor) -> Drawn:
        own = self._destination[event.cpu()].long().to(event.device)
        return Drawn(self._sampler.draw(event, own, self.count, self._seed, self._exclude_own))

    def describe(self) -> dict[str, Any]:
        return {
            "draw": "random",
            "population": self._sampler.population,
            "population_size": len(self._sampler.nodes),
            "exclude_own": self._exclude_own,
        }
