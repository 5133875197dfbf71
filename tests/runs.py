"""Runs as a user starts them, in processes of their own: to be watched, killed, and compared."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tgscale import cli
from tgscale.stream.trainer import load_config
from tgscale.train import checkpoint
from tgscale.train.checkpoint import Checkpointer
from tgscale.train.distributed import Ranks

OPTIONS = ["--model.dim", "16", "--sampling.neighbors", "4", "--train.batch-size", "100", "--train.negatives", "1"]
OPTIONS += ["--train.patience", "0", "--device", "cpu", "--checkpoint-every", "7"]
EVENTS, NODES = 3000, 200

TGSCALE = [sys.executable, "-m", "tgscale"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
CLOCKS = {"seconds", "seconds_per_sweep", "events_per_second", "val_seconds", "processes", "environment"}
CLOCKS |= {"peak_memory_bytes", "peak_cuda_memory_bytes"}


def run_here(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    """Run a command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["tgscale", *argv])
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


def same(a, b) -> bool:
    """Whether states are equal to the last bit: tensors, and what holds them."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


class Launch:
    """A command and all processes that come of it.

    Args:
        folder: where it runs.
        command: its words.
        env: more environment variables.
    """

    def __init__(self, folder: Path, *command: str, **env: str) -> None:
        self._mark = secrets.token_hex(8)  # in the environment of all of them
        env = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "TGSCALE_TEST": self._mark, **env}
        self._file = folder / f"{self._mark}.out"
        with open(self._file, "w") as file:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **env},
                stdout=file,
                stderr=file,
                start_new_session=True,
                # Ctrl-C counts, even where these tests run in the background of a shell, which ignores it.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self._addresses: set[str] = set()

    @property
    def printed(self) -> str:
        """What all of them have printed so far."""
        return self._file.read_text()

    def processes(self) -> dict[str, list[int]]:
        """Those that live, by name: ``"rank 0"``, ``"daemon"``, ``"agent"`` (torchrun, or the command's own)."""
        found: dict[str, list[int]] = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                name = self._name(folder) if folder.name.isdigit() else None
                if name:
                    found.setdefault(name, []).append(int(folder.name))
        return found

    def _name(self, folder: Path) -> str | None:
        environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        if f"TGSCALE_TEST={self._mark}" not in environment or not is_alive(int(folder.name)):
            return None
        if b"tgscale.memory.daemon" in (folder / "cmdline").read_bytes():
            return "daemon"
        ranks = [word.partition("=")[2] for word in environment if word.startswith("RANK=")]
        return f"rank {ranks[0]}" if ranks else "agent"

    def wait_for(self, what: str, condition: Callable[[], object], pause: float = 0.01) -> None:
        """Until something is so while the command runs; looks again after some seconds of pause."""
        deadline = time.monotonic() + 120
        while not condition():
            assert self.process.poll() is None, f"it ended before {what}: {self.printed}"
            assert time.monotonic() < deadline, f"{what} did not happen: {self.printed}"
            time.sleep(pause)

    def kill(self, name: str) -> int:
        """SIGKILL to one process; its number."""
        self._note_addresses()
        return self.send(name, signal.SIGKILL)

    def send(self, name: str, number: signal.Signals) -> int:
        """A signal to one process; its number."""
        pid = self.processes()[name][0]
        os.kill(pid, number)
        return pid

    def kill_all(self) -> bool:
        """SIGKILL to all; whether the command was still running."""
        self._note_addresses()
        running = self.process.poll() is None
        while self.processes():
            self._signal_all(signal.SIGKILL)
            self.process.poll()
        self.process.wait()
        return running

    def stop(self) -> None:
        """Let all stand still."""
        self._signal_all(signal.SIGSTOP)

    def proceed(self) -> None:
        """Let all go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        for pids in self.processes().values():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._note_addresses()
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, seconds: float = 240) -> int:
        """Wait for the command; its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended after {seconds} s: {self.printed}") from None
        finally:
            if self.process.poll() is None:
                self.kill_all()

    def leaves_nothing(self, seconds: float = 20) -> bool:
        """Whether, soon after the command has ended, no process, socket or shared memory is left."""
        deadline = time.monotonic() + seconds
        while self.processes() or self._addresses & _abstract_sockets().keys() or _shared_files():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _note_addresses(self) -> None:
        """Remember where the daemons of this run listen."""
        sockets = {inode: name for name, inodes in _abstract_sockets().items() for inode in inodes}
        for pid in self.processes().get("daemon", []):
            with contextlib.suppress(OSError):
                links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
                own = {link.removeprefix("socket:[").removesuffix("]") for link in links}
                self._addresses |= {name for inode, name in sockets.items() if inode in own}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _abstract_sockets() -> dict[str, set[str]]:
    """Names of ours in the abstract namespace, and the inodes of their sockets."""
    found: dict[str, set[str]] = {}
    for line in Path("/proc/net/unix").read_text().splitlines():
        words = line.split()
        if words[-1].startswith("@tgscale"):
            found.setdefault(words[-1], set()).add(words[6])
    return found


def _shared_files() -> list[str]:
    return [name for name in os.listdir("/dev/shm") if "tgscale" in name]


def without_clock(value):
    """A result or a line of metrics without what depends on when and how fast it was made."""
    if isinstance(value, dict):
        return {key: without_clock(item) for key, item in value.items() if key not in CLOCKS}
    return value


def lines_of(run: Path) -> list[dict]:
    """``metrics.jsonl``, without clocks."""
    return [without_clock(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]


def result_of(run: Path) -> dict:
    """``result.json``, without clocks."""
    return without_clock(json.loads((run / "result.json").read_text()))


def states_of(run: Path, kind: str = "steps", before: int = 0) -> tuple[int, list[dict]]:
    """The newest checkpoint, or one some before it: its step, and the state of each rank, without clocks."""
    config = load_config(run)
    world = 1 if config.emulate or kind == "best" else config.run_layout.world
    saver = Checkpointer(run / "checkpoints" / kind)
    step = saver.steps()[-1 - before]
    states = [checkpoint._read(saver._path(step), Ranks(rank, world)) for rank in range(world)]
    states[0].get("shared", {}).pop("seconds", None)
    return step, states


def differences(a, b, where: str = "") -> list[str]:
    """Where two states are not the same, bit for bit."""
    if type(a) is not type(b):
        return [f"{where}: {type(a).__name__}, {type(b).__name__}"]
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        return [] if same else [f"{where}: tensors"]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{where}: keys {sorted(map(str, a.keys() ^ b.keys()))}"]
        return [found for key in a for found in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{where}: {len(a)} and {len(b)} items"]
        return [found for i in range(len(a)) for found in differences(a[i], b[i], f"{where}/{i}")]
    return [] if a == b else [f"{where}: {a}, {b}"]


def differences_of_runs(a: Path, b: Path, *, except_for: tuple[str, ...] = ()) -> list[str]:
    """Where what two finished runs leave is not the same: results, metrics, and the last checkpoint of every rank.

    Args:
        a, b: the runs.
        except_for: names in the part of the result about training that may differ.
    """
    results = [result_of(run) for run in (a, b)]
    for result in results:
        for name in except_for:
            result["train"].pop(name)
    found = differences(*results, "result") + differences(lines_of(a), lines_of(b), "metrics")
    for kind in ("steps", "best"):
        found += differences(states_of(a, kind), states_of(b, kind), kind)
    return found
