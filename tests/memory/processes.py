"""Trainers in processes of their own, and a look at what processes leave behind."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Processes are forked from one that has imported torch; they find what they import here.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "torch.distributed", "hypothesis"])
_HERE = str(Path(__file__).parent)


class Remote:
    """A trainer in another process."""

    def __init__(self) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        if _HERE not in sys.path:
            sys.path.append(_HERE)
        from trainer_process import serve

        self._connection, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def start(self, command: str, **arguments) -> None:
        """Tell it to do something."""
        self._connection.send((command, arguments))

    def result(self):
        """What came of it."""
        assert self._connection.poll(60), "the trainer does not answer"
        return self._connection.recv()

    def __call__(self, command: str, **arguments):
        self.start(command, **arguments)
        return self.result()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def comes_true(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether something happens soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def has_socket(address: str) -> bool:
    """Whether anybody listens at an address in the abstract namespace."""
    return any(line.endswith(address) for line in Path("/proc/net/unix").read_text().splitlines())


def shared_files() -> set[str]:
    """Files of ours in /dev/shm."""
    return {name for name in os.listdir("/dev/shm") if "tgscale" in name}


def is_gone(address: str, process: int) -> bool:
    """Whether nothing is left of a daemon."""
    return not is_alive(process) and not has_socket(address) and not shared_files()
