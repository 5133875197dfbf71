"""Traps of evaluation that show on rules alone, without a model: order at equal times, float32 times, padded negatives,
labels between batches. Used by protocol_traps.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream
from tgscale.graph.history import History
from tgscale.stream.config import EvalConfig
from tgscale.stream.protocol.make import make_negatives
from tgscale.stream.protocol.negatives import Negatives
from tgscale.train.metrics import reciprocal_ranks

STEP = 4096
LABEL_BATCH = 1000
DAY = 86_400


def test_batches(stream: EventStream, negatives: Negatives) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Events, sources ``[B]``, candidates ``[B, C]`` (the true one first) and mask of the test part, in steps."""
    src, dst = (torch.from_numpy(np.array(column, np.int64)) for column in (stream.src, stream.dst))
    for event in torch.arange(*stream.split().range("test")).split(STEP):
        drawn = negatives.draw(event)
        yield event, src[event], torch.cat([dst[event][:, None], drawn.node], dim=1), drawn.there


def rule_mrr(stream: EventStream, bound: np.ndarray) -> dict[str, float]:
    """Test MRR of EdgeBank and of recency when event ``e`` sees the events ``[0, bound[e])``."""
    history, ranks = History(stream), {"edgebank": [], "recency": []}
    negatives = make_negatives(EvalConfig(), stream, stream.split(), "test", "cpu")
    before = torch.from_numpy(bound)
    for event, source, candidate, _ in test_batches(stream, negatives):
        query = [x[:, None].expand_as(candidate).reshape(-1) for x in (source, before[event])]
        count, met = history.pair(query[0], candidate.reshape(-1), None, before=query[1])
        seen = history.node(candidate.reshape(-1), None, before=query[1])[1]
        recency = torch.where(met >= 0, met + stream.num_events, seen)
        for name, score in (("edgebank", count > 0), ("recency", recency)):
            score = score.view_as(candidate).double()
            ranks[name].append(reciprocal_ranks(score[:, 0], score[:, 1:]))
    return {name: float(torch.cat(each).mean()) for name, each in ranks.items()}


def equal_times(stream: EventStream) -> dict[str, dict[str, float]]:
    """Test MRR of the rules by what an event sees of the events at its own time."""
    time = np.asarray(stream.time)
    return {
        "earlier times (`<`)": rule_mrr(stream, np.searchsorted(time, time)),
        "earlier rows of the file": rule_mrr(stream, np.arange(len(time))),
        "its own time too (`<=`)": rule_mrr(stream, np.searchsorted(time, time, side="right")),
    }


def float32_times(stream: EventStream) -> dict[str, float]:
    """What becomes of a stream whose times are kept as float32, and of a time that is subtracted only then."""
    time = np.asarray(stream.time)
    short = time.astype(np.float32)
    last, gap = {}, np.full(len(time), -1)
    for event, source in enumerate(np.asarray(stream.src).tolist()):
        gap[event] = last.get(source, -1)
        last[source] = event
    again = np.flatnonzero(gap >= 0)
    exact = time[again] - time[gap[again]]
    rounded = (short[again] - short[gap[again]]).astype(np.float64)
    wrong = np.abs(rounded - exact) > 0.1 * np.maximum(exact, 1)
    strict = rule_mrr(stream, np.searchsorted(time, time))
    merged = rule_mrr(stream, np.searchsorted(short, short))
    return {
        "distinct": len(np.unique(time)),
        "distinct32": len(np.unique(short)),
        "wrong": float(wrong.mean()),
        **strict,
        **{f"{name}32": value for name, value in merged.items()},
    }


def padded(stream: EventStream, count: int) -> dict[str, float]:
    """Recency's test MRR on TGB's kind of ragged lists: masked; padded with node 0; cut to the shortest list."""
    config = EvalConfig(protocol="tgb", negatives_per_event=count)
    negatives, history = make_negatives(config, stream, stream.split(), "test", "cpu"), History(stream)
    masked, padded_, cut, lengths, rows = [], [], [], [], []
    for event, source, candidate, there in test_batches(stream, negatives):
        there = torch.ones_like(candidate[:, 1:], dtype=torch.bool) if there is None else there
        candidate[:, 1:].masked_fill_(~there, 0)
        time = torch.from_numpy(np.array(stream.time[event.numpy()]))
        query = [x[:, None].expand_as(candidate).reshape(-1) for x in (source, time)]
        met = history.pair(query[0], candidate.reshape(-1), query[1])[1]
        seen = history.node(candidate.reshape(-1), query[1])[1]
        score = torch.where(met >= 0, met + stream.num_events, seen).view_as(candidate).double()
        lengths.append(there.sum(1))
        padded_.append(reciprocal_ranks(score[:, 0], score[:, 1:]))
        masked.append(reciprocal_ranks(score[:, 0], score[:, 1:].masked_fill(~there, -torch.inf)))
        rows.append(score)
    length = torch.cat(lengths)
    shortest = max(int(length.min()), 1)
    cut = [reciprocal_ranks(score[:, 0], score[:, 1 : 1 + shortest]) for score in rows]
    return {
        "shortest": int(length.min()),
        "longest": int(length.max()),
        "ragged": float((length < length.max()).double().mean()),
        **{name: float(torch.cat(x).mean()) for name, x in (("masked", masked), ("padded", padded_), ("cut", cut))},
    }


def labels_between_batches(stream: EventStream) -> dict[str, float]:
    """NDCG@10 of "whom will this node write to today", by which events are known when the label is asked.

    A label stands at the start of each day of the test part, for each node that writes on that day; the answer is
    where its events of the day go. The forecast is the destinations of its 20 latest known events, by number.
    """
    src, dst, time = (np.asarray(column) for column in (stream.src, stream.dst, stream.time))
    first = stream.split().val
    by_source = {}
    for event, source in enumerate(src.tolist()):
        by_source.setdefault(source, []).append(event)
    gains: dict[str, list[float]] = {name: [] for name in ("exact", "stale", "ahead", "never")}
    for day in range(int(time[first]) // DAY + 1, int(time[-1]) // DAY + 1):
        start, stop = np.searchsorted(time, [day * DAY, (day + 1) * DAY])
        known = {
            "exact": start,  # every event before the label's time
            "stale": start // LABEL_BATCH * LABEL_BATCH,  # those of whole batches before it
            "ahead": -(-start // LABEL_BATCH) * LABEL_BATCH,  # those of the batch that the label falls into
            "never": first,  # the test part's events are never read, as its batches hold labels alone
        }
        for source in np.unique(src[start:stop]).tolist():
            own = np.array(by_source[source])
            truth = np.unique(dst[own[(own >= start) & (own < stop)]], return_counts=True)
            for name, bound in known.items():
                gains[name].append(_ndcg(dst[own[own < bound][-20:]], truth))
    return {name: float(np.mean(each)) for name, each in gains.items()} | {"labels": len(gains["exact"])}


def _ndcg(forecast: np.ndarray, truth: tuple[np.ndarray, np.ndarray]) -> float:
    node, count = np.unique(forecast, return_counts=True)
    ranked = node[np.argsort(-count, kind="stable")][:10]
    gain = dict(zip(truth[0].tolist(), truth[1].tolist(), strict=True))
    discount = 1 / np.log2(np.arange(2, 12))
    best = np.sort(truth[1])[::-1][:10]
    found = np.array([gain.get(each, 0) for each in ranked.tolist()])
    return float((found * discount[: len(found)]).sum() / (best * discount[: len(best)]).sum())
