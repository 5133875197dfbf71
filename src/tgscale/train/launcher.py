"""Several processes on this machine, started and watched as ``torchrun --standalone`` does; the words are ours."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import uuid
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tgscale.errors import RunError
from tgscale.train.interrupt import TERMINATED

AGENT, WATCH = "torch.distributed.elastic.agent.server.api", "torch.distributed.elastic.multiprocessing.api"
"""Loggers of torch: of the signals that it gets, and of the processes that it ends or finds ended."""


def start_workers(count: int, max_restarts: int, arguments: list[str]) -> int:
    """Run ``count`` processes of ``python ARGUMENTS`` on this machine until all have ended.

    When one fails, the others are stopped.

    Args:
        count: of processes.
        max_restarts: how often all are started anew when one has failed.
        arguments: a file, or ``-m`` and a module, and their arguments.

    Returns:
        The exit code: 0, or that of a process that has ended by an error of its own and has said why, or 128 and the
        number of the signal that this process has got, and passed on.

    Raises:
        RunError: a process was killed, or crashed.
    """
    deaths = _Deaths(max_restarts)
    watch, agent = logging.getLogger(WATCH), logging.getLogger(AGENT)
    watch.addFilter(deaths)
    agent.addFilter(lambda record: record.levelno > logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="tgscale-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=str(uuid.uuid4()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=max_restarts,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)(*arguments)
            return 0
        except ChildFailedError as error:
            code, what = _root_cause(error.failures)
            if what:
                raise RunError(f"{what}, and the run has ended.") from None
            return code
        except SignalException as stop:
            return 128 + stop.sigval
        finally:
            watch.removeFilter(deaths)


class _Deaths(logging.Filter):
    """Says in words which process torch has found dead, when all are to be started anew.

    Args:
        max_restarts: how often they are.
    """

    def __init__(self, max_restarts: int) -> None:
        super().__init__()
        self.restart, self.max_restarts = 0, max_restarts

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.WARNING:  # processes that torch stops because another has failed
            return False
        found: Any = record.args
        if not record.msg.startswith("failed (exitcode") or not isinstance(found, tuple) or len(found) < 3:
            return True
        self.restart += 1
        if self.restart <= self.max_restarts:
            what = _describe(*found[:3]) or f"trainer {found[1]} has failed"
            again = f"restart {self.restart} of {self.max_restarts}"
            print(f"tgscale: {what}: all trainers start again ({again}).", file=sys.stderr)
        return False


def _root_cause(failures: dict[int, Any]) -> tuple[int, str | None]:
    """Exit code of the process that failed first, and what to say of it: None when it has said it.

    The others are either stopped by SIGTERM, or end by themselves when they lose their connection to it.
    """
    order = sorted(failures, key=lambda rank: (_rank_of(failures[rank].exitcode), rank))
    first = failures[order[0]]
    return first.exitcode, _describe(first.exitcode, order[0], first.pid)


def _rank_of(code: int) -> int:
    if code in (-signal.SIGTERM, TERMINATED):
        return 2
    return 0 if code < 0 else 1


def _describe(code: int, rank: int, process: int) -> str | None:
    """How a process has ended; None when it has said so itself."""
    if code > 0:
        return None
    return f"trainer {rank} (process {process}) was killed by {signal.Signals(-code).name}"
