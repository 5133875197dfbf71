"""Training events per second against PyG's and TGM's own TGN, on the Wikipedia stream with random edge features.

    python benchmarks/peers.py --out build/peers
    python benchmarks/stream_peers.py --source ../shared/data --out build/peers [--batches 200] [--threads 1] [--write]

Each system runs in a process of its own, and they take turns round by round, so that what else the machine does meets
all of them. In a round each trains the same events from an empty memory: those of ``--warm-up`` are not timed, the
``--events`` after them are, with everything from sampling and negatives to the optimiser and the write-back inside.
Weights go on from round to round; after the last one, the next 5,000 events are scored against one negative each,
which is there to show that all of them learn, not to compare them.

One combination of batch size and threads is kept in one file of OUT; the table holds all that are there, so it can be
made in pieces. ``--write`` puts it into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from peers import interpreter
from stream_peers_case import Case
from tables import DOCS, markdown, publish
from worker import Worker

from tgscale.train.environment import describe_environment

SCORED = 5000
FEATURES = 172


@dataclass(frozen=True)
class System:
    """One of those that take turns.

    Attributes:
        script: its side, a file of this folder.
        peer: runs in the interpreter of the peers.
        options: sent with the request to start.
    """

    script: str
    peer: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def worker(self, out: Path, threads: int) -> Worker:
        python = interpreter(out) if self.peer else Path(sys.executable)
        # As tgscale's command line does; PyG and TGM have no command line, so they run on the defaults.
        return Worker(python, self.script, threads, {} if self.peer else {"OMP_WAIT_POLICY": "PASSIVE"})


OURS = "stream_peers_ours.py"
NODE = {"sampling__roots": "node"}  # a node once per batch, as PyG and TGM embed it
LEARNED = {"model__time_encoding": "learned"}  # its frequencies, as theirs are
SYSTEMS = {
    "PyG": System("stream_peers_pyg.py", peer=True),
    "TGM": System("stream_peers_tgm.py", peer=True),
    "tgscale": System(OURS),
    "tgscale, learned": System(OURS, options=LEARNED),
    "tgscale, node roots": System(OURS, options=NODE),
    "tgscale, node roots, learned": System(OURS, options={**NODE, **LEARNED}),
}


@dataclass
class Result:
    """What was measured with one batch size and number of threads; lists by system and round."""

    batch_size: int
    threads: int
    events: int
    machine: str
    versions: dict[str, str] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    ap: dict[str, float] = field(default_factory=dict)

    def ratio(self, name: str, peer: str) -> str:
        """Median over the rounds of a system's rate over a peer's, with the least and the greatest."""
        if peer not in self.rates or name == peer:
            return ""
        each = [ours / theirs for ours, theirs in zip(self.rates[name], self.rates[peer], strict=True)]
        return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"

    def rows(self) -> Iterator[list[str]]:
        for name, rates in self.rates.items():
            yield [
                f"{self.batch_size}",
                f"{self.threads}",
                name,
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                self.ratio(name, "PyG"),
                self.ratio(name, "TGM"),
                f"{self.losses[name][-1]:.3f}",
                f"{self.ap[name]:.3f}",
            ]


def make_case(source: Path, batch_size: int, options: argparse.Namespace) -> Case:
    """The first events of the stream, with features of a fixed seed."""
    table = pq.read_table(source / "wikipedia" / "events.parquet")
    train = options.warm_up + options.events
    src, dst, when = (table[name].to_numpy().astype(np.int64) for name in ("src", "dst", "t"))
    nodes, (src, dst, when) = int(max(src.max(), dst.max())) + 1, (x[: train + SCORED] for x in (src, dst, when))
    features = np.random.default_rng(0).normal(size=(len(src), FEATURES)).astype(np.float32)
    return Case(src, dst, when, features, nodes, options.warm_up, train, batch_size, options.rounds)


def measure(path: Path, case: Case, threads: int, options: argparse.Namespace) -> Result:
    """Take turns."""
    environment = describe_environment()
    machine = f"{environment['cpu']}, {environment['cores']} cores, Python {environment['python']}"
    result = Result(case.batch_size, threads, options.events, machine)
    with ExitStack() as stack:
        workers = {}
        for name in options.systems:
            workers[name] = stack.enter_context(SYSTEMS[name].worker(options.out, threads))
            result.versions[name] = workers[name].ask(do="start", case=str(path), **SYSTEMS[name].options)["version"]
        for _ in range(options.rounds):
            for name, worker in workers.items():
                answer = worker.ask(do="round")
                assert answer["events"] == options.events, f"{name} trained {answer['events']} events"
                result.rates.setdefault(name, []).append(answer["events"] / answer["seconds"])
                result.losses.setdefault(name, []).append(answer["loss"])
                print(f"{name}: {result.rates[name][-1]:,.0f} events/s", file=sys.stderr, flush=True)
        result.ap = {name: worker.ask(do="score")["ap"] for name, worker in workers.items()}
    return result


def table(results: list[Result]) -> str:
    """All rows, and what they were measured with."""
    head = ["batch", "threads", "system", "events/s", "least to most", "x PyG", "x TGM", "loss", "AP"]
    measured = markdown(head, (row for result in results for row in result.rows()))
    versions = sorted({version for result in results for version in result.versions.values()})
    rounds = sorted({len(rates) for result in results for rates in result.rates.values()})
    events = sorted({result.events for result in results})
    said = [f"{' and '.join(map(str, rounds))} rounds of {' and '.join(f'{n:,}' for n in events)} events"]
    said += sorted({result.machine for result in results}) + versions
    return f"{measured}\n\nMedians of {'; '.join(said)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True, help="where peers.py has installed them")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--batches", nargs="*", type=int, default=[200, 600], help="none: the table alone")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=3000, help="events ahead of the timed ones")
    parser.add_argument("--events", type=int, default=30_000, help="timed events of a round")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    kept = options.out / "stream"
    kept.mkdir(parents=True, exist_ok=True)
    for batch_size in options.batches:
        if options.warm_up % batch_size or options.events % batch_size:
            parser.error(
                f"--warm-up {options.warm_up} and --events {options.events} are not whole batches of {batch_size}"
            )
        path, case = kept / f"case-{batch_size}.npz", make_case(options.source, batch_size, options)
        case.save(path)
        for threads in options.threads:
            result = measure(path, case, threads, options)
            (kept / f"{batch_size}-{threads}.json").write_text(json.dumps(asdict(result), indent=1))
    results = [Result(**json.loads(file.read_text())) for file in kept.glob("*.json")]
    results.sort(key=lambda result: (result.batch_size, result.threads))
    publish(DOCS / "benchmarks.md", "stream peers", table(results), options.write)


if __name__ == "__main__":
    main()
