"""What a run stands on: device, threads, versions, memory."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import torch
from threadpoolctl import threadpool_limits

import tgscale
from tgscale.errors import ConfigError


def find_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device called ``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Args:
        name: as said.
        local_rank: number of this process among several on this machine: ``auto`` and ``cuda`` give each its own GPU.

    Raises:
        ConfigError: another name, or a GPU that is not there.
    """
    count = _gpus()
    if name == "auto":
        name = "cuda" if count else "cpu"
    if name == "cuda" and count and local_rank is not None:
        if local_rank >= count:
            raise ConfigError(
                f"there are {count} GPUs on this machine and more trainers than that: start {count} per machine, or "
                "use --device cpu."
            )
        name = f"cuda:{local_rank}"
    there = ["auto", "cpu"] + (["cuda"] if count else []) + [f"cuda:{i}" for i in range(count)]
    if name not in there:
        why = "" if count or not name.startswith("cuda") else " No GPU was found, or torch was built without CUDA."
        raise ConfigError(f"device {name!r} is not available: choose one of {', '.join(there)}.{why}")
    return torch.device(name)


def set_threads(count: int | None) -> int:
    """Let torch, numba and BLAS use ``count`` CPU threads, at most one per core; None: as many as torch chose.

    Returns:
        The number that torch now uses.

    Raises:
        ConfigError: a count below 1.
    """
    if count is not None and count < 1:
        raise ConfigError(f"threads is {count}: give 1 or more.")
    count = min(count, _cores()) if count else torch.get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    threadpool_limits(count, user_api="blas")
    torch.set_num_threads(count)  # in this order: when numba's threads start, they alter torch's setting
    return count


def keep_freed_memory() -> bool:
    """Let the C library keep the memory of large tensors that are freed, for the next ones; False where it cannot.

    glibc gives every block of more than 32 MB back to the system as it is freed, and smaller ones at the end of its
    heap. A training step on large snapshots then spends about half of its time on page faults.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    most, largest, pad = -4, -1, -2  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    return bool(mallopt(most, 0) and mallopt(largest, 2**31 - 1) and mallopt(pad, 64 << 20))


class FreedMemory:
    """Gives freed memory back to the system when there is much of it.

    glibc does so by itself at the end of its heap alone. Where large blocks of ever other sizes come and go between
    small ones that stay, the holes do not fit the next blocks, and the heap grows although no more of it is used.
    Where the system or the C library is another one, nothing is done.

    Args:
        slack: bytes by which the process may grow before freed pages are given back.
    """

    def __init__(self, slack: int = 128 << 20) -> None:
        self._slack = slack
        self._trim = None
        with contextlib.suppress(OSError, AttributeError):  # another C library
            self._trim = ctypes.CDLL(None).malloc_trim
        self._least = _private_bytes()

    def check(self) -> None:
        """Look at the size of the process (some microseconds), and give pages back if it has grown too much."""
        if self._trim is not None and _private_bytes() > self._least + self._slack:
            self._trim(ctypes.c_size_t(0))
            self._least = _private_bytes()


def _private_bytes() -> int:
    """Main memory of this process without pages of files, in bytes; 0 where the system does not say."""
    try:
        resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def peak_memory_bytes() -> int:
    """The most main memory that this process has held so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the process that started this one, too
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory_bytes() -> int:
    """Main memory that new programs can take without swapping, in bytes."""
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_cuda_memory_bytes() -> int:
    """The most memory that tensors of this process have held on any one GPU, in bytes; 0 where no GPU was used."""
    if not torch.cuda.is_initialized():
        return 0
    return max(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))


def describe_environment() -> dict[str, Any]:
    """Versions, machine, commit and command line, as plain JSON values."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "tgscale": tgscale.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy", "numba")},
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [torch.cuda.get_device_name(i) for i in range(_gpus())],
    }


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # what this process may use, not what the machine has
    return os.cpu_count() or 1


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the checkout that this code runs from, with ``-dirty`` when it was changed; None when installed."""
    package = Path(__file__).parents[1]
    git = ["git", "-C", str(package)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, timeout=10)
        if top.returncode or Path(top.stdout.strip()) / "src" / "tgscale" != package:
            return None
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
