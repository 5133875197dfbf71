"""What a layout does to convergence: every layout emulated on real streams at an equal number of traversed events.

    python benchmarks/layouts.py --source ../shared/data --out build/layouts --jobs 2

Runs that are already in --out are not repeated. Prints a Markdown table and draws validation MRR against iterations
(DistTGL, figure 9).
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

from real_sets import real_set

LAYOUTS = ["1x1x1", "1x8x1", "1x4x2", "1x2x4", "1x1x8", "8x1x1"]
EPOCHS = {"wikipedia": 24, "collegemsg": 24, "mathoverflow": 8}


def one_run(data: Path, layout: str, options: argparse.Namespace) -> None:
    """Train in a process of its own, on one thread."""
    path = folder(data.name, layout, options)
    if (path / "result.json").exists():
        return
    go_on = ["--resume", path] if (path / "config.yaml").exists() else ["--data", data, "--run", path, "--quiet"]
    if go_on[0] == "--data":
        go_on += [
            "--preset",
            options.preset,
            "--emulate",
            layout,
            "--train.epochs",
            str(options.epochs or EPOCHS[data.name]),
        ]
        go_on += [
            "--train.lr-scaling",
            options.lr_scaling,
            "--train.warm-start",
            options.warm_start,
            "--train.patience",
            "0",
        ]
        go_on += ["--seed", str(options.seed), "--static.cache", options.out / "static", "--device", options.device]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    run(["tgscale", "train", *go_on], check=True, env=env)


def folder(name: str, layout: str, options: argparse.Namespace) -> Path:
    variant = f"{options.preset}-{options.lr_scaling}-{options.warm_start}-{options.seed}"
    return options.out / "runs" / f"{name}-{layout}-{variant}"


def table(options: argparse.Namespace) -> str:
    """Test MRR, validation MRR and iterations of every layout that is there."""
    lines = [
        "| layout | " + " | ".join(f"{name}: test MRR | best val MRR | iterations" for name in options.sets) + " |"
    ]
    lines.append("|---" * (1 + 3 * len(options.sets)) + "|")
    for layout in options.layouts:
        cells = []
        for name in options.sets:
            file = folder(name, layout, options) / "result.json"
            if file.exists():
                result = json.loads(file.read_text())
                mrr = f"{result['test']['mrr']:.4f} | {result['val']['mrr']:.4f}"
                cells.append(f"{mrr} | {result['train']['iterations']:,}")
            else:
                cells.append("| |")
        lines.append(f"| {layout} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS)
    parser.add_argument("--preset", default="disttgl")
    parser.add_argument("--lr-scaling", default="sqrt")
    parser.add_argument("--warm-start", default="none")
    parser.add_argument(
        "--epochs", type=int, help="traversals of the training events; by default as many as the set has"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    options = parser.parse_args()
    data = [real_set(name, options.source, options.out / "data") for name in options.sets]
    jobs = [(d, layout) for d in data for layout in options.layouts]
    with ThreadPoolExecutor(options.jobs) as pool:
        for _ in pool.map(lambda job: one_run(*job, options), jobs):
            pass
    print(table(options))


if __name__ == "__main__":
    main()
