"""A trainer in a process of its own, which does what it is told."""

import torch
import torch.distributed as dist
from walks import NODES, Walk, Walker, differences, start_state

from tgscale.errors import TgscaleError
from tgscale.memory.local import LocalMemory
from tgscale.memory.replicated import ReplicatedMemory
from tgscale.memory.shared import SharedMemory, start_daemon


class Trainer:
    """Its methods are the commands."""

    memory = None

    def daemon(self, members, dim=2, double=False, copy=0):
        self.handle = start_daemon(NODES, dim, torch.float64 if double else torch.float32, members, copy)
        return {"address": self.handle.address, "process": self.handle.process.pid}

    def join(self, address, member, rank):
        self.memory = SharedMemory(address, member, rank, 10, 10, daemon=getattr(self, "handle", None))

    def wait(self, position):
        self.memory.wait(position)

    def commit_nothing(self, position, writers):
        self.memory.commit(position, None, writers, False)

    def close(self):
        self.memory.close()

    def connect(self, store, rank, world):
        dist.init_process_group("gloo", store=dist.FileStore(store, world), rank=rank, world_size=world)

    def replicate(self, members, minibatch, double=False):
        """One copy for the first of the connected processes."""
        group = dist.new_group(list(range(members)))
        if dist.get_rank() < members:
            local = LocalMemory(NODES, 2, dtype=torch.float64 if double else torch.float32)
            self.memory = ReplicatedMemory(local, group, dist.get_rank(), minibatch, capacity=NODES + 2)

    def share(self, members, double=False):
        """The same with a daemon."""
        rank = dist.get_rank()
        address = [self.daemon(members, double=double)["address"] if rank == 0 else None]
        dist.broadcast_object_list(address, src=0)
        if rank < members:
            daemon = self.handle if rank == 0 else None
            self.memory = SharedMemory(address[0], rank, rank, NODES, NODES, daemon=daemon)

    def walk(self, walk, backend):
        """Go on a walk; returns what was wrong on it."""
        walk, member = Walk.from_dict(walk), dist.get_rank()
        if backend == "shared":
            self.share(walk.members, walk.double)
        else:
            self.replicate(walk.members, walk.minibatch, walk.double)
        members = dist.new_group(list(range(walk.members)))
        return self._go(walk, member, members) if member < walk.members else []

    def _go(self, walk, member, members):
        if walk.first and member == 0:
            self.memory.load_state_dict(start_state(walk), walk.first)
        dist.barrier(members)
        walker = Walker(self.memory, walk, member)
        for position in walk.range:
            walker.receive(position)
            walker.commit(position)
            if position % 3:  # as an all-reduce would, it lets nobody run ahead
                dist.barrier(members)
        self.memory.wait(walk.range.stop)
        state = self.memory.state_dict()
        reads: list = [None] * walk.members
        dist.all_gather_object(reads, walker.read, group=members)
        self.memory.close()
        read = {(p, m): rows for m, own in enumerate(reads) for p, rows in own.items()}
        return differences(walk, read, state)


def serve(connection):
    """Do what comes through the connection, and answer."""
    torch.set_num_threads(1)
    trainer = Trainer()
    while True:
        command, arguments = connection.recv()
        try:
            answer = getattr(trainer, command)(**arguments)
        except TgscaleError as error:
            answer = error
        connection.send(answer)
