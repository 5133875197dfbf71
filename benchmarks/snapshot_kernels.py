"""Kernels of the snapshot engine against torch's operators: one thread, one process, interleaved; forward and backward.

python benchmarks/snapshot_kernels.py [--part aggregation|cells]

Ratios above 1: the kernel is that many times as fast. Aggregation is compared with torch's sparse CSR product (which is
MKL's where torch has that), with SciPy's, and with gather, multiply, index_add; a recurrent cell over a window with the
same equations in torch's operators, where the aggregation of a state is torch's CSR product too.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from tgscale.graph.adjacency import Adjacency
from tgscale.graph.aggregate import aggregate, aggregate_reference
from tgscale.nn.graph_recurrence import gru_graph_scan, lstm_graph_scan
from tgscale.nn.recurrence import gru_scan, gru_scan_reference, lstm_cell_reference, lstm_scan, lstm_scan_reference
from tgscale.train.environment import describe_environment, set_threads

GRAPHS = {"a small region": (20, 100), "one snapshot of e-mails": (87_000, 50_000), "a dense one": (20_000, 200_000)}
WIDTHS = (1, 2, 8, 16, 32, 128)
# nodes, edges per step, channels, steps
WINDOWS = ((20, 100, 32, 8), (20, 100, 32, 64), (325, 2_000, 32, 12), (20_000, 200_000, 64, 4), (87_000, 50_000, 16, 4))


def skewed_graph(num_nodes: int, edges: int) -> Adjacency:
    """Edges with hubs on both sides, and self loops as GCN has them."""
    rng = np.random.default_rng(0)
    hubs = rng.permutation(num_nodes)
    src, dst = (hubs[(rng.pareto(1.5, edges) * num_nodes / 50).astype(np.int64) % num_nodes] for _ in range(2))
    loops = np.arange(num_nodes)
    src, dst = np.concatenate([src, loops]), np.concatenate([dst, loops])
    weight = rng.random(len(src)).astype(np.float32)
    return Adjacency.from_edges(np.array([0, len(src)]), src, dst, weight, num_nodes, num_nodes)


def torch_csr(adj: Adjacency) -> Callable[[Tensor], Tensor]:
    """The same product by torch's CSR matrices, the transpose stored too."""

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return forward @ x

        @staticmethod
        def backward(ctx, grad):
            return backward @ grad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        size = (adj.num_rows, adj.num_cols)
        forward = torch.sparse_csr_tensor(adj.indptr[0], adj.neighbor, adj.weight, size)
        transpose = (adj.transpose_indptr[0], adj.transpose_neighbor, adj.transpose_weight)
        backward = torch.sparse_csr_tensor(*transpose, size[::-1])
    return Product.apply


def scipy_csr(adj: Adjacency) -> Callable[[Tensor], Tensor]:
    """The same product by SciPy, the transpose stored too."""
    csr = (adj.weight.numpy(), adj.neighbor.numpy(), adj.indptr[0].numpy())
    transpose = (adj.transpose_weight.numpy(), adj.transpose_neighbor.numpy(), adj.transpose_indptr[0].numpy())
    size = (adj.num_rows, adj.num_cols)
    forward, backward = csr_matrix(csr, size), csr_matrix(transpose, size[::-1])

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.from_numpy(forward @ x.detach().numpy())

        @staticmethod
        def backward(ctx, grad):
            return torch.from_numpy(backward @ grad.numpy())

    return Product.apply


def milliseconds(runs: Sequence[Callable[[], Tensor]], leaves: Sequence[Tensor], budget: float = 1.5) -> list[float]:
    """Median time of a forward and a backward pass of each, taken in turn until the budget of seconds is used."""
    taken: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(taken[0]) < 5:
        for run, times in zip(runs, taken, strict=True):
            for timed in (False, True):  # the first compiles, and fills the caches that the others emptied
                began = time.perf_counter()
                out = run()
                torch.autograd.grad(out, leaves, torch.ones_like(out))
                if timed:
                    times.append(time.perf_counter() - began)
    return [1e3 * statistics.median(times) for times in taken]


def leaf(*shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape) * scale).requires_grad_()


def aggregation() -> None:
    mkl = "torch CSR (MKL)" if torch.backends.mkl.is_available() else "torch CSR"
    print(f"| graph | nodes | entries | width | kernel, ms | {mkl} / kernel | SciPy / kernel | index_add / kernel |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, (nodes, edges) in GRAPHS.items():
        adj = skewed_graph(nodes, edges)
        product, scipy, graph = torch_csr(adj), scipy_csr(adj), torch.zeros(1, dtype=torch.int64)
        for width in WIDTHS:
            x = leaf(1, nodes, width)
            run = (
                lambda a=adj, g=graph, x=x: aggregate(a, g, x),
                lambda p=product, x=x: p(x[0]),
                lambda p=scipy, x=x: p(x[0]),
                lambda a=adj, g=graph, x=x: aggregate_reference(a, g, x),
            )
            ours, *others = milliseconds(run, [x])
            ratios = " | ".join(f"{other / ours:.2f}" for other in others)
            print(f"| {name} | {nodes:,} | {len(adj.weight):,} | {width} | {ours:.3f} | {ratios} |", flush=True)


def gru_torch(gates: Tensor, product: Callable, u_zr: Tensor, u_n: Tensor) -> Tensor:
    """``gru_graph_scan`` with one matrix and the identity, in torch's operators."""
    C = gates.shape[2] // 3
    h, states = gates.new_zeros(gates.shape[1], C), []
    for gate in gates:
        q = torch.cat([product(h), h], 1) @ u_zr.flatten(0, 1)
        z, r = torch.sigmoid(gate[:, : 2 * C] + q).split(C, dim=1)
        n = torch.tanh(gate[:, 2 * C :] + torch.cat([product(r * h), r * h], 1) @ u_n.flatten(0, 1))
        h = z * h + (1 - z) * n
        states.append(h)
    return torch.stack(states)


def lstm_torch(gates: Tensor, product: Callable, u: Tensor) -> Tensor:
    """``lstm_graph_scan`` with one matrix and the identity, in torch's operators."""
    h = c = gates.new_zeros(gates.shape[1], gates.shape[2] // 4)
    states = []
    for gate in gates:
        h, c = lstm_cell_reference(gate + torch.cat([product(h), h], 1) @ u.flatten(0, 1), c)
        states.append(h)
    return torch.stack(states)


def window(N: int, edges: int, C: int, w: int) -> None:
    adj = skewed_graph(N, edges)
    product, steps, bases = torch_csr(adj), torch.zeros(w, dtype=torch.int64), [adj, None]
    three, four = leaf(w, N, 3 * C), leaf(w, N, 4 * C)
    u2, u1, u4 = leaf(2, C, 2 * C, scale=0.1), leaf(2, C, C, scale=0.1), leaf(2, C, 4 * C, scale=0.1)
    cells = {
        "GRU": (lambda: gru_scan(three, u2[0], u1[0]), lambda: gru_scan_reference(three, u2[0], u1[0])),
        "LSTM": (lambda: lstm_scan(four, u4[0])[0], lambda: lstm_scan_reference(four, u4[0])[0]),
        "GRU, state aggregated": (
            lambda: gru_graph_scan(three, bases, steps, u2, u1),
            lambda: gru_torch(three, product, u2, u1),
        ),
        "LSTM, state aggregated": (
            lambda: lstm_graph_scan(four, bases, steps, u4)[0],
            lambda: lstm_torch(four, product, u4),
        ),
    }
    for name, pair in cells.items():
        ours, eager = milliseconds(pair, [three, u2, u1] if name.startswith("GRU") else [four, u4])
        print(f"| {name} | {N} | {edges} | {C} | {w} | {ours:.2f} | {eager / ours:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["aggregation", "cells"], help="one of them alone")
    part = parser.parse_args().part
    set_threads(1)
    environment = describe_environment()
    print(f"{environment['cpu']}, torch {environment['torch']}, one thread; forward and backward, float32\n")
    if part != "cells":
        aggregation()
    if part == "aggregation":
        return
    print("\n| cell | nodes | edges | channels | steps | kernel, ms | torch / kernel |\n|---|---|---|---|---|---|---|")
    for sizes in WINDOWS:
        window(*sizes)


if __name__ == "__main__":
    main()
