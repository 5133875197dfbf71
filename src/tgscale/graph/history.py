"""How often and how lately: exact counts of a node's or a pair's events strictly before a query's time."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph.firsts import FirstEvents, first_events
from tgscale.graph.parallel import parallel_lock, thread_count
from tgscale.graph.search import (
    check_nodes,
    check_query,
    event_bound,
    index_tensors,
    lower_bound,
    lower_bound_near,
    owners,
    resolve_backend,
)


@numba.njit(nogil=True, cache=True)
def _node_range(indptr, event_id, cursor, node, before, count, last, start, stop):
    for i in range(start, stop):
        first = indptr[node[i]]
        # Queries mostly move forward in time, so a node's search starts where its last one ended.
        end = lower_bound_near(event_id, before[i], first, indptr[node[i] + 1], cursor[node[i]])
        cursor[node[i]] = end
        count[i] = end - first
        last[i] = event_id[end - 1] if end > first else -1


@numba.njit(nogil=True, cache=True, parallel=True)
def _node_parallel(indptr, event_id, cursor, node, before, count, last, parts):
    for p in numba.prange(parts):
        _node_range(
            indptr, event_id, cursor, node, before, count, last, len(node) * p // parts, len(node) * (p + 1) // parts
        )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def _pair_range(indptr, partner, event_id, a, b, before, count, last, start, stop):
    for i in range(start, stop):
        u, v = min(a[i], b[i]), max(a[i], b[i])
        first = lower_bound(partner, v, indptr[u], indptr[u + 1])
        # The run of this partner ends where the next one begins; within it events are in order.
        run_end = lower_bound_near(partner, v + 1, first, indptr[u + 1], first)
        end = lower_bound(event_id, before[i], first, run_end)
        count[i] = end - first
        last[i] = event_id[end - 1] if end > first else -1


@numba.njit(nogil=True, cache=True, parallel=True)
def _pair_parallel(indptr, partner, event_id, a, b, before, count, last, parts):
    for p in numba.prange(parts):
        _pair_range(
            indptr, partner, event_id, a, b, before, count, last, len(a) * p // parts, len(a) * (p + 1) // parts
        )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def _age_range(indptr, event_id, node, event, before, age, start, stop):
    for i in range(start, stop):
        if event[i] < 0:
            age[i] = -1
            continue
        end = indptr[node[i] + 1]
        after = lower_bound(event_id, event[i] + 1, indptr[node[i]], end)
        age[i] = lower_bound_near(event_id, before[i], after, end, after) - after


@numba.njit(nogil=True, cache=True, parallel=True)
def _age_parallel(indptr, event_id, node, event, before, age, parts):
    for p in numba.prange(parts):
        _age_range(indptr, event_id, node, event, before, age, len(node) * p // parts, len(node) * (p + 1) // parts)


@numba.njit(nogil=True, cache=True)
def _recent(indptr, neighbor, event_id, node, before, count, partner, event):
    k = event.shape[1]
    for i in range(len(node)):
        first = indptr[node[i]]
        end = lower_bound(event_id, before[i], first, indptr[node[i] + 1])
        count[i] = end - first
        for j in range(k):
            at = end - 1 - j
            partner[i, j] = neighbor[at] if at >= first else -1
            event[i, j] = event_id[at] if at >= first else -1


@numba.njit(nogil=True, cache=True)
def _meetings(indptr, partner, event_id, a, b, before, event):
    for i in range(len(a)):
        u, v = min(a[i], b[i]), max(a[i], b[i])
        first = lower_bound(partner, v, indptr[u], indptr[u + 1])
        run_end = lower_bound_near(partner, v + 1, first, indptr[u + 1], first)
        end = lower_bound(event_id, before[i], first, run_end)
        for j in range(event.shape[1]):
            event[i, j] = event_id[end - 1 - j] if end - 1 - j >= first else -1


@numba.njit(nogil=True, cache=True)
def _lasts(indptr, event_id, node, before, steps, count, event):
    for i in range(len(node)):
        first = indptr[node[i]]
        end = lower_bound(event_id, before[i], first, indptr[node[i] + 1])
        count[i] = end - first
        for j in range(len(steps)):
            event[i, j] = event_id[end - steps[j]] if end - steps[j] >= first else -1


@numba.njit(nogil=True, cache=True)
def _following(indptr, neighbor, event_id, node, event, before, partner):
    for i in range(len(node)):
        end = indptr[node[i] + 1]
        at = lower_bound(event_id, event[i] + 1, indptr[node[i]], end)
        partner[i] = neighbor[at] if at < end and event_id[at] < before[i] else -1


class _PairTensors:
    """The pair index on a device: distinct pairs as one sorted key, then (pair number, event) as another."""

    def __init__(self, stream: EventStream, device: torch.device) -> None:
        nodes, events = stream.num_nodes, stream.num_events
        if (max(nodes, events) + 1) * max(nodes, events) >= 2**63:
            raise ConfigError(f"{nodes} nodes and {events} events do not fit a 64-bit key: use backend 'numba'.")
        index = stream.pairs
        self.num_nodes, self.num_events = nodes, events
        self.key = torch.empty(events, dtype=torch.int64, device=device)
        pairs, starts, found = [], [], 0
        for rows, owner in owners(index.indptr):  # all events of a pair are in one piece
            pair = owner * nodes + index.partner[rows]
            start = np.flatnonzero(np.diff(pair, prepend=-1))
            number = found + np.repeat(np.arange(len(start)), np.diff(start, append=len(pair)))
            self.key[rows] = torch.from_numpy(number * events + index.event_id[rows]).to(device)
            pairs.append(pair[start])
            starts.append(start + rows.start)
            found += len(start)
        self.pair = torch.from_numpy(np.concatenate(pairs)).to(device)
        self.start = torch.from_numpy(np.concatenate(starts)).to(device)

    def past(self, a: Tensor, b: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Count and last event of each pair before its bound."""
        number, end, count = self._run(a, b, before)
        last = self.key[(end - 1).clamp(min=0)] - number * self.num_events
        return count, torch.where(count > 0, last, -1)

    def latest(self, a: Tensor, b: Tensor, before: Tensor, k: int) -> Tensor:
        """The latest ``k`` events of each pair before its bound, ``[Q, k]``, -1 where there is none."""
        number, end, count = self._run(a, b, before)
        back = torch.arange(k, device=end.device)
        event = self.key[(end[:, None] - 1 - back).clamp(min=0)] - number[:, None] * self.num_events
        return torch.where(back < count[:, None], event, -1)

    def _run(self, a: Tensor, b: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Number of each pair, where its events before the bound end in ``key``, and how many they are."""
        wanted = torch.minimum(a, b) * self.num_nodes + torch.maximum(a, b)
        number = torch.searchsorted(self.pair, wanted).clamp(max=len(self.pair) - 1)
        met = self.pair[number] == wanted
        end = torch.searchsorted(self.key, number * self.num_events + before)
        return number, end, torch.where(met, end - self.start[number], 0)


class _FirstTensors:
    """First events of nodes on a device, as one sorted key."""

    def __init__(self, firsts: FirstEvents, num_events: int, device: torch.device) -> None:
        self.num_events = num_events
        self.indptr = torch.from_numpy(firsts.indptr).to(device)
        # One more, so that a stream that has none can be looked up, too.
        key = np.full(len(firsts.event_id) + 1, np.iinfo(np.int64).max)
        for rows, owner in owners(firsts.indptr):
            key[rows] = owner * num_events + firsts.event_id[rows]
        self.key = torch.from_numpy(key).to(device)

    def lasts(self, node: Tensor, before: Tensor, steps: Sequence[int]) -> tuple[Tensor, Tensor]:
        """How many each node has before its bound, ``[Q]``, and the ``steps``-th last of them, ``[Q, S]``."""
        end = torch.searchsorted(self.key, node * self.num_events + before)
        count = end - self.indptr[node]
        # Step by step: a tensor made from a list would wait for the host.
        events = [
            torch.where(count >= step, self.key[(end - step).clamp(min=0)] - node * self.num_events, -1)
            for step in steps
        ]
        return count, torch.stack(events, dim=-1)


class History:
    """Exact counts and last events strictly before a query's time, from the T-CSR and the pair index.

    No state and no order: any query time, any number of times. All columns are 1-D, int64 and of one length ``Q``.
    Each method takes either the query times or, where already known, their event bounds ``before`` (see ``bound``);
    with ``before`` given, ``time`` is not looked at and may be None.

    Args:
        stream: the event stream.
        device: where queries come from and answers go.
        backend: ``"numba"`` (CPU), ``"tensor"`` (CPU and GPU) or ``"auto"``.

    Raises:
        ConfigError: unknown backend, or one that does not run on the device; from the methods: neither ``time`` nor
            ``before`` given, columns of different shape, type or device, node ids out of range (checked on the CPU).
    """

    def __init__(self, stream: EventStream, device: str | torch.device = "cpu", backend: str = "auto") -> None:
        if backend not in ("auto", "numba", "tensor"):
            raise ConfigError(f"unknown backend {backend!r}: choose one of auto, numba, tensor.")
        self.stream = stream
        self.device = torch.empty(0, device=device).device
        self.backend = resolve_backend(backend, self.device)
        if self.backend == "tensor":
            self._index = index_tensors(stream, self.device)
            self._pairs = _PairTensors(stream, self.device)
            self._firsts: list[_FirstTensors] = []  # made when first asked for
        else:
            self._cursor = np.array(stream.tcsr.indptr[:-1])

    def bound(self, time: Tensor) -> Tensor:
        """Number of events strictly before each time, ``[Q]`` int64."""
        check_query(self.device, len(time), time=time)
        if self.backend == "tensor":
            return torch.searchsorted(self._index.time, time.long())
        return torch.from_numpy(event_bound(self.stream.time, time.long().contiguous().numpy()))

    def node(self, node: Tensor, time: Tensor | None, *, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """How many events each node has had, and its last one.

        Returns:
            count ``[Q]`` int64 and last event id ``[Q]`` int64, -1 where there is none.
        """
        before = self._before(time, before, node=node)
        node = node.long()
        if self.backend == "tensor":
            end, first = self._index.place(node, before), self._index.indptr[node]
            last = self._index.key[(end - 1).clamp(min=0)] - node * len(self._index.time)
            return end - first, torch.where(end > first, last, -1)
        tcsr = self.stream.tcsr
        count, last = torch.empty_like(before), torch.empty_like(before)
        columns = [x.contiguous().numpy() for x in (node, before, count, last)]
        _spread(_node_range, _node_parallel, len(node), tcsr.indptr, tcsr.event_id, self._cursor, *columns)
        return count, last

    def pair(self, a: Tensor, b: Tensor, time: Tensor | None, *, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """How often each pair has met, in either direction, and its last event; a pair (u, u) counts self-loops.

        Returns:
            count ``[Q]`` int64 and last event id ``[Q]`` int64, -1 where there is none.
        """
        before = self._before(time, before, a=a, b=b)
        if self.backend == "tensor":
            return self._pairs.past(a.long(), b.long(), before)
        pairs = self.stream.pairs
        count, last = torch.empty_like(before), torch.empty_like(before)
        columns = [x.contiguous().numpy() for x in (a.long(), b.long(), before, count, last)]
        _spread(_pair_range, _pair_parallel, len(a), pairs.indptr, pairs.partner, pairs.event_id, *columns)
        return count, last

    def age(self, node: Tensor, event: Tensor, time: Tensor | None, *, before: Tensor | None = None) -> Tensor:
        """How many of the node's events lie after ``event`` and strictly before the query's time.

        Args:
            node: ``[Q]``.
            event: ``[Q]`` event ids, or -1 for none.
            time, before: the query times, or their event bounds.

        Returns:
            ``[Q]`` int64: 0 where ``event`` is the node's last event before the time, -1 where ``event`` is -1.
        """
        check_query(self.device, len(node), event=event)
        before = self._before(time, before, node=node)
        node, event = node.long(), event.long()
        if self.backend == "tensor":
            between = self._index.place(node, before) - self._index.place(node, event + 1)
            return torch.where(event < 0, -1, between.clamp(min=0))
        tcsr = self.stream.tcsr
        age = torch.empty_like(before)
        columns = [x.contiguous().numpy() for x in (node, event, before, age)]
        _spread(_age_range, _age_parallel, len(node), tcsr.indptr, tcsr.event_id, *columns)
        return age

    def recent(self, node: Tensor, k: int, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each node's latest events before a bound, latest first.

        Args:
            node: ``[Q]``; before: their event bounds, ``[Q]``.
            k: how many at most.

        Returns:
            count ``[Q]`` of all before the bound; the node at the other end ``[Q, k]`` and the event id ``[Q, k]`` of
            the latest, -1 where there is none; int64.
        """
        before = self._before(None, before, node=node)
        node = node.long().contiguous()
        if self.backend == "tensor":
            index, back = self._index, torch.arange(k, device=self.device)
            end, first = index.place(node, before), index.indptr[node]
            place, real = (end[:, None] - 1 - back).clamp(min=0), back < (end - first)[:, None]
            event = torch.where(real, index.key[place] - node[:, None] * len(index.time), -1)
            return end - first, torch.where(real, index.neighbor[place].long(), -1), event
        tcsr = self.stream.tcsr
        count, partner, event = torch.empty_like(before), before.new_empty(len(node), k), before.new_empty(len(node), k)
        columns = [x.numpy() for x in (node, before, count, partner, event)]
        _recent(tcsr.indptr, tcsr.neighbor, tcsr.event_id, *columns)
        return count, partner, event

    def meetings(self, a: Tensor, b: Tensor, k: int, before: Tensor) -> Tensor:
        """Latest ``k`` events of each pair before a bound, ``[Q, k]`` int64, latest first, -1 where there is none."""
        before = self._before(None, before, a=a, b=b)
        if self.backend == "tensor":
            return self._pairs.latest(a.long(), b.long(), before, k)
        pairs, event = self.stream.pairs, before.new_empty(len(a), k)
        columns = [x.contiguous().numpy() for x in (a.long(), b.long(), before, event)]
        _meetings(pairs.indptr, pairs.partner, pairs.event_id, *columns)
        return event

    def following(self, node: Tensor, event: Tensor, before: Tensor) -> Tensor:
        """Whom each node met next.

        Args:
            node: ``[Q]``; event: event ids, ``[Q]``; before: event bounds, ``[Q]``.

        Returns:
            The node at the other end of the node's first event after ``event``, ``[Q]`` int64; -1 where it has none, or
            none before the bound.
        """
        check_query(self.device, len(node), event=event)
        before = self._before(None, before, node=node)
        node, event = node.long(), event.long()
        if self.backend == "tensor":
            place = self._index.place(node, event + 1)
            real = place < self._index.place(node, before)
            partner = self._index.neighbor[place.clamp(max=len(self._index.neighbor) - 1)].long()
            return torch.where(real, partner, -1)
        tcsr, partner = self.stream.tcsr, torch.empty_like(before)
        columns = [x.contiguous().numpy() for x in (node, event, before, partner)]
        _following(tcsr.indptr, tcsr.neighbor, tcsr.event_id, *columns)
        return partner

    def firsts(self, which: int, node: Tensor, steps: Sequence[int], before: Tensor) -> tuple[Tensor, Tensor]:
        """First times of a node before a bound (:mod:`tgscale.graph.firsts`).

        Args:
            which: 0 for the node's first meetings with a partner, 1 for its meetings with newcomers.
            node: ``[Q]``; before: their event bounds, ``[Q]``.
            steps: 1 asks for the last of them, 2 for the one before it, and so on.

        Returns:
            count ``[Q]`` of all before the bound, and the event ids asked for, ``[Q, len(steps)]``, -1 where there are
            not so many; int64.
        """
        before = self._before(None, before, node=node)
        node = node.long().contiguous()
        if self.backend == "tensor":
            if not self._firsts:
                made = first_events(self.stream)
                self._firsts = [_FirstTensors(part, self.stream.num_events, self.device) for part in made]
            return self._firsts[which].lasts(node, before, steps)
        firsts = first_events(self.stream)[which]
        count, event = torch.empty_like(before), before.new_empty(len(node), len(steps))
        _lasts(
            firsts.indptr,
            firsts.event_id,
            node.numpy(),
            before.numpy(),
            np.asarray(steps),
            count.numpy(),
            event.numpy(),
        )
        return count, event

    def _before(self, time: Tensor | None, before: Tensor | None, **nodes: Tensor) -> Tensor:
        length = len(next(iter(nodes.values())))
        check_query(self.device, length, **nodes, time=time, before=before)
        check_nodes(self.stream.num_nodes, **nodes)
        if before is not None:
            return before.long().contiguous()
        if time is None:
            raise ConfigError("neither time nor before is given: give the query times, or their event bounds.")
        return self.bound(time)


def _spread(serial, parallel, size: int, *arguments: np.ndarray) -> None:
    parts = thread_count(size)
    if parts == 1:
        serial(*arguments, 0, size)
    else:
        with parallel_lock:
            parallel(*arguments, parts)
