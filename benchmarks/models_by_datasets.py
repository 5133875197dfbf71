"""Accuracy of every model on real streams, several seeds; a Markdown table of test MRR, with the rules beside them.

    python benchmarks/models_by_datasets.py --source ../shared/data --out build/models --jobs 2 [--write]

Every run is trained with `tgscale train`, on one thread, in a process of its own. Runs that are in --out are not
repeated, and those that were interrupted go on, so the table can be made in pieces; cells without a run stay empty.
"""

import argparse
import json
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

from real_sets import real_set
from tables import DOCS, markdown, publish

from tgscale.models.stream_models import STREAM_MODELS

EPOCHS = {"collegemsg": 8, "wikipedia": 6, "email_eu": 2, "mathoverflow": 1}
RULES = ("edgebank", "recency")


def folder(data: Path, model: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a run lies."""
    pairs = "" if options.pairs else "-no-pairs"
    return options.out / "runs" / f"{data.name}-{model}{pairs}-{seed}"


def one_run(data: Path, model: str, seed: int, options: argparse.Namespace) -> None:
    """Train in a process of its own, on one thread."""
    path = folder(data, model, seed, options)
    if (path / "result.json").exists():
        return
    if (path / "config.yaml").exists():
        words = ["--resume", path]
    else:
        epochs = options.epochs or EPOCHS.get(data.name, 5)
        words = ["--data", data, "--run", path, "--model", model, "--seed", seed, "--train.epochs", epochs]
        words += ["--threads", 1, "--device", options.device, "--quiet", *options.extra]
        words += [] if options.pairs else ["--model.no-pair-encoding"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    run(["tgscale", "train", *map(str, words)], check=True, env=env)
    print(f"{path.name}: {_mrr(path):.4f}", flush=True)


def rows(data: list[Path], options: argparse.Namespace) -> list[list[str]]:
    """A row per model, then one per rule."""
    table, rules = [], {rule: [""] * len(data) for rule in RULES}
    for model in options.models:
        cells = []
        for at, each in enumerate(data):
            runs = [folder(each, model, seed, options) for seed in options.seeds]
            found = [path for path in runs if (path / "result.json").exists()]
            mrr = [_mrr(path) for path in found]
            spread = f" ± {statistics.stdev(mrr):.4f}" if len(mrr) > 1 else ""
            cells.append(f"{statistics.mean(mrr):.4f}{spread} ({len(mrr)})" if mrr else "")
            for rule in RULES if found else ():
                rules[rule][at] = f"{_result(found[0])['baselines'][rule]['mrr']:.4f}"
        table.append([model, *cells])
    return table + [[rule, *cells] for rule, cells in rules.items()]


def _result(path: Path) -> dict:
    return json.loads((path / "result.json").read_text())


def _mrr(path: Path) -> float:
    return _result(path)["test"]["mrr"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(EPOCHS), choices=list(EPOCHS), help="real sets")
    parser.add_argument("--data", nargs="*", type=Path, default=[], help="data directories beside the real sets")
    parser.add_argument("--models", nargs="+", default=list(STREAM_MODELS), choices=list(STREAM_MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of those of each set")
    parser.add_argument("--no-pairs", dest="pairs", action="store_false", help="without the pair encoding")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time; 0: the table of those that are there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/models.md")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options of `tgscale train`; last")
    options = parser.parse_args()
    if options.sets and options.source is None:
        parser.error("--source is needed for the real sets; --sets alone, with nothing behind it, leaves them out")
    data = [real_set(name, options.source, options.out / "data") for name in options.sets] + options.data
    # Seed by seed, so that a table that is broken off has all models.
    jobs = [(each, model, seed) for seed in options.seeds for each in data for model in options.models]
    if options.jobs:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda job: one_run(*job, options), jobs))
    head = ["test MRR", *(each.name for each in data)]
    marker = "models" if options.pairs else "models without pairs"
    publish(DOCS / "models.md", marker, markdown(head, rows(data, options)), options.write)


if __name__ == "__main__":
    main()
