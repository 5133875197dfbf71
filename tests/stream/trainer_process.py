"""One of several trainers: runs the cases that it is given, each with its own process group, and saves what came out.

python trainer_process.py RANK FOLDER    (cases in FOLDER/cases.json)
"""

import importlib.util
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tgscale.stream.launch import place_memories
from tgscale.stream.loop import TrainingLoop
from tgscale.stream.schedule import Schedule
from tgscale.train.distributed import Ranks
from tgscale.train.environment import set_threads


def conftest():
    """The stream and the engine that the tests use."""
    spec = importlib.util.spec_from_file_location("stream_conftest", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_case(case: dict, rank: int, folder: Path) -> None:
    """Train for some iterations; rank 0 saves the losses, and the first trainer of each group its memory copy."""
    make = conftest()
    engine = make.build_engine(double=case["double"], layout=case["layout"], **case["changes"])
    ranks = Ranks(rank, engine.config.run_layout.world, rank, engine.config.run_layout.world)
    _, memories = place_memories(engine.config, engine, ranks)
    loop = TrainingLoop(engine, Schedule.of(engine.config, engine.split.train), memories, ranks)
    losses = []
    for t in range(min(case["iterations"], loop.schedule.iterations)):
        loop.run(t + 1)
        losses.append(loop.mean_loss())
    copies = {group: loop.memory_of(group) for group in range(engine.config.run_layout.memory)}
    for group, state in copies.items():
        if state:
            torch.save(state, folder / f"{case['name']}-memory-{group}.pt")
    if rank == 0:
        torch.save({"losses": losses, "model": engine.model.state_dict()}, folder / f"{case['name']}.pt")
    ranks.barrier()
    loop.close()


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    set_threads(1)
    for case in json.loads((folder / "cases.json").read_text()):
        if rank < case["world"]:
            store = dist.FileStore(str(folder / f"{case['name']}.store"), case["world"])
            dist.init_process_group("gloo", store=store, rank=rank, world_size=case["world"])
            run_case(case, rank, folder)
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
