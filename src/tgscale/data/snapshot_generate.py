"""A seeded snapshot sequence with uneven sizes, slow change and something to learn, made on the spot."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError

DEGREE_POWER = 2.0  # node of rank N u^2, u uniform: degrees fall as rank^-1/2, a degree exponent of 3
SIZE_MEMORY = 0.9  # of a snapshot's size, from one step to the next
FEATURE_MEMORY = 0.8  # of a node's features
STATE_MEMORY = 0.6  # of the signal that spreads over the graph
NOISE = 0.3  # standard deviation in the target, whose own is 1


def generate_snapshots(
    nodes: int = 20_000,
    snapshots: int = 60,
    edges: int = 200_000,
    change: float = 5.0,
    skew: float = 2.0,
    features: int = 8,
    seed: int = 0,
    name: str = "slides",
) -> SnapshotSequence:
    """Make a sequence of directed snapshots by a sliding edge set.

    * **Sizes.** The mean number of edges is ``edges`` and the largest snapshot has ``1 + skew`` times as many. Sizes
      are lognormal: the quantiles of one such distribution, each used once, in an order in which big snapshots lie
      near one another (by rank of an autoregressive walk). With ``skew`` 0 all have ``edges`` edges.
    * **Edges.** Ends are drawn by popularity, so in- and out-degrees follow a power law; no self-loops, no edge twice.
      From one step to the next ``d = m * change / 200`` edges go and ``d`` others come, ``m`` being the smaller of the
      two sizes (the recipe of STGraph's slides, where all sizes are equal); then edges join or leave to make up the
      difference in size.
    * **Features**, if any: each is an autoregressive Gaussian process of its own at each node, of variance 1.
    * **Target**, with features: ``[T, N, 1]``. A hidden state spreads over the graph: ``h_t = 0.6 * (mean of h_(t-1)
      over in-neighbors and the node itself) + tanh(2 a . (mean of x_t over the same) + b . x_t)``, and the target is
      ``h_t`` scaled to variance 1 over all steps, plus noise of deviation 0.3. So a model that sees neighbors and the
      past can come near a mean squared error of 0.09, and repeating the last target cannot.

    Args:
        nodes: number of nodes.
        snapshots: number of snapshots.
        edges: mean number of edges in a snapshot.
        change: per cent of the edges that differ from one snapshot to the next, those that go and those that come
            taken together.
        skew: size of the largest snapshot over the mean, less 1.
        features: number of node features; 0 for none, and no target.
        seed: equal seeds and options make equal sequences.
        name: for reports.

    Raises:
        ConfigError: sizes that cannot be had.
    """
    _check(nodes, snapshots, edges, change, skew, features, seed)
    rng = np.random.default_rng(seed)
    sizes = _sizes(rng, snapshots, edges, skew)
    sequence = _stack(_slide(rng, nodes, sizes, change), nodes, sizes, name)
    if features == 0:
        return sequence
    values, target = _signal(rng, sequence, features)
    return replace(sequence, node_features=values, target=target)


def _check(nodes: int, snapshots: int, edges: int, change: float, skew: float, features: int, seed: int) -> None:
    if nodes < 2 or snapshots < 1 or edges < 1 or features < 0:
        raise ConfigError("give at least 2 nodes, 1 snapshot, 1 edge, and 0 or more features.")
    if seed < 0:
        raise ConfigError(f"--seed is {seed}: give 0 or more.")
    if not 0 <= change <= 200:
        raise ConfigError(f"--change {change} is out of range: give a percentage from 0 (nothing) to 200 (everything).")
    if not 0 <= skew <= (snapshots - 1) / 2:
        raise ConfigError(
            f"--skew {skew} is out of range: with {snapshots} snapshots the largest can be up to "
            f"{(snapshots + 1) / 2:g} times the mean, so give 0 to {(snapshots - 1) / 2:g}."
        )
    # Popular pairs run out long before all pairs do, and drawing new ones then takes for ever.
    if edges * (1 + skew) * (1 + change / 200) > nodes * (nodes - 1) / 8:
        raise ConfigError(
            f"--edges {edges:,} with --skew {skew:g} needs more than an eighth of all pairs of {nodes:,} nodes in the "
            "largest snapshot: give more nodes or fewer edges."
        )


def _sizes(rng: np.random.Generator, snapshots: int, edges: int, skew: float) -> np.ndarray:
    """Number of edges of each snapshot: lognormal quantiles of mean ``edges`` and maximum ``(1 + skew) * edges``."""
    normal = ndtri((np.arange(snapshots) + 0.5) / snapshots)
    low, high = 0.0, 50.0
    for _ in range(100):  # the ratio of maximum to mean grows with the spread
        spread = (low + high) / 2
        shape = np.exp(spread * (normal - normal[-1]))
        low, high = (spread, high) if 1 / shape.mean() < 1 + skew else (low, spread)
    sizes = np.maximum(1, np.rint(edges * shape / shape.mean())).astype(np.int64)
    walk = np.zeros(snapshots)
    for t in range(1, snapshots):
        walk[t] = SIZE_MEMORY * walk[t - 1] + rng.normal()
    return sizes[np.argsort(np.argsort(walk))]


def _slide(rng: np.random.Generator, nodes: int, sizes: np.ndarray, change: float) -> Iterator[np.ndarray]:
    """Edges of each snapshot as ``destination * nodes + source``, sorted.

    One pool of the largest size holds edges in slots; a snapshot shows the first slots. What goes and comes is an
    exchange of slots that both snapshots show. The pool is kept sorted, so a step takes time linear in it.
    """
    label = np.stack([rng.permutation(nodes), rng.permutation(nodes)])
    most = int(sizes.max())
    pool = _new_edges(rng, label, most, np.empty(0, np.int64))
    slot = np.argsort(pool)
    pool = pool[slot]
    yield pool[slot < sizes[0]]
    for before, size in itertools.pairwise(sizes.tolist()):
        common = min(before, size)
        going = np.zeros(most, bool)
        freed = rng.choice(common, size=round(common * change / 200), replace=False)
        going[freed] = True
        coming = np.sort(_new_edges(rng, label, len(freed), pool))
        stay = ~going[slot]
        pool, slot = pool[stay], slot[stay]
        place = np.searchsorted(pool, coming)
        pool, slot = np.insert(pool, place, coming), np.insert(slot, place, rng.permutation(freed))
        yield pool[slot < size]


def _stack(graphs: Iterator[np.ndarray], nodes: int, sizes: np.ndarray, name: str) -> SnapshotSequence:
    """The sequence of sorted edges that come a snapshot at a time."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    indptr = np.zeros((len(sizes), nodes + 1), np.int32)
    neighbor = np.empty(offsets[-1], np.int32)
    for t, graph in enumerate(graphs):
        dst, neighbor[offsets[t] : offsets[t + 1]] = np.divmod(graph, nodes)
        np.cumsum(np.bincount(dst, minlength=nodes), out=indptr[t, 1:])
    return SnapshotSequence(offsets, indptr, neighbor, np.arange(len(sizes), dtype=np.int32), nodes, name=name)


def _new_edges(rng: np.random.Generator, label: np.ndarray, count: int, known: np.ndarray) -> np.ndarray:
    """Draw distinct edges by popularity that are not in ``known`` (sorted)."""
    nodes = label.shape[1]
    found = np.empty(0, np.int64)
    while len(found) < count:
        rank = (nodes * rng.random((2, 2 * (count - len(found)) + 16)) ** DEGREE_POWER).astype(np.int64)
        src, dst = label[0][rank[0]], label[1][rank[1]]
        drawn = (dst * nodes + src)[src != dst]
        if len(known):
            place = np.minimum(np.searchsorted(known, drawn), len(known) - 1)
            drawn = drawn[known[place] != drawn]
        joined = np.concatenate([found, drawn])
        _, first = np.unique(joined, return_index=True)
        found = joined[np.sort(first)]  # in the order drawn, so that none is preferred
    return found[:count]


def _signal(rng: np.random.Generator, sequence: SnapshotSequence, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Features ``[T, N, width]`` and target ``[T, N, 1]``; see :func:`generate_snapshots`."""
    steps, nodes = sequence.num_steps, sequence.num_nodes
    own, around = rng.normal(size=(2, width))
    own, around = own / np.linalg.norm(own), around / np.linalg.norm(around)  # the same balance with every seed
    values = np.empty((steps, nodes, width), np.float32)
    target = np.empty((steps, nodes, 1), np.float32)
    x, state = rng.normal(size=(nodes, width)), np.zeros(nodes)
    for t in range(steps):
        if t:
            x = FEATURE_MEMORY * x + math.sqrt(1 - FEATURE_MEMORY**2) * rng.normal(size=(nodes, width))
        indptr, rows = sequence.indptr[t], sequence.edge_rows(t)
        graph = csr_array((np.ones(rows.stop - rows.start), sequence.neighbor[rows], indptr), shape=(nodes, nodes))
        closed = np.diff(indptr) + 1.0
        drive = (graph @ (x @ around) + x @ around) / closed
        state = STATE_MEMORY * (graph @ state + state) / closed + np.tanh(2 * drive + x @ own)
        values[t], target[t, :, 0] = x, state
    target -= target.mean(dtype=np.float64)
    target /= target.std(dtype=np.float64)
    target += NOISE * rng.standard_normal(target.shape, dtype=np.float32)
    return values, target
