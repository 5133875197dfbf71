"""Accuracy: presets and static memory on real streams, several seeds; a Markdown table of test MRR.

    python benchmarks/results.py --source ../shared/data --out build/results --jobs 2

Runs that are already in --out are not repeated, so the table can be made in pieces.
"""

import argparse
import json
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

from real_sets import real_set

VARIANTS = {
    "default": ["--preset", "default"],
    "disttgl, no static": ["--preset", "disttgl", "--static.mode", "none"],
    "disttgl, static": ["--preset", "disttgl", "--static.mode", "pretrained", "--static.dropout", "0"],
    "disttgl, static dropped": ["--preset", "disttgl", "--static.mode", "pretrained", "--static.dropout", "0.5"],
}
EPOCHS = {"collegemsg": 8, "wikipedia": 8, "email_eu": 2, "mathoverflow": 1}
PRETRAINING = {"collegemsg": 10, "wikipedia": 10, "email_eu": 5, "mathoverflow": 5}


def one_run(data: Path, variant: str, seed: int, out: Path) -> None:
    """Train in a process of its own, on one thread."""
    path = out / "runs" / f"{data.name}-{variant.replace(', ', '-').replace(' ', '-')}-{seed}"
    if (path / "result.json").exists():
        return
    go_on = ["--resume", path] if (path / "config.yaml").exists() else ["--data", data, "--run", path, "--quiet"]
    if go_on[0] == "--data":
        go_on += [*VARIANTS[variant], "--seed", str(seed), "--threads", "1", "--device", "cpu"]
        go_on += ["--train.epochs", str(EPOCHS[data.name]), "--static.cache", out / "static"]
        pretraining = 3 if variant.endswith("dropped") else PRETRAINING[data.name]
        go_on += ["--static.epochs", str(pretraining)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    run(["tgscale", "train", *go_on], check=True, env=env, capture_output=True)


def table(out: Path, sets: list[str], variants: list[str]) -> str:
    """Mean and spread (standard deviation) over the seeds that are there."""
    lines = [f"| test MRR | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
    rules: dict[str, list[str]] = {"edgebank": [], "recency": []}
    for variant in variants:
        cells = []
        for name in sets:
            stem = f"{name}-{variant.replace(', ', '-').replace(' ', '-')}-"
            results = [json.loads(p.read_text()) for p in sorted((out / "runs").glob(f"{stem}*/result.json"))]
            mrr = [r["test"]["mrr"] for r in results]
            spread = f" ± {statistics.stdev(mrr):.4f}" if len(mrr) > 1 else ""
            cells.append(f"{statistics.mean(mrr):.4f}{spread} ({len(mrr)})" if mrr else "")
            if results and variant == variants[0]:
                for rule, row in rules.items():
                    row.append(f"{results[0]['baselines'][rule]['mrr']:.4f}")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines + [f"| {rule} | {' | '.join(row)} |" for rule, row in rules.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    options = parser.parse_args()
    data = [real_set(name, options.source, options.out / "data") for name in options.sets]
    jobs = [(d, v, s) for s in options.seeds for d in data for v in options.variants]
    with ThreadPoolExecutor(options.jobs) as pool:
        for _ in pool.map(lambda job: one_run(*job, options.out), jobs):
            pass
    print(table(options.out, options.sets, options.variants))


if __name__ == "__main__":
    main()
