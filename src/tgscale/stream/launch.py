"""From a configuration to trainers in their places: the layout, the room they need, the memory copies they share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping

import torch
from rich.filesize import decimal

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.memory.group import GroupMemory, LocalGroupMemory, NoGroupMemory
from tgscale.memory.local import NoMemory
from tgscale.memory.replicated import ReplicatedMemory
from tgscale.memory.shared import SharedMemory, is_available, start_daemon
from tgscale.models.stream_models import model_class, state_shape
from tgscale.stream.choice import copy_bytes
from tgscale.stream.config import TrainConfig
from tgscale.stream.engine import StreamEngine
from tgscale.stream.layout import Layout
from tgscale.stream.loop import empty_copy, local_memories
from tgscale.stream.planner import auto_layout
from tgscale.train.distributed import Ranks
from tgscale.train.environment import free_memory_bytes
from tgscale.train.rundir import RunDirectory
from tgscale.train.trace import Trace


def plan_layout(config: TrainConfig, stream: EventStream, ranks: Ranks) -> str:
    """The layout of a run; ``auto`` becomes the one that the planner chooses for these ranks, on this machine's memory.

    Raises:
        ConfigError: nothing fits.
    """
    if config.layout != "auto" or config.emulate is not None:
        return config.layout
    if ranks.world == 1:
        return str(Layout())
    return str(auto_layout(stream, config, ranks.machines, ranks.local_world).layout)


def check_layout(config: TrainConfig, ranks: Ranks) -> None:
    """Refuse a layout that these ranks cannot run.

    Raises:
        ConfigError: it does not fit the number of processes, or emulation was asked for with several.
    """
    if config.emulate is not None:
        if ranks.world > 1:
            raise ConfigError(
                f"emulate {config.emulate} runs all trainers in one process, and torchrun started {ranks.world}: start "
                f"one, or use --layout {config.emulate}."
            )
        return
    layout = config.run_layout
    if layout.world != ranks.world:
        fitting = ", ".join(map(str, _layouts_of(ranks.world)))
        needed = "1 trainer" if layout.world == 1 else f"{layout.world} trainers"
        raise ConfigError(
            f"layout {layout} needs {needed}, and there {'is' if ranks.world == 1 else 'are'} "
            f"{ranks.world}: start {layout.world} (--workers {layout.world}, or torchrun --nproc-per-node), or choose "
            f"a layout of {ranks.world} ({fitting}, or auto), or try it on one device with --emulate {layout}."
        )


def choose_backend(config: TrainConfig, device: torch.device, ranks: Ranks) -> str:
    """Who holds the memory copies: ``"local"``, ``"shared"`` or ``"replicated"``.

    Raises:
        ConfigError: the one that was asked for cannot serve this layout.
    """
    layout, asked = config.run_layout, config.memory_backend
    alone = layout.group_size == 1 or config.emulate is not None
    one_machine = ranks.local_world % layout.group_size == 0
    if asked == "auto":
        if alone:
            return "local"
        return "shared" if one_machine and device.type == "cpu" and is_available() else "replicated"
    if asked == "local" and not alone:
        raise ConfigError(
            f"memory_backend local serves one trainer per memory copy, and in layout {layout} {layout.group_size} "
            "share one: choose shared, replicated or auto, or a layout 1x1xK."
        )
    if asked != "local" and config.emulate is not None:
        raise ConfigError(f"memory_backend {asked} is for several processes, and an emulated run is one: choose auto.")
    if asked == "replicated" and ranks.world == 1:
        raise ConfigError("memory_backend replicated is for several processes, and this run is one: choose auto.")
    if asked == "shared" and not is_available():
        raise ConfigError(f"memory_backend shared needs Linux, and this is {sys.platform}: choose replicated or auto.")
    if asked == "shared" and not one_machine:
        raise ConfigError(
            f"memory_backend shared serves the trainers of one machine, and in layout {layout} the {layout.group_size} "
            f"trainers of a memory copy do not fit into the {ranks.local_world} of a machine: choose replicated, or a "
            f"layout whose third number is a multiple of {ranks.machines}."
        )
    return asked


def check_room(config: TrainConfig, stream: EventStream, device: torch.device, ranks: Ranks) -> None:
    """Refuse a run whose memory copies or checkpoints do not fit.

    Raises:
        ConfigError: as said, with what to change.
    """
    layout, backend = config.run_layout, choose_backend(config, device, ranks)
    copy = copy_bytes(stream.num_nodes, state_shape(config.model, config.sampling.neighbors))
    trainers = layout.world if config.emulate is not None else ranks.local_world
    training = trainers if backend == "replicated" else -(-trainers // layout.group_size)
    # Every process validates with a copy of its own, and keeps another for the best checkpoint.
    processes = 1 if config.emulate is not None else ranks.local_world
    on_gpu = device.type == "cuda" and backend != "shared"
    if on_gpu:
        free, where = torch.cuda.mem_get_info(device)[0], f"GPU {device.index or 0}"
        copies = (training + 1) if config.emulate is not None else 2
    else:
        free, where = free_memory_bytes(), "this machine"
        copies = training + 2 * processes
    if copies * copy > free:
        raise ConfigError(
            f"the node memory does not fit: {stream.num_nodes:,} nodes take {decimal(copy)} per copy, {copies} copies "
            f"are needed on {where} (layout {layout}: {training} to train, the others to validate), and "
            f"{decimal(free)} are free. Use a smaller model.dim, fewer trainers per machine, or a layout with fewer "
            "copies of the memory."
        )
    if ranks.is_first:
        _check_disk(config, copy)


def _check_disk(config: TrainConfig, copy: int) -> None:
    """Refuse a run whose checkpoints do not fit, with memory copies of so many bytes."""
    layout, run = config.run_layout, config.run.absolute()
    folder = next(path for path in (run, *run.parents) if os.path.exists(path))
    room = shutil.disk_usage(folder).free
    room += sum(file.stat().st_size for file in RunDirectory.checkpoints_of(run).rglob("*") if file.is_file())
    needed = (config.keep_checkpoints + 1) * layout.memory * copy + 2 * copy
    if needed > room:
        raise ConfigError(
            f"--run {config.run}: its checkpoints may take {decimal(needed)} ({config.keep_checkpoints} of them, each "
            f"with {layout.memory} memory copies of {decimal(copy)}, and the best), and {decimal(room)} are free in "
            f"{folder}: make room, choose another disk, or a smaller --keep-checkpoints."
        )


def place_memories(config: TrainConfig, engine: StreamEngine, ranks: Ranks) -> tuple[str, dict[int, GroupMemory]]:
    """The memory copies of this process's trainers.

    All ranks call it together.

    Returns:
        The backend's name, and trainer -> memory copy of its group, as that trainer sees it.
    """
    layout, backend = config.run_layout, choose_backend(config, engine.device, ranks)
    if isinstance(engine.memory, NoMemory):
        if config.emulate is not None:
            return backend, local_memories(engine)
        return backend, {ranks.rank: NoGroupMemory(engine.memory)}
    if backend == "local":
        if config.emulate is not None:
            return backend, local_memories(engine)
        return backend, {ranks.rank: LocalGroupMemory(empty_copy(engine))}
    group, member = divmod(ranks.rank, layout.group_size)
    kind, neighbors = model_class(config.model), config.sampling.neighbors
    writes = min(engine.stream.num_nodes, kind.nodes_written(config.model, config.train.batch_size, neighbors))
    if backend == "replicated":
        process_group = ranks.group_of(layout.group_size)
        replica = ReplicatedMemory(empty_copy(engine), process_group, member, layout.minibatch, capacity=writes)
        return backend, {ranks.rank: replica}
    return backend, {ranks.rank: _join_daemon(config, engine, ranks, group, member, writes)}


def _join_daemon(
    config: TrainConfig, engine: StreamEngine, ranks: Ranks, group: int, member: int, writes: int
) -> SharedMemory:
    layout, state = config.run_layout, engine.memory.state
    daemon = None
    if member == 0:
        nodes, shape, dtype = len(state.memory), engine.memory.shape, state.memory.dtype
        daemon = start_daemon(nodes, shape, dtype, layout.group_size, copy=group, record=config.profile)
    addresses = ranks.gather_objects(daemon.address if daemon else None)
    return SharedMemory(
        addresses[ranks.rank - member],
        member=member,
        rank=ranks.rank,
        read_capacity=rows_per_read(config, engine.stream.num_nodes),
        write_capacity=writes,
        device=engine.device,
        daemon=daemon,
    )


def daemon_traces(memories: Mapping[int, GroupMemory]) -> list[tuple[str, Trace]]:
    """What the daemons that this process has started were doing when; after their memories were closed.

    Returns:
        Name and spans of each; none where no daemon records.
    """
    found = []
    for memory in memories.values():
        daemon = memory.daemon if isinstance(memory, SharedMemory) else None
        if daemon is None or not daemon.records:
            continue
        trace = Trace(record=True)
        for name, began, ended, member, rows in daemon.spans():
            trace.add(name, "daemon", began / 1e9, ended / 1e9, member=member, rows=rows)
        found.append((f"memory daemon of copy {daemon.copy}", trace))
    return found


def rows_per_read(config: TrainConfig, num_nodes: int) -> int:
    """The most rows that a trainer can ask for at once: all roots of its j negative sets, with all neighbors."""
    roots = config.train.batch_size * (2 + config.run_layout.epoch * config.train.negatives)
    return min(num_nodes, roots * (1 + config.sampling.neighbors))


def _layouts_of(world: int) -> list[Layout]:
    """A few layouts of ``world`` trainers: all on one axis."""
    return list(dict.fromkeys([Layout(1, 1, world), Layout(1, world, 1), Layout(world, 1, 1)]))
