"""What it costs a trainer to read and write node memory, by who holds it.

    python benchmarks/memory.py --nodes 100000 --dim 100 --rows 500 4000 20000

Medians over rounds, in microseconds of the trainer's own time. "posted ahead" is a read that was asked for long before
it is needed: what is left is the asking and the taking. A write costs the trainer until it can go on; "until applied"
adds the daemon's part, which goes on while the trainer computes. The replicated exchange has as much capacity as rows,
two trainers, and a write by one of them at a time.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from tgscale.memory import shared
from tgscale.memory.group import Write
from tgscale.memory.local import LocalMemory, MemoryRows
from tgscale.memory.replicated import ReplicatedMemory
from tgscale.memory.shared import SharedMemory, start_daemon
from tgscale.train.environment import describe_environment


def median(rounds: int, measure: Callable[[int], float]) -> float:
    """Median of what is measured, in microseconds, after a fifth more rounds to warm up."""
    warm = rounds // 5
    return statistics.median([measure(n) for n in range(warm + rounds)][warm:]) * 1e6


def seconds(action: Callable[[], object]) -> float:
    """Time that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def some_write(nodes: int, dim: int, rows: int, seed: int) -> Write:
    """Random rows of random nodes."""
    chosen = torch.randperm(nodes, generator=torch.Generator().manual_seed(seed))[:rows]
    state = MemoryRows(torch.rand(rows, dim), torch.arange(rows), torch.rand(rows, 2 * dim), torch.arange(rows))
    return Write(chosen, state)


def direct(nodes: int, dim: int, rows: int, rounds: int) -> dict[str, float]:
    """Plain tensors of this process."""
    memory = LocalMemory(nodes, dim)
    writes = [some_write(nodes, dim, rows, seed) for seed in range(16)]
    return {
        "read, this process": median(rounds, lambda n: seconds(lambda: memory.read(writes[n % 16].nodes))),
        "write, this process": median(
            rounds, lambda n: seconds(lambda: memory.write(writes[n % 16].nodes, writes[n % 16].rows))
        ),
    }


def daemon(nodes: int, dim: int, rows: int, rounds: int, pause: float) -> dict[str, float]:
    """A memory daemon, and this process as its only trainer."""
    process = start_daemon(nodes, dim)
    memory = SharedMemory(process.address, 0, 0, rows, rows, daemon=process)
    writes = [some_write(nodes, dim, rows, seed) for seed in range(16)]
    position = 0

    def commit(n: int) -> float:
        nonlocal position
        spent = seconds(lambda: memory.commit(position, writes[n % 16], 1, False))
        position += 1
        memory.wait(position)
        return spent

    def commit_and_wait(n: int) -> float:
        return seconds(lambda: commit(n))

    def round_trip(n: int) -> float:
        return seconds(lambda: (memory.request(position, writes[n % 16].nodes), memory.receive()))

    def posted_ahead(n: int) -> float:
        asking = seconds(lambda: memory.request(position, writes[n % 16].nodes))
        time.sleep(pause)
        return asking + seconds(memory.receive)

    found = {
        "read from the daemon, round trip": median(rounds, round_trip),
        "read from the daemon, posted ahead": median(rounds, posted_ahead),
        "write to the daemon": median(rounds, commit),
        "write to the daemon, until applied": median(rounds, commit_and_wait),
    }
    memory.close()
    return found


def exchange(rank: int, store: str, answers, nodes: int, dim: int, rows: int, rounds: int) -> None:
    """One of two trainers that keep a copy each; they write in turn (1 x 2)."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2)
    memory = ReplicatedMemory(LocalMemory(nodes, dim), dist.new_group([0, 1]), rank, 1, capacity=rows)
    writes = [some_write(nodes, dim, rows, seed) for seed in range(16)]

    def commit(position: int) -> float:
        write = writes[position % 16] if position % 2 == rank else None
        return seconds(lambda: (memory.commit(position, write, 1, False), memory.wait(position + 1)))

    found = median(rounds, commit)
    memory.close()
    if rank == 0:
        answers.send(found)
    dist.destroy_process_group()


def replicated(nodes: int, dim: int, rows: int, rounds: int) -> dict[str, float]:
    """Two trainers that keep a copy each."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f"{folder}/store", theirs, nodes, dim, rows, rounds)
        trainers = [spawn.Process(target=exchange, args=(rank, *arguments)) for rank in range(2)]
        for trainer in trainers:
            trainer.start()
        found = ours.recv()
        for trainer in trainers:
            trainer.join()
    return {"write, exchanged between 2 trainers": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--rows", nargs="+", type=int, default=[500, 4000, 20000])
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    environment = describe_environment()
    print(
        f"{environment['cpu']}, {environment['cores']} cores, torch {environment['torch']}, {options.nodes:,} nodes, "
    )
    print(f"dimension {options.dim}\n")
    columns = []
    for rows in options.rows:
        sizes = options.nodes, options.dim, rows, options.rounds
        column = direct(*sizes)
        if shared.is_available():
            column |= daemon(*sizes, pause=5e-3 + rows * 2e-6)
        columns.append(column | replicated(*sizes))
    kilobytes = [rows * (3 * options.dim * 4 + 3 * 8) / 1e3 for rows in options.rows]
    print(f"| microseconds | {' | '.join(f'{rows:,} rows' for rows in options.rows)} |")
    print("|---" * (1 + len(options.rows)) + "|")
    print(f"| kilobytes that are moved | {' | '.join(f'{size:,.0f}' for size in kilobytes)} |")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(f'{column[name]:,.0f}' for column in columns)} |")


if __name__ == "__main__":
    main()
