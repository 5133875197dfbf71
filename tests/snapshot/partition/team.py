"""Processes of a partition, started once for many cases."""

import multiprocessing
import sys
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "torch.distributed"])
_ROOT = str(Path(__file__).parents[3])


class Team:
    """P processes that do the same things together."""

    def __init__(self, world, folder):
        if _ROOT not in sys.path:  # where the processes find what they run
            sys.path.append(_ROOT)
        from .partition_process import serve

        self.world = world
        pipes = [_CONTEXT.Pipe() for _ in range(world)]
        self._connections = [ours for ours, _ in pipes]
        store = str(folder / "store")
        self._processes = [
            _CONTEXT.Process(target=serve, args=(theirs, store, rank, world), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process, (_, theirs) in zip(self._processes, pipes, strict=True):
            process.start()
            theirs.close()

    def __call__(self, command, **arguments):
        """What each process answers."""
        for connection in self._connections:
            connection.send((command, arguments))
        answers = []
        for rank, connection in enumerate(self._connections):
            assert connection.poll(60), f"process {rank} does not answer"
            done, answer = connection.recv()
            assert done, f"process {rank}: {answer}"
            answers.append(answer)
        return answers

    def close(self):
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(5)
            process.kill()
