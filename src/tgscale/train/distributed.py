"""The processes of a run, as ``torchrun`` started them: who they are, and what they exchange."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

# Imported while there is a process group, as optimizers do, this module keeps that as the default of its arguments:
# gloo's threads then outlive `destroy_process_group` and abort the process when Python ends under them.
import torch.distributed.nn.functional
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from tgscale import errors
from tgscale.errors import ConfigError, LostPeerError, TgscaleError
from tgscale.train.meeting import meet

TIMEOUT = datetime.timedelta(minutes=30)
"""How long a rank waits for the others before it gives up. One that died is noticed at once; this is for networks."""

ALONE = datetime.timedelta(days=2)
"""The same where one rank may be at work while the others wait for what it has to say: pre-training, rules, files."""


STOPPED_WITHIN = 3.0
"""Seconds that a rank which has lost another waits to be stopped as well before it says so."""

GRACE = 30
"""Seconds that a rank has to save and end when ``torchrun`` is gone; as many as that gives its ranks."""


@dataclass
class Ranks:
    """This process among all processes of the run. One process that was started alone is rank 0 of 1.

    Attributes:
        rank, world: number of this process, and how many there are.
        local_rank, local_world: the same on this machine.
        restarts: how often ``torchrun`` has restarted this process's machine.
        objects: the process group that objects go through, which waits longer (:data:`ALONE`).
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    restarts: int = 0
    objects: dist.ProcessGroup | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def from_environment(cls) -> Ranks:
        """What ``torchrun`` put into the environment."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
        if "WORLD_SIZE" not in os.environ:
            return cls()
        return cls(*(int(os.environ.get(name, default)) for name, default in zip(names, (0, 1, 0, 1, 0), strict=True)))

    @property
    def machines(self) -> int:
        return max(1, self.world // self.local_world)

    @property
    def starter(self) -> str:
        """Who answers for this process: the ``torchrun`` that started it, and that may start it again, or it itself."""
        process = os.getppid() if _by_torchrun() else os.getpid()
        return f"process {process} on {socket.gethostname()}"

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which prints and writes what concerns all."""
        return self.rank == 0

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Connect all ranks: gloo between CPUs, NCCL between GPUs.

        Raises:
            ConfigError: machines have started different numbers of processes.
            LostPeerError: a rank ended before all were there.
        """
        if _by_torchrun():
            _end_with_parent()
        if self.world == 1:
            yield
            return
        if torch.cuda.is_available() and self.local_rank < torch.cuda.device_count():
            torch.cuda.set_device(self.local_rank)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            with self._lost_peer():
                store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
                store = meet(store, self.rank, self.world, TIMEOUT)
                dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.world, timeout=TIMEOUT)
                self.objects = dist.new_group(backend="gloo", timeout=ALONE)
            self._refuse_uneven()
            yield
        except LostPeerError:
            # What ended the other, Ctrl-C or torchrun that found it dead, knows why, and is about to end this one, too.
            if _by_torchrun():
                time.sleep(STOPPED_WITHIN)
            raise
        finally:
            # Peers that have died would be waited for; the process is ending anyway.
            if sys.exc_info()[0] is None:
                self.objects = None
                dist.destroy_process_group()

    def group_of(self, size: int) -> dist.ProcessGroup:
        """A process group of its own for this rank and the others of its run of ``size`` consecutive ranks."""
        with self._lost_peer():
            own, _ = dist.new_subgroups(size)
        return own

    def sum(self, tensor: Tensor) -> None:
        """Add up a tensor over all ranks, in place."""
        if self.world > 1:
            with self._lost_peer():
                dist.all_reduce(tensor)

    def sum_sparse(self, grad: Tensor, shape: torch.Size) -> Tensor:
        """The sum over all ranks of sparse ``grad`` (rows of a ``shape`` table), coalesced in rank order."""
        if self.world == 1:
            return grad
        grad = grad.coalesce()
        index, rows = grad.indices()[0], grad.values()
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(self.world)]
        with self._lost_peer():
            dist.all_gather(counts, torch.tensor([len(index)], device=rows.device))
            most = int(torch.cat(counts).max())
            padded_index, padded_rows = index.new_zeros(most), rows.new_zeros(most, rows.shape[1])
            padded_index[: len(index)], padded_rows[: len(index)] = index, rows
            all_index = [torch.empty_like(padded_index) for _ in range(self.world)]
            all_rows = [torch.empty_like(padded_rows) for _ in range(self.world)]
            dist.all_gather(all_index, padded_index)
            dist.all_gather(all_rows, padded_rows)
        index = torch.cat([part[: int(n)] for part, n in zip(all_index, counts, strict=True)])
        rows = torch.cat([part[: int(n)] for part, n in zip(all_rows, counts, strict=True)])
        return torch.sparse_coo_tensor(index[None], rows, shape).coalesce()

    def all_to_all(self, rows: Tensor, send: list[int], receive: list[int]) -> Tensor:
        """Some rows to each rank, and what each sent to this one.

        Args:
            rows: ``[sum(send), ...]``, those for rank 0 first.
            send, receive: number of rows to and from each rank; every rank calls with what the others expect.

        Returns:
            ``[sum(receive), ...]``, those from rank 0 first; no gradient passes.
        """
        if self.world == 1:
            return rows.detach()
        received = rows.new_empty(sum(receive), *rows.shape[1:])
        with self._lost_peer():
            dist.all_to_all_single(received, rows.detach().contiguous(), receive, send)
        return received

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Rank 0's tensors to all, in place."""
        if self.world > 1:
            with self._lost_peer():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def broadcast_object(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        if self.world == 1:
            return value
        box = [value]
        with self._lost_peer():
            dist.broadcast_object_list(box, src=0, group=self.objects)
        return box[0]

    def gather_objects(self, value: Any) -> list[Any]:
        """The value of every rank, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with self._lost_peer():
            dist.all_gather_object(values, value, group=self.objects)
        return values

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.gather_objects(None)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A step that may fail on some ranks: when it does, all ranks raise that same error."""
        error: TgscaleError | None = None
        try:
            yield
        except TgscaleError as caught:
            error = caught
        found = self.gather_objects(None if error is None else (type(error).__name__, str(error), socket.gethostname()))
        failed = [rank for rank, entry in enumerate(found) if entry]
        if not failed:
            return
        kind, text, host = found[failed[0]]
        alone = f"rank {failed[0]} on {host}: " if len(failed) < self.world else ""
        raise getattr(errors, kind)(alone + text) from error

    def _refuse_uneven(self) -> None:
        counts = self.gather_objects(self.local_world)
        if len(set(counts)) > 1:
            raise ConfigError(
                f"some machines have started {min(counts)} trainers and others {max(counts)}: give torchrun the same "
                "--nproc-per-node on all."
            )

    @contextlib.contextmanager
    def _lost_peer(self) -> Iterator[None]:
        """Say in words what torch.distributed says of a peer that has gone."""
        try:
            yield
        except RuntimeError as error:
            what = "a trainer lost its connection to another, which has died or was stopped: "
            what += "what is said of that one tells why."
            if "timed out" in str(error).lower():
                what = "a trainer has waited too long for another, which hangs or cannot be reached any more."
            lost = LostPeerError(f"{what} Checkpoints are as they were: go on with --resume.")
            lost.add_note(f"(rank {self.rank}: {_first(error)})")
            raise lost from error


def end_if_connected(end: BaseException) -> None:
    """End this process as ``end`` would, but at once, if it is still connected to other ranks.

    The interpreter's own way out takes Python from under the threads of gloo, which now and then abort the process
    (https://github.com/pytorch/pytorch/pull/179291): a refusal would look like a crash.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    code = end.code if isinstance(end, SystemExit) else 1
    if not isinstance(end, SystemExit):
        sys.excepthook(type(end), end, end.__traceback__)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else code is not None)


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _end_with_parent() -> None:
    """End this process soon after ``torchrun`` was killed, which can no longer stop the ranks nor start them again."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _first(error: BaseException) -> str:
    """The first sentence of an error, without the place in the source that gloo puts before it."""
    text = re.sub(r"^\[[^\]]*\] *", "", str(error).strip()) or type(error).__name__
    return text.splitlines()[0].split(". ")[0][:200]
