"""Temporal neighbor sampling: which past events does a root see?

Only events strictly before the root's time are past; an event at the very same time is not. See ``docs/sampling.md``.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph import sampling_numba, sampling_reference
from tgscale.graph.hashing import draw_below_tensor, key_tensor, mix, seed_key_tensor, signed
from tgscale.graph.search import check_nodes, check_query, check_tensor, event_bound, index_tensors, resolve_backend

STRATEGIES = ("recent", "uniform")
BACKENDS = ("auto", "numpy", "tensor", "numba")


@dataclass
class Neighbors:
    """The sampled neighbors of one hop. Real entries come first in each row, latest first; padding ends it.

    Attributes:
        node: ``[R, k]`` int64, 0 where there is none.
        event: ``[R, k]`` int64 event ids, -1 where there is none.
        time: ``[R, k]`` int64 event times, 0 where there is none.
    """

    node: Tensor
    event: Tensor
    time: Tensor


def _choice(what: str, given: str, known: Sequence[str]) -> str:
    if given in known:
        return given
    close = difflib.get_close_matches(str(given), known, n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"unknown {what} {given!r}: choose one of {', '.join(known)}.{hint}")


def _hops(num_neighbors: int | Sequence[int]) -> tuple[int, ...]:
    hops = tuple(num_neighbors) if isinstance(num_neighbors, Sequence) else (num_neighbors,)
    if not hops or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in hops):
        raise ConfigError(f"num_neighbors is {num_neighbors!r}: give an integer of at least 1, or one for each hop.")
    return hops


class NeighborSampler:
    """Samples each root's past events, over one or more hops.

    ``recent`` takes the ``k`` latest events by event id. ``uniform`` takes ``k`` of the past events without
    replacement, every set equally likely, and all of them when there are no more than ``k``. The choice depends on
    (seed, node, time) alone: equal on every backend, in every batch and with any number of threads.

    Args:
        stream: the event stream.
        num_neighbors: ``k``, or one ``k`` for each hop.
        strategy: ``"recent"`` or ``"uniform"``.
        window: sample only events with time at least ``root time - window``, in the stream's time unit; None: all.
        seed: for ``uniform``; may be set anew at any time (``sampler.seed = epoch``).
        device: where roots come from and neighbors go.
        backend: ``"numpy"`` (the reference, slow), ``"tensor"`` (CPU and GPU), ``"numba"`` (CPU) or ``"auto"``.

    Raises:
        ConfigError: an argument is out of range or unknown.
    """

    def __init__(
        self,
        stream: EventStream,
        num_neighbors: int | Sequence[int] = 10,
        *,
        strategy: str = "recent",
        window: int | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        backend: str = "auto",
    ) -> None:
        if window is not None and window <= 0:
            raise ConfigError(f"window is {window}: give a positive number of time steps, or None for no window.")
        self.stream = stream
        self.num_neighbors = _hops(num_neighbors)
        self.strategy = _choice("strategy", strategy, STRATEGIES)
        self.window = window
        self.device = torch.empty(0, device=device).device
        self.backend = resolve_backend(_choice("backend", backend, BACKENDS), self.device)
        self._seed_tensor = seed_key_tensor(seed, self.device)
        self.seed = seed
        if self.backend == "tensor":
            self._index = index_tensors(stream, self.device)
        elif self.backend == "numba":
            self._cursor = np.array(stream.tcsr.indptr[:-1])

    @property
    def seed(self) -> int:
        """Seed of the uniform strategy."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = seed
        self._seed_key = np.uint64(mix(seed % 2**64))
        # In place, so that a captured CUDA graph sees the new seed, and by a launch, which waits for nothing.
        self._seed_tensor.fill_(signed(int(self._seed_key)))

    def bound(self, time: Tensor) -> Tensor:
        """Number of events strictly before each time, ``[R]`` int64: what ``before`` arguments take."""
        check_query(self.device, time.numel(), time=time)
        if self.backend == "tensor":
            return torch.searchsorted(self._index.time, time.long())
        return torch.from_numpy(event_bound(self.stream.time, time.long().contiguous().numpy()))

    def sample(self, node: Tensor, time: Tensor, *, before: Tensor | None = None) -> list[Neighbors]:
        """Sample the neighbors of roots.

        Args:
            node: ``[R]`` int64.
            time: ``[R]`` int64, any times in any order.
            before: ``[R]`` int64, the roots' event bounds when they are already known (see ``bound``).

        Returns:
            One ``Neighbors`` per hop. The roots of hop 2 are the neighbors of hop 1 at their event times, flattened,
            so hop ``h`` has shape ``[R * k1 * ... * k_(h-1), k_h]``; a padding root has no neighbors.

        Raises:
            ConfigError: columns of different shape, type or device; node ids out of range (checked on the CPU).
        """
        check_tensor("node", node)
        check_query(self.device, node.numel(), node=node, time=time, before=before)
        check_nodes(self.stream.num_nodes, node=node)
        node, time = node.long().contiguous(), time.long().contiguous()
        before = self.bound(time) if before is None else before.long().contiguous()
        hops: list[Neighbors] = []
        for hop, k in enumerate(self.num_neighbors):
            if hop > 0:
                node, time, event = (x.flatten() for x in (hops[-1].node, hops[-1].time, hops[-1].event))
                before = self.bound_at(time, event)
            hops.append(self._one_hop(node, time, before, k))
        return hops

    def bound_at(self, time: Tensor, event: Tensor) -> Tensor:
        """Number of events strictly before the time of each event.

        Args:
            time, event: ``[Q]`` int64; padding is time 0 and event -1.

        Returns:
            ``[Q]`` int64; 0 for padding.
        """
        if self.backend == "tensor":
            return torch.searchsorted(self._index.time, time)
        return torch.from_numpy(event_bound(self.stream.time, time.numpy(), event.numpy()))

    def _one_hop(self, node: Tensor, time: Tensor, before: Tensor, k: int) -> Neighbors:
        if self.backend == "tensor":
            return self._tensor_hop(node, time, before, k)
        if self.backend == "numpy":
            columns = sampling_reference.sample_one_hop(
                self.stream, node.numpy(), time.numpy(), k, self.strategy, self.window, self.seed
            )
            return Neighbors(*(torch.from_numpy(column) for column in columns))
        out = torch.empty(3, node.shape[0], k, dtype=torch.int64)
        node_out, event_out, time_out = out.numpy()
        sampling_numba.sample_one_hop(
            self.stream,
            self._cursor,
            node.numpy(),
            time.numpy(),
            before.numpy(),
            self.window,
            self.strategy == "uniform",
            self._seed_key,
            (node_out, event_out, time_out),
        )
        return Neighbors(*out.unbind())

    def _tensor_hop(self, node: Tensor, time: Tensor, before: Tensor, k: int) -> Neighbors:
        index = self._index
        end = index.place(node, before)
        if self.window is None:
            first = index.indptr[node]
        else:
            first = index.place(node, torch.searchsorted(index.time, time - self.window))
        n = (end - first)[:, None]
        slot = torch.arange(k, device=self.device)
        place = end[:, None] - 1 - slot
        if self.strategy == "uniform":
            scattered = first[:, None] + _floyd(key_tensor(self._seed_tensor, node, time), n[:, 0], k)
            place = torch.where(n > k, scattered, place)
        real = slot < n
        place = torch.where(real, place, 0)
        event = torch.where(real, index.key[place] - node[:, None] * len(index.time), -1)
        return Neighbors(
            node=torch.where(real, index.neighbor[place].long(), 0),
            event=event,
            time=torch.where(real, index.time[event], 0),
        )


def _floyd(key: Tensor, n: Tensor, k: int) -> Tensor:
    """``[R, k]`` distinct numbers below ``n`` (``[R]``), largest first; rows with ``n <= k`` hold nothing of use."""
    chosen: list[Tensor] = []
    for slot in range(k):
        last = (n - k + slot).clamp(min=slot)
        pick = draw_below_tensor(last + 1, key, slot)
        taken = torch.zeros_like(pick, dtype=torch.bool)
        for earlier in chosen:
            taken |= earlier == pick
        chosen.append(torch.where(taken, last, pick))
    return torch.stack(chosen, dim=1).sort(dim=1, descending=True).values
