"""Groups of pair features the slow way: from lists of events, one query at a time."""

from itertools import pairwise
from math import cos, exp, log1p, pi, sin

from tgscale.nn.pairs.query import NEVER


class Past:
    """All events of a stream strictly before a time."""

    def __init__(self, stream, time, scale, day):
        self.time, self.scale, self.day = time, scale, day
        columns = zip(stream.src.tolist(), stream.dst.tolist(), stream.time.tolist(), strict=True)
        self.events = [(e, u, v, t) for e, (u, v, t) in enumerate(columns) if t < time]

    def of(self, node):
        """Events of a node, latest first: (event, other end, time, source)."""
        return [(e, v if u == node else u, t, u) for e, u, v, t in reversed(self.events) if node in (u, v)]

    def pair(self, a, b):
        return [(e, t, u) for e, u, v, t in reversed(self.events) if {u, v} == {a, b}]

    def since(self, times, place):
        return log1p(self.time - times[place]) * self.scale if place < len(times) else NEVER

    def first_meetings(self, node):
        return [row for row in self.of(node) if min(e for e, _, _ in self.pair(node, row[1])) == row[0]]

    def newcomers(self, node):
        return [row for row in self.of(node) if self.of(row[1])[-1][0] == row[0]]

    def after(self, node, event):
        """Whom a node met next after an event."""
        later = [row[1] for row in self.of(node) if row[0] > event]
        return later[-1] if later else None


def rates(past, u, v):
    times = [[row[2] for row in past.of(node)] for node in (v, u)]
    met = [t for _, t, _ in past.pair(u, v)]
    features = [past.since(list_, k - 1) for list_ in times for k in (2, 4, 8, 16, 32)]
    usual = [a - b for a, b in pairwise(met[:8])]
    due = exp(-abs(log1p(past.time - met[0]) - log1p(sum(usual) / len(usual)))) if usual else 0
    return [*features, past.since(met, 1), past.since(met, 3), due]


def _stays(partners):
    return sum(a == b for a, b in pairwise(partners))


def habits(past, u, v):
    mine, other = ([row[1] for row in past.of(node)[:32]] for node in (u, v))
    return [
        _stays(mine) / 32,
        _stays(mine) / max(len(mine) - 1, 1),
        len(set(mine)) / 32,
        _stays(other) / max(len(other) - 1, 1),
    ]


def newcomers(past, u, v):
    first, new, mine = past.first_meetings(v), past.newcomers(v), past.first_meetings(u)
    events, own = past.of(v), past.of(u)

    def age(rows, event):
        return sum(row[0] > event for row in rows[:32])

    return [
        *(past.since([row[2] for row in first], k - 1) for k in (1, 2, 4, 8, 16)),
        *(past.since([row[2] for row in new], k - 1) for k in (1, 2, 4, 8)),
        *(past.since([row[2] for row in mine], k - 1) for k in (1, 2, 4)),
        0.2 * log1p(len(first)),
        len(first) / max(len(events), 1),
        1 / (1 + age(events, first[0][0])) if first else 0,
        len(new) / max(len(events), 1),
        bool(new) and new[0][0] == events[0][0],
        1 / (1 + age(events, new[0][0])) if new else 0,
        len(mine) / max(len(own), 1),
        0.2 * log1p(age(own, mine[0][0])) if mine else 0,
    ]


def direction(past, u, v):
    met, events, own = past.pair(u, v), past.of(v)[:32], past.of(u)
    received = [row for row in events if row[3] != v]
    return [
        (1 if met[0][2] == u else -1) if met else 0,
        sum(row[2] == v for row in met[:8]) / max(len(met[:8]), 1),
        (1 if events[0][3] != v else -1) if events else 0,
        past.since([row[2] for row in received], 0),
        len(received) / 32,
        bool(received),
        (1 if own[0][3] == u else -1) if own else 0,
        sum(row[3] == u for row in own[:16]) / 16,
        bool(own) and own[0][1] == v and own[0][3] == v,
    ]


def _order(partners):
    """Partners, the latest first, each once."""
    return list(dict.fromkeys(partners))


def ranks(past, u, v):
    mine, back = ([row[1] for row in past.of(node)[:32]] for node in (u, v))
    n = mine.count(v)
    return [
        1 / (1 + _order(mine).index(v)) if n else 0,
        n / 32,
        0.2 * sum(0.8**j for j, x in enumerate(mine) if x == v),
        1 / (1 + sum(mine.count(x) > n for x in mine)) if n else 0,
        back.count(u) / 32,
        0.2 * sum(0.8**j for j, x in enumerate(back) if x == u),
    ]


def partners(past, u, v):
    rank = {x: 1 + i for i, x in enumerate(_order([row[1] for row in past.of(u)[:32]]))}
    around = [row[1] for row in past.of(v)[:32]]
    shared = [(j, w) for j, w in enumerate(around) if w in rank and w not in (u, v)]
    near = [
        (j, rank[x], 1 / (rank[x] * (1 + j) * (1 + q)))
        for j, w in enumerate(around)
        if w != u
        for q, x in enumerate(row[1] for row in past.of(w)[:8])
        if x != v and x in rank
    ]
    events = [0.2 * log1p(len(past.of(w))) for w in around[:4]]
    return [
        0.3 * log1p(len(shared)),
        0.5 * log1p(sum(1 / log1p(1 + len(past.of(w))) for _, w in shared)),
        0.5 * log1p(sum(1 / (rank[w] * (1 + j)) for j, w in shared)),
        0.3 * log1p(len({j for j, _, _ in near})),
        0.3 * log1p(sum(1 / (1 + r) for _, r, _ in near)),
        0.5 * log1p(sum(x for _, _, x in near)),
        max((x for _, _, x in near), default=0),
        events[0] if events else 0,
        sum(events) / max(len(events), 1),
        bool(around) and past.of(around[0])[0][1] == v,
    ]


def transitions(past, u, v):
    mine = [row[1] for row in past.of(u)[:32]]

    def others(p):
        rows = [] if p is None else past.of(p)[:32]
        return [(j, past.after(w, e)) for j, (e, w, _, _) in enumerate(rows) if w != u]

    latest = mine[0] if mine else None
    second = next((x for x in mine if x != latest), None)
    own = [(j, mine[j - 1]) for j in range(1, len(mine)) if mine[j] == latest]
    met = [] if latest is None else past.of(latest)[:16]
    around = [(j, row[1]) for j, (_, w, _, _) in enumerate(met) if w != u for row in past.of(w)[:8] if row[1] != latest]
    return [
        0.5 * log1p(sum(x == v for _, x in others(latest))),
        0.5 * log1p(sum(0.9**j for j, x in others(latest) if x == v)),
        0.5 * log1p(sum(x == v for _, x in own)),
        sum(0.8**j for j, x in own if x == v),
        0.5 * log1p(sum(0.9**j for j, x in others(second) if x == v)),
        0.5 * log1p(sum(1 / (1 + j) for j, x in around if x == v)),
    ]


def phase(past, u, v):
    day = past.day

    def fit(times, period):
        return sum(cos(2 * pi * (past.time - t) / period) for t in times) / max(len(times), 1)

    mine, other = ([row[2] for row in past.of(node)[:32]] for node in (u, v))
    met = [t for _, t, _ in past.pair(u, v)[:8]]
    angle = 2 * pi * past.time / day
    return [
        *(fit(times, p) for times in (other, met) for p in (day, 7 * day)),
        fit(mine, day),
        sin(angle),
        cos(angle),
    ]


REFERENCE = {
    "rates": rates,
    "habits": habits,
    "newcomers": newcomers,
    "direction": direction,
    "ranks": ranks,
    "partners": partners,
    "transitions": transitions,
    "phase": phase,
}
