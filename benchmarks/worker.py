"""A benchmark's systems, each in a process of its own that takes a JSON request per line and answers with one.

Of the standard library alone, since the other side runs in the interpreter of the system that it measures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Worker:
    """A process that runs a script of this folder, with its number of threads as the only argument.

    Args:
        python: interpreter to run it with.
        script: file name.
        threads: for OpenMP and Numba.
        env: more environment variables.
    """

    def __init__(self, python: str | Path, script: str, threads: int, env: Mapping[str, str] | None = None) -> None:
        counts = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
        self.process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name(script)), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **counts, **(env or {})},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; ends the program where the process has ended."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.process.args!r} ended in {request}")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def serve(actions: Mapping[str, Callable[..., dict[str, Any] | None]]) -> None:
    """Answer each request by the action that its ``do`` names, until there are no more.

    What else an action or a library prints goes to the standard error, so that it is not taken for an answer.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        answer = actions[request.pop("do")](**request)
        print(json.dumps(answer or {}), file=answers, flush=True)
