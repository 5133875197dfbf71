"""An import in a process of its own, with its time and its two peaks of memory: what the import benchmarks share.

All resident memory counts mapped files, whose pages the system may drop at any moment; anonymous memory cannot be
dropped, so that is what a process really holds.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any


def run_import(source: Path, out: Path, memory_limit: str) -> dict[str, Any]:
    """Import ``source`` with the edge features ``f*`` into ``out``; what :func:`import_and_measure` says of it."""
    return in_child(Path(__file__), str(source), str(out), memory_limit)


def in_child(script: Path, *arguments: str) -> dict[str, Any]:
    """Run a script in a process of its own, whose last line is its result in JSON."""
    command = [sys.executable, str(script), *arguments]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])  # interpreters may print other lines before


def import_and_measure(source: str, out: str, memory_limit: str) -> dict[str, Any]:
    """Runs in the process that is measured."""
    from tgscale.data.ingest import import_events

    steps: list[tuple[str, float]] = []
    peak = PeakMemory()
    report = import_events(
        source,
        out,
        edge_features="f*",
        memory_limit=memory_limit,
        progress=lambda step: steps.append((step, time.perf_counter())),
    )
    steps.append(("end", time.perf_counter()))
    return {
        "events": report.events,
        "nodes": report.nodes,
        "seconds": report.seconds,
        "bytes": report.bytes,
        "parts": {name: round(after - at, 1) for (name, at), (_, after) in itertools.pairwise(steps)},
        "peak": status("VmHWM"),
        "peak_anonymous": peak.anonymous,
    }


def status(name: str) -> int:
    """One line of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


class PeakMemory:
    """Keeps the highest anonymous memory of this process, for which the system keeps no peak of its own."""

    def __init__(self) -> None:
        self.anonymous = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.anonymous = max(self.anonymous, status("RssAnon"))
            time.sleep(0.02)


def describe(result: dict[str, Any], source_bytes: int) -> str:
    """A result of :func:`run_import` in a line."""
    return (
        f"source {source_bytes / 1e9:.2f} GB | {result['seconds']:.1f} s, "
        f"{result['events'] / result['seconds']:,.0f} events/s | peak resident {result['peak'] / 1e9:.2f} GB, "
        f"of it anonymous {result['peak_anonymous'] / 1e9:.2f} GB | "
        f"store {result['bytes'] / result['events']:.1f} bytes/event | {result['parts']}"
    )


if __name__ == "__main__":
    print(json.dumps(import_and_measure(*sys.argv[1:])))
