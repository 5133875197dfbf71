"""A seeded event stream with real temporal structure, made on the spot: the first command needs no download.

The process, one event after another (everything below is in the docstring of :func:`generate_stream`):

1. One of a few running sessions goes on; the time moves by an exponential gap, shorter by day than by night.
2. The session's user may drift to another community, and may fall into or leave a troubled spell.
3. The user returns to a recent partner, or picks an item of the present community, or explores.
4. The event's features are the item's vector, shifted in a troubled spell, plus noise; its label is rare and
   only ever set in a troubled spell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numba
import numpy as np

from tgscale.data.generate_classes import generate_classes
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError

RECENT = 8  # partners that a user may return to
SESSION_LENGTH = 5.0  # mean events of a session
TREND_SHARE = 0.25  # of the picks within a community
TREND_LENGTH = 200.0  # mean picks within a community before its trend changes
EXPLORE_SHARE = 0.2  # of the events that are not a return
FORGET_SHARE = 0.5  # of the drifts that also leave the recent partners behind
TROUBLE_START, TROUBLE_END, TROUBLE_LABEL = 0.006, 0.1, 0.25  # per event of the user
NOISE = 0.7  # of a feature, against an item vector of variance about 1.25
DAY = 86_400.0


class EventChunk(NamedTuple):
    """Consecutive events: src, dst, time int64 ``[n]``; edge_features float32 ``[n, F]``; label int8 ``[n]``."""

    src: np.ndarray
    dst: np.ndarray
    time: np.ndarray
    edge_features: np.ndarray
    label: np.ndarray


class _State(NamedTuple):
    """What the process carries from one event to the next; users and items are numbered from 0 each."""

    clock: np.ndarray  # [1] float64, seconds
    session_user: np.ndarray  # [S]
    user: np.ndarray  # [U] users by activity, most active first
    community: np.ndarray  # [U] the user's present community
    troubled: np.ndarray  # [U] bool
    recent: np.ndarray  # [U, RECENT] items, oldest overwritten
    visits: np.ndarray  # [U] how many items were ever put into `recent` since it was last forgotten
    item: np.ndarray  # [I] items by community, in each most popular first
    start: np.ndarray  # [C + 1] where each community's items begin
    trend: np.ndarray  # [C] the item of the day
    vector: np.ndarray  # [I, F] float32
    shift: np.ndarray  # [F] float32, added in a troubled spell


@numba.njit(cache=True)
def _some_user(rng, s):
    """A user by activity: the first hundredth makes a tenth of the sessions."""
    u = rng.random()
    return s.user[int(len(s.user) * u * u)]


@numba.njit(cache=True)
def _some_item(rng, s, c):
    """An item of community ``c`` by popularity: the first hundredth is picked a fifth of the time."""
    u = rng.random()
    return s.item[s.start[c] + int((s.start[c + 1] - s.start[c]) * u * u * u)]


@numba.njit(cache=True)
def _pick_item(rng, s, u, repeat):
    known = min(s.visits[u], RECENT)
    if known > 0 and rng.random() < repeat:
        back = 0
        while back < known - 1 and rng.random() < 0.5:
            back += 1
        return s.recent[u, (s.visits[u] - 1 - back) % RECENT]
    c = s.community[u]
    if rng.random() < EXPLORE_SHARE:
        c = rng.integers(0, len(s.trend))
    elif rng.random() < TREND_SHARE:
        return s.trend[c]
    if rng.random() * TREND_LENGTH < 1.0:
        s.trend[c] = s.item[rng.integers(s.start[c], s.start[c + 1])]
    return _some_item(rng, s, c)


@numba.njit(cache=True)
def _step_user(rng, s, u, drift):
    """Drift and trouble of the user, before the event."""
    if rng.random() < drift:
        s.community[u] = rng.integers(0, len(s.trend))
        if rng.random() < FORGET_SHARE:
            s.visits[u] = 0
    if s.troubled[u]:
        s.troubled[u] = rng.random() >= TROUBLE_END
    else:
        s.troubled[u] = rng.random() < TROUBLE_START


@numba.njit(cache=True)
def _remember(s, u, item):
    for place in range(min(s.visits[u], RECENT)):
        if s.recent[u, place] == item:
            return
    s.recent[u, s.visits[u] % RECENT] = item
    s.visits[u] += 1


@numba.njit(cache=True)
def _fill(rng, s, repeat, drift, mean_gap, bipartite, src, dst, time, features, label):
    users, items = len(s.user), len(s.item)
    for e in range(len(src)):
        pace = 1.0 + 0.8 * np.sin(2.0 * np.pi * s.clock[0] / DAY)
        s.clock[0] += -np.log(1.0 - rng.random()) * mean_gap / pace
        slot = rng.integers(0, len(s.session_user))
        if rng.random() * SESSION_LENGTH < 1.0:
            s.session_user[slot] = _some_user(rng, s)
        u = s.session_user[slot]
        _step_user(rng, s, u, drift)
        item = _pick_item(rng, s, u, repeat)
        if not bipartite and item == u:
            item = (item + 1) % items
        _remember(s, u, item)
        src[e], dst[e], time[e] = u, item + users if bipartite else item, int(s.clock[0])
        label[e] = s.troubled[u] and rng.random() < TROUBLE_LABEL
        for f in range(features.shape[1]):
            moved = s.shift[f] if s.troubled[u] else np.float32(0.0)
            features[e, f] = s.vector[item, f] + moved + NOISE * rng.standard_normal()


def _start_state(rng: np.random.Generator, users: int, items: int, communities: int, width: int) -> _State:
    item = rng.permutation(items)
    start = np.arange(communities + 1) * items // communities
    home = np.empty(items, np.int64)
    home[item] = np.repeat(np.arange(communities), np.diff(start))
    center = rng.standard_normal((communities, width))
    user = rng.permutation(users)
    return _State(
        clock=np.zeros(1),
        session_user=rng.choice(user, max(1, users // 50)),
        user=user,
        community=rng.integers(0, communities, users),
        troubled=np.zeros(users, np.bool_),
        recent=np.zeros((users, RECENT), np.int64),
        visits=np.zeros(users, np.int64),
        item=item,
        start=start,
        trend=item[start[:-1]],
        vector=(center[home] + 0.5 * rng.standard_normal((items, width))).astype(np.float32),
        shift=rng.standard_normal(width).astype(np.float32),
    )


def _check(
    events: int, nodes: int, edge_features: int, seed: int, communities: int, repeat: float, drift: float, gap: float
) -> None:
    limits = (
        ("events", events, events >= 1, "at least 1"),
        ("nodes", nodes, nodes >= 10, "at least 10"),
        ("edge_features", edge_features, edge_features >= 0, "0 or more"),
        ("seed", seed, seed >= 0, "0 or more"),
        ("communities", communities, 1 <= communities <= nodes // 5, f"1 to a fifth of the nodes ({nodes // 5})"),
        ("repeat", repeat, 0 <= repeat <= 1, "a share from 0 to 1"),
        ("drift", drift, 0 <= drift <= 1, "a share from 0 to 1"),
        ("mean_gap", gap, gap > 0, "a positive number of seconds"),
    )
    for name, given, good, wanted in limits:
        if not good:
            raise ConfigError(f"{name} is {given}: give {wanted}.")


def generate_chunks(
    events: int = 100_000,
    nodes: int = 5_000,
    edge_features: int = 16,
    seed: int = 0,
    *,
    communities: int | None = None,
    repeat: float = 0.6,
    drift: float = 0.02,
    mean_gap: float = 26.0,
    bipartite: bool = True,
    chunk: int = 1_000_000,
) -> Iterator[EventChunk]:
    """The events of :func:`generate_stream` in pieces of ``chunk`` events, for streams larger than memory.

    The events do not depend on ``chunk``. Memory is that of one chunk plus the nodes' state.

    Raises:
        ConfigError: an argument is out of range.
    """
    communities = max(1, min(20, nodes // 5)) if communities is None else communities
    _check(events, nodes, edge_features, seed, communities, repeat, drift, mean_gap)
    if chunk < 1:
        raise ConfigError(f"chunk is {chunk}: give at least 1.")

    def chunks() -> Iterator[EventChunk]:
        rng = np.random.default_rng(seed)
        users, items = _sides(nodes, bipartite)
        state = _start_state(rng, users, items, communities, edge_features)
        for first in range(0, events, chunk):
            size = min(chunk, events - first)
            made = EventChunk(
                src=np.empty(size, np.int64),
                dst=np.empty(size, np.int64),
                time=np.empty(size, np.int64),
                edge_features=np.empty((size, edge_features), np.float32),
                label=np.empty(size, np.int8),
            )
            _fill(rng, state, repeat, drift, mean_gap, bipartite, *made)
            yield made

    return chunks()


def _sides(nodes: int, bipartite: bool) -> tuple[int, int]:
    """Users and items: four to one, or every node both."""
    return (nodes - nodes // 5, nodes // 5) if bipartite else (nodes, nodes)


def generate_stream(
    events: int = 100_000,
    nodes: int = 5_000,
    edge_features: int = 16,
    seed: int = 0,
    *,
    communities: int | None = None,
    repeat: float = 0.6,
    drift: float = 0.02,
    mean_gap: float = 26.0,
    bipartite: bool = True,
    edge_classes: int = 0,
) -> EventStream:
    """Make an event stream in memory; equal arguments give equal streams.

    What there is to learn, and from what:

    * **Recurrence**: with probability ``repeat`` a user returns to one of the 8 latest partners, the later the
      likelier. A model that remembers pairs finds these; EdgeBank gets no further.
    * **Preference**: other picks come from the user's present community of items, by skewed popularity, a quarter of
      them its trend (an item that is in demand for a while). They follow from the communities of the user's recent
      partners and from what others pick now. A fifth of them explore any community instead.
    * **Drift**: with probability ``drift`` per event the user moves to a random community, in half of the cases
      forgetting all partners: old history misleads.
    * **Bursts**: a few sessions run at once, each a user's run of events; more by day than by night.
    * **Skew**: a hundredth of the users make a tenth of the sessions; a hundredth of a community's items, a fifth of
      its picks.
    * **Edge features**: the item's vector (its community's plus its own), plus noise.
    * **Labels**: about one percent of the events have label 1. A user falls into troubled spells of about 10 events, in
      which features are shifted by one hidden vector and a quarter of the events are labelled.
    * **Classes**, if wanted: any number per event, see :func:`tgscale.data.generate_classes.generate_classes`.

    Args:
        events: number of events ``E``.
        nodes: number of nodes ``N``; four fifths are users, numbered first, the rest items.
        edge_features: width ``F`` of the edge features; 0: none.
        seed: of everything.
        communities: number of communities, at most a fifth of the nodes; 20, or that, unless given.
        repeat: share of returns to a recent partner.
        drift: chance per event that the user changes community.
        mean_gap: mean time between two events of the stream, in seconds; times are whole seconds, so some tie.
        bipartite: if False, every node is user and item at once, and no event is a self-loop.
        edge_classes: number of classes; 0: none. All else is the same with and without.

    Returns:
        A stream with ``time_unit`` ``"s"``, labels int8 and, unless ``edge_features`` is 0, float32 edge features.

    Raises:
        ConfigError: an argument is out of range.
    """
    (made,) = generate_chunks(
        events,
        nodes,
        edge_features,
        seed,
        communities=communities,
        repeat=repeat,
        drift=drift,
        mean_gap=mean_gap,
        bipartite=bipartite,
        chunk=max(events, 1),
    )
    id_type = np.int32 if nodes < 2**31 else np.int64
    return EventStream(
        src=made.src.astype(id_type),
        dst=made.dst.astype(id_type),
        time=made.time,
        num_nodes=nodes,
        edge_features=made.edge_features if edge_features else None,
        label=made.label,
        edge_classes=generate_classes(made.src, made.dst, nodes, edge_classes, seed) if edge_classes else None,
        num_sources=_sides(nodes, bipartite)[0] if bipartite else None,
        name="generated",
    )
