"""Matrix products of the stream engine's shapes: torch's BLAS against NumPy's, one thread, interleaved; GFLOP/s.

python benchmarks/gemm.py
"""

import statistics
import time

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from tgscale.nn.gemm import prefers_numpy
from tgscale.train.environment import describe_environment, set_threads

SHAPES = {
    "memory updater, forward": (800, 472, 300),
    "memory updater, weights' gradient": (300, 800, 472),
    "query into feature space": (500, 50, 373),
    "value of the aggregate": (600, 373, 50),
}


def main() -> None:
    set_threads(1)
    environment = describe_environment()
    chosen = "NumPy" if prefers_numpy() else "torch"
    print(f"{environment['cpu']}, torch {environment['torch']}; the engine uses {chosen}\n")
    print("| product | M x K x N | torch | NumPy | ratio |\n|---|---|---|---|---|")
    with threadpool_limits(1):
        for name, (m, k, n) in SHAPES.items():
            a, b = torch.randn(m, k), torch.randn(n, k).t()
            out = torch.empty(m, n)
            seconds: dict[str, list[float]] = {"torch": [], "numpy": []}
            for _ in range(200):
                began = time.perf_counter()
                torch.mm(a, b, out=out)
                between = time.perf_counter()
                np.matmul(a.numpy(), b.numpy(), out=out.numpy())
                seconds["torch"].append(between - began)
                seconds["numpy"].append(time.perf_counter() - between)
            rate = {which: 2e-9 * m * k * n / statistics.median(s) for which, s in seconds.items()}
            ratio = rate["numpy"] / rate["torch"]
            print(f"| {name} | {m} x {k} x {n} | {rate['torch']:.0f} | {rate['numpy']:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
