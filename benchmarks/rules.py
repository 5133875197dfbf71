"""Are the models better than the rules, and which group of pair features brings what?

    python benchmarks/rules.py --source ../shared/data --out build/rules                  # ablation, minutes
    python benchmarks/rules.py --source ../shared/data --out build/rules --models         # train the default model

The ablation trains no graph network: two layers read the pair features alone, of a sample of the training events with
5 negatives each, and rank a sample of the test events among 49. So it says what the features know, and takes a minute
for a set. ``--models`` trains the default model, and tables its test MRR beside the rules'. Runs that are already in
--out are not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

import numpy as np
import torch
from real_sets import real_set
from tables import DOCS, markdown, publish
from torch import Tensor, nn

from tgscale.data.store import open_stream
from tgscale.nn.decoder import link_loss
from tgscale.nn.pair_encoding import GROUPS, MEETING_DIM
from tgscale.stream.config import default_config, replace
from tgscale.stream.engine import StreamEngine
from tgscale.train.metrics import reciprocal_ranks

EPOCHS = {
    "wikipedia": 6,
    "collegemsg": 6,
    "email_eu": 1,
    "mathoverflow": 1,
    "bitcoin_otc": 4,
    "epinions_trust": 2,
    "infectious": 1,
    "primaryschool": 1,
    "tkg_gdelt": 1,
}
_FAST = ["--train.lr", "0.002", "--train.negatives", "5"]
# Of the training events of epinions_trust 98 % share one time, so have no past: a rate that sinks to nothing by the end
# of the epoch would be gone when the others come; small batches make more steps of these.
_FEW = ["--train.negatives", "5", "--train.schedule", "constant", "--train.batch-size", "100"]
OPTIONS = {"wikipedia": _FAST, "epinions_trust": _FEW}
"""Beside the defaults."""
RULES = ("edgebank", "edgebank_window", "recency", "popularity")
ABLATED = ("wikipedia", "collegemsg", "email_eu", "mathoverflow")
FROM = 0.15  # the first events have too little past to learn from


def features(engine: StreamEngine, start: int, stop: int, most: int, negatives: int, seed: int) -> Tensor:
    """Pair features of a sample of the events ``[start, stop)``, ``[n, 1 + negatives, all columns]``."""
    rng = np.random.default_rng(seed)
    event = torch.from_numpy(np.sort(rng.choice(np.arange(start, stop), min(most, stop - start), replace=False)))
    parts = [engine.builder.events(part, negatives, seed, exclude_own=False) for part in event.split(500)]
    return torch.cat([part.pair_features for part in parts if part.pair_features is not None])


def columns(groups: list[str]) -> list[int]:
    """Columns of the meetings and of some groups."""
    wanted, at = list(range(MEETING_DIM)), MEETING_DIM
    for name, group in GROUPS.items():
        if name in groups:
            wanted += range(at, at + len(group.names))
        at += len(group.names)
    return wanted


def alone(train: Tensor, test: Tensor, seed: int, epochs: int = 5, width: int = 128, batch: int = 400) -> Tensor:
    """Reciprocal ranks of the test events by two layers that read pair features."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(train.shape[-1], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
    )
    optimizer, steps = torch.optim.Adam(model.parameters()), epochs * (len(train) // batch) + 1
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(batch)[: len(train) // batch]:
            optimizer.zero_grad()
            link_loss(model(train[rows])[..., 0]).backward()
            optimizer.step()
            rate.step()
    with torch.no_grad():
        scores = torch.cat([model(part)[..., 0] for part in test.split(500)])
    return reciprocal_ranks(scores[:, 0], scores[:, 1:])


def losses(test: Tensor, ranks: Tensor) -> dict[str, list[float]]:
    """By kind of event: its share, its MRR, and how much of ``1 - MRR`` of all events it makes up."""
    met, seen = test[:, 0, 0] > 0, torch.expm1(test[:, 0, MEETING_DIM - 2] / 0.2).round()
    own = (test[:, 1:] == test[:, :1]).all(-1).any(-1)
    kinds = {
        "a negative looks the same (most often, it is the destination itself)": own,
        "the pair has met before": met & ~own,
    }
    least = [("a new pair, of a new source", 0, 0), ("a new pair, the source had 1 to 8 events", 1, 8)]
    for kind, low, high in [*least, ("a new pair, the source had more", 9, torch.inf)]:
        kinds[kind] = ~met & ~own & (seen >= low) & (seen <= high)
    return {
        kind: [float(at.double().mean()), float(ranks[at].mean()), float((1 - ranks)[at].sum() / len(ranks))]
        for kind, at in kinds.items()
    }


def losses_table(found: dict[str, dict[str, list[float]]]) -> str:
    """A row for each kind of event, three columns for each set."""
    head = [f"{name}, {what}" for name in found for what in ("share", "MRR", "of the loss")]
    kinds = next(iter(found.values()))
    rows = [[kind, *(f"{value:.4f}" for name in found for value in found[name][kind])] for kind in kinds]
    return markdown(["event", *head], rows)


def ablation(data: Path, seeds: list[int], train_events: int, test_events: int) -> dict[str, dict[str, list[float]]]:
    """Test MRR by which groups are there, one for each seed; and where all groups together lose the rest."""
    config = replace(default_config(data, Path()), model__pair_groups=tuple(GROUPS))
    engine = StreamEngine(config, open_stream(data), torch.device("cpu"))
    first, last = engine.split.range("test")
    train = features(engine, int(engine.split.train * FROM), engine.split.train, train_events, 5, seed=1)
    test = features(engine, first, last, test_events, 49, seed=0)
    cases = {"meetings alone": [], "all groups": list(GROUPS)}
    cases |= {f"+ {name}": [name] for name in GROUPS}
    cases |= {f"all but {name}": [other for other in GROUPS if other != name] for name in GROUPS}
    found = {}
    for case, groups in cases.items():
        wanted = columns(groups)
        ranks = [alone(train[..., wanted], test[..., wanted], seed) for seed in seeds]
        found[case] = [float(each.mean()) for each in ranks]
        if case == "all groups":
            lost = losses(test, ranks[0])
    return {"mrr": found, "losses": lost}


def cell(values: list[float]) -> str:
    """Mean, spread where there is one, and how many."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread} ({len(values)})"


def ablation_table(found: dict[str, dict[str, list[float]]]) -> str:
    """A row for each group: what it adds to the meetings, and what is lost without it."""
    rows = [[case, *(cell(found[name][case]) for name in found)] for case in ("meetings alone", "all groups")]
    for group in GROUPS:
        cells = []
        for by_case in found.values():
            mean = {case: statistics.mean(values) for case, values in by_case.items()}
            added = mean[f"+ {group}"] - mean["meetings alone"]
            lost = mean[f"all but {group}"] - mean["all groups"]
            cells.append(f"{added:+.4f} / {lost:+.4f}")
        rows.append([group, *cells])
    return markdown(["test MRR, features alone", *found], rows)


def one_run(data: Path, seed: int, out: Path) -> None:
    """Train the default model in a process of its own, on one thread."""
    path = out / "runs" / f"{data.name}-{seed}"
    if (path / "result.json").exists():
        return
    new = ["--data", data, "--run", path, "--quiet", "--seed", str(seed), "--threads", "1", "--device", "cpu"]
    new += ["--train.epochs", str(EPOCHS[data.name])]
    new += OPTIONS.get(data.name, [])
    go_on = ["--resume", path] if (path / "config.yaml").exists() else new
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    subprocess.run(["tgscale", "train", *map(str, go_on)], check=True, env=env)


def models_table(out: Path, sets: list[str]) -> str:
    """Test MRR of the default model beside that of the rules."""
    rows = []
    for name in sets:
        results = [json.loads(p.read_text()) for p in sorted((out / "runs").glob(f"{name}-*/result.json"))]
        if results:
            rules = [f"{results[0]['baselines'][rule]['mrr']:.4f}" for rule in RULES]
            rows.append(
                [
                    name,
                    " ".join([str(EPOCHS[name]), *OPTIONS.get(name, [])]),
                    cell([r["test"]["mrr"] for r in results]),
                    *rules,
                ]
            )
    return markdown(["test MRR", "epochs, options", "model", *RULES], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", action="store_true", help="train the default model instead of the ablation")
    parser.add_argument("--sets", nargs="+", choices=list(EPOCHS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--train-events", type=int, default=30_000)
    parser.add_argument("--test-events", type=int, default=5_000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/pair-encoding.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = options.sets or list(EPOCHS if options.models else ABLATED)
    data = [real_set(name, options.source, options.out / "data") for name in sets]
    page = DOCS / "pair-encoding.md"
    if options.models:
        for seed in options.seeds:
            for path in data:
                one_run(path, seed, options.out)
        publish(page, "models", models_table(options.out, list(EPOCHS)), options.write)
        return
    saved = options.out / "ablation.json"
    found = json.loads(saved.read_text()) if saved.exists() else {}
    for path in data:
        if path.name not in found:
            found[path.name] = ablation(path, options.seeds, options.train_events, options.test_events)
            saved.write_text(json.dumps(found, indent=1))
    publish(page, "ablation", ablation_table({name: each["mrr"] for name, each in found.items()}), options.write)
    publish(page, "losses", losses_table({name: each["losses"] for name, each in found.items()}), options.write)


if __name__ == "__main__":
    main()
