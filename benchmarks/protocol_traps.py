"""Why numbers differ between projects: each trap in a small experiment; the tables of docs/why-numbers-differ.md.

    python benchmarks/protocol_traps.py --source ../shared/data --out build/traps [--only ties averages ...] [--write]

One model is trained on the first 60,000 events of the Wikipedia stream (in OUT/wikipedia-run) and then only scored,
under one rule after the other. What was measured is kept in OUT, a file per trap, so the page can be made in pieces;
``--write`` puts the tables into it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import traps_model as model
import traps_rules as rules
from real_sets import real_set
from tables import DOCS, markdown, publish

import tgscale
from tgscale.train.environment import set_threads

PAGE = DOCS / "why-numbers-differ.md"
MRR_CASES: dict[str, dict[str, Any]] = {
    "49 of all destinations (`mrr49`)": {},
    "the same, never the own (`--eval.exclude-own`)": {"exclude_own": True},
    "49 of all nodes": {"population": "all"},
    "49 that the source met in training (`historical`)": {"negatives": "historical"},
    "49 that it first met later (`inductive`)": {"negatives": "inductive"},
    "49, half of them historical (`tgb`, 49)": {"protocol": "tgb", "negatives_per_event": 49},
}
AP_CASES: dict[str, dict[str, Any]] = {
    "all destinations (`ap-dyglib`)": {"protocol": "ap-dyglib"},
    "range of destination ids (`ap-pyg`)": {"protocol": "ap-pyg"},
    "all nodes (`ap-tgl`)": {"protocol": "ap-tgl"},
    "historical edges (`ap-dyglib`)": {"protocol": "ap-dyglib", "negatives": "historical"},
    "inductive edges (`ap-dyglib`)": {"protocol": "ap-dyglib", "negatives": "inductive"},
}
TIED = ("wikipedia", "collegemsg", "primaryschool", "epinions-200k")
SHORT = ("wikipedia", "collegemsg", "mathoverflow")


CUT = {
    "wikipedia-60k": ("wikipedia/events.parquet", 60_000),
    "primaryschool": ("sociopatterns/primaryschool.parquet", 10**9),
    "epinions-200k": ("epinions_trust/events.parquet", 200_000),
}
"""Name -> file, and how many of its first events."""


class Data:
    """The streams and the run, each made when first asked for."""

    def __init__(self, source: Path, out: Path) -> None:
        self.source, self.out = source, out

    def path(self, name: str) -> Path:
        if name not in CUT:
            return real_set(name, self.source, self.out)
        path, (file, events) = self.out / name, CUT[name]
        if not path.exists():
            query = f"SELECT src, dst, t FROM '{self.source / file}' LIMIT {events}"
            tgscale.import_events(None, path, query=query, src="src", dst="dst", time="t", name=name)
        return path

    def stream(self, name: str) -> tgscale.EventStream:
        return tgscale.open_stream(self.path(name))

    @property
    def run(self) -> Path:
        options = {"model__pair_encoding": False, "train__epochs": 8}
        return model.train(self.path("wikipedia-60k"), self.out / "wikipedia-run", **options)


def share(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}%}"


def four(values: dict[str, float], *names: str) -> list[str]:
    return [f"{values[name]:.4f}" for name in names]


def ranked(found: dict[str, Any]) -> str:
    head = ["negatives", "MRR: TGN", "EdgeBank", "recency"]
    return markdown(head, [[name, *four(x, "model", "edgebank", "recency")] for name, x in found.items()])


def precision(found: dict[str, Any]) -> str:
    head = ["one negative from", "AP: TGN", "EdgeBank", "recency"]
    return markdown(head, [[name, *four(x, "model", "edgebank", "recency")] for name, x in found.items()])


def tied(found: dict[str, Any]) -> str:
    head = ["scorer", "MRR, ties won (optimistic)", "half", "lost (pessimistic)", "events with a tie"]
    rows = [[n, *four(x, "optimistic", "half", "pessimistic"), share(x["tied"])] for n, x in found.items()]
    return markdown(head, rows)


def averaged(found: dict[str, Any]) -> str:
    names = {"all events": "all events at once"}
    rows = [[names.get(n, f"mean of batches of {n}"), *four(x, "ap", "mrr")] for n, x in found.items()]
    return markdown(["average over", "AP", "MRR"], rows)


def sized(found: dict[str, Any]) -> str:
    head = ["events per batch in evaluation", "MRR, neighbors up to each event", "neighbors as of the batch's start"]
    return markdown(head, [[n, *four(x, "event", "node")] for n, x in found.items()])


def same_time(found: dict[str, Any]) -> str:
    head = ["stream", "events that share their time", "an event sees", "EdgeBank MRR", "recency MRR"]
    rows = []
    for name, (shared, variants) in found.items():
        for number, (seen, values) in enumerate(variants.items()):
            first = ["", ""] if number else [name, share(shared)]
            rows.append([*first, seen, *four(values, "edgebank", "recency")])
    return markdown(head, rows)


def short_times(found: dict[str, Any]) -> str:
    head = [
        "stream", "distinct times", "as float32", "gaps off by more than 10 %",
        "EdgeBank MRR, int64", "float32", "recency MRR, int64", "float32",
    ]  # fmt: skip
    rows = [
        [n, f"{x['distinct']:,}", f"{x['distinct32']:,}", share(x["wrong"]),
         *four(x, "edgebank", "edgebank32", "recency", "recency32")]
        for n, x in found.items()
    ]  # fmt: skip
    return markdown(head, rows)


def remembered(found: dict[str, Any]) -> str:
    return markdown(["memory at the start of the test part", "MRR"], [[n, f"{x:.4f}"] for n, x in found.items()])


def pretrained(found: dict[str, Any]) -> str:
    names = {"training": "the training events", "everything": "all events, the test part's too"}
    rows = [[names[n], f"{np.mean(x):.4f}", ", ".join(f"{each:.4f}" for each in x)] for n, x in found.items()]
    return markdown(["static memory pre-trained on", "MRR", "of each seed"], rows)


def uneven(found: dict[str, Any]) -> str:
    head = [
        "stream, asked for", "shortest and longest list", "events with a shorter list",
        "MRR, masked", "padded with node 0", "cut to the shortest",
    ]  # fmt: skip
    rows = [
        [n, f"{x['shortest']} and {x['longest']}", share(x["ragged"], 2), *four(x, "masked", "padded", "cut")]
        for n, x in found.items()
    ]
    return markdown(head, rows)


def labelled(found: dict[str, Any]) -> str:
    names = {
        "exact": "every event before the label's time",
        "stale": f"the whole batches of {rules.LABEL_BATCH} events before it",
        "ahead": "those, and all of the batch that it falls into (sees the answer)",
        "never": "none of the part: batches that hold labels alone read no events",
    }
    return markdown(["the forecast knows", "NDCG@10"], [[what, f"{found[n]:.4f}"] for n, what in names.items()])


def measure_equal_times(data: Data) -> dict[str, Any]:
    found = {}
    for name in TIED:
        stream = data.stream(name)
        _, counts = np.unique(stream.time, return_counts=True)
        shared = float(counts[counts > 1].sum() / counts.sum())
        found[name] = (shared, rules.equal_times(stream))
    return found


def summary(found: dict[str, Any]) -> str:
    """One line per trap: the widest move of one thing."""

    def spread(values: dict[str, float]) -> str:
        low, high = min(values.values()), max(values.values())
        return f"{low:.4f} to {high:.4f}"

    def column(table: dict[str, dict[str, float]], name: str) -> str:
        return spread({case: row[name] for case, row in table.items()})

    sizes = {roots: column(found["batch-size"], roots) for roots in ("event", "node")}
    tied_rule = _ranks(found["ties"]["edgebank"])
    same = found["equal-times"]["collegemsg"][1]
    short = found["float32"]["collegemsg"]
    lists = found["ragged"]["primaryschool, 241"]
    static = {name: float(np.mean(values)) for name, values in found["static"].items()}
    labels = {name: found["labels"][name] for name in ("exact", "stale", "ahead", "never")}
    rows = [
        [
            "negatives",
            f"TGN: MRR {column(found['population-mrr'], 'model')}, AP {column(found['population-ap'], 'model')}",
        ],
        ["ties", f"EdgeBank: MRR {spread(tied_rule)}; a constant: {spread(_ranks(found['ties']['constant']))}"],
        ["mean over what", f"TGN: AP {column(found['averages'], 'ap')}"],
        [
            "batch size",
            f"TGN: MRR {sizes['event']}, or {sizes['node']} with neighbors as of the batch's start",
        ],
        ["equal times", f"recency on CollegeMsg: MRR {column(same, 'recency')}"],
        ["float32 times", f"recency on CollegeMsg: MRR {spread({n: short[n] for n in ('recency', 'recency32')})}"],
        ["memory", f"TGN: MRR {spread(found['memory'])}"],
        ["static vectors", f"TGN on CollegeMsg: MRR {spread(static)}"],
        ["uneven lists", f"recency: MRR {spread({n: lists[n] for n in ('masked', 'padded', 'cut')})}"],
        ["labels of nodes", f"a forecast: NDCG@10 {spread(labels)}"],
    ]
    return markdown(["", "trap", "from the lowest to the highest"], [[n, *row] for n, row in enumerate(rows, 1)])


def _ranks(values: dict[str, float]) -> dict[str, float]:
    return {name: values[name] for name in ("optimistic", "half", "pessimistic")}


Trap = tuple[Callable[[Data], Any], Callable[[Any], str]]
TRAPS: dict[str, Trap] = {
    "population-mrr": (lambda d: model.populations(d.run, MRR_CASES, "mrr"), ranked),
    "population-ap": (lambda d: model.populations(d.run, AP_CASES, "ap"), precision),
    "ties": (lambda d: model.ties(d.run), tied),
    "averages": (lambda d: model.averages(d.run, (10, 50, 200, 600, 2000)), averaged),
    "batch-size": (lambda d: model.batch_sizes(d.run, (10, 50, 200, 600, 2000, 8000)), sized),
    "equal-times": (measure_equal_times, same_time),
    "float32": (lambda d: {name: rules.float32_times(d.stream(name)) for name in SHORT}, short_times),
    "memory": (lambda d: model.memories(d.run), remembered),
    "static": (
        lambda d: model.static_pretraining(
            d.path("collegemsg"), d.out, 2, train__epochs=4, static__epochs=10, static__dropout=0.0
        ),
        pretrained,
    ),
    "ragged": (
        lambda d: {
            "wikipedia, 999": rules.padded(d.stream("wikipedia"), 999),
            "primaryschool, 241": rules.padded(d.stream("primaryschool"), 241),
        },
        uneven,
    ),
    "labels": (lambda d: rules.labels_between_batches(d.stream("collegemsg")), labelled),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="folder of the real streams")
    parser.add_argument("--out", type=Path, default=Path("build/traps"))
    parser.add_argument("--only", nargs="+", choices=list(TRAPS), default=list(TRAPS))
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = Data(arguments.source, arguments.out)
    for name in arguments.only:
        measure, table = TRAPS[name]
        kept = arguments.out / f"trap-{name}.json"
        if arguments.again or not kept.exists():
            kept.write_text(json.dumps(measure(data)))
        print(f"{name}:")
        publish(PAGE, name, table(json.loads(kept.read_text())), arguments.write)
    kept_all = {name: arguments.out / f"trap-{name}.json" for name in TRAPS}
    if all(file.exists() for file in kept_all.values()):
        found = {name: json.loads(file.read_text()) for name, file in kept_all.items()}
        publish(PAGE, "summary", summary(found), arguments.write)


if __name__ == "__main__":
    main()
