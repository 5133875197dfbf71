"""The simulator against real processes: an epoch of two ranks, replayed from the times of their groups.

    OMP_NUM_THREADS=1 python benchmarks/simulated.py --data DIR [--model lrgcn --workers 2]

Trains with ``tgscale train --workers``, takes the measured costs of groups from the checkpoint, plans the last epoch
as the run did, and compares the time that the simulator gives for it with the time that the run took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tgscale.data.snapshot_store import open_snapshots
from tgscale.snapshot.assign import plan_epoch
from tgscale.snapshot.balance import Balance
from tgscale.snapshot.cost import CostModel
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.network import Network
from tgscale.snapshot.profile import Profile
from tgscale.snapshot.trainer import load_config
from tgscale.train.checkpoint import Checkpointer

EPOCHS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["tgcn", "lrgcn"])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print("| model | partition | measured, s an epoch | simulated, s | difference |")
    print("|---|---|---:|---:|---:|")
    for model in options.models:
        for partition in ("blad", "group-count"):
            with tempfile.TemporaryDirectory() as folder:
                measured, simulated = compare(options.data, model, partition, options.workers, Path(folder) / "run")
            print(f"| {model} | {partition} | {measured:.3f} | {simulated:.3f} | {simulated / measured - 1:+.1%} |")


def compare(data: Path, model: str, partition: str, workers: int, run: Path) -> tuple[float, float]:
    """Seconds of the last epoch, as it was and as simulated from the groups' own times."""
    words = [
        "train",
        "--data",
        data,
        "--run-dir",
        run,
        "--model",
        model,
        "--partition",
        partition,
        "--executor",
        "serial",
    ]
    words += ["--workers", workers, "--train.epochs", EPOCHS, "--train.patience", 0, "--quiet"]
    subprocess.run([sys.executable, "-m", "tgscale", *map(str, words)], check=True)
    took = json.loads((run / "result.json").read_text())["train"]["seconds_per_epoch"][-1]
    config = load_config(run)
    engine = SnapshotEngine(config, open_snapshots(config.data))
    costs = engine.cost_model()
    # The costs that a run leaves are those after its last epoch, so they are what that epoch's groups took, smoothed.
    shared = Checkpointer(run / "checkpoints" / "steps").steps()[-1]
    load_costs(costs, run / "checkpoints" / "steps" / f"step-{shared:08d}", workers)
    plan = plan_epoch(costs.predict(), workers, config.groups_per_step, config.policy, config.seed, EPOCHS - 1)
    balance, profile = Balance.of(plan, costs.predict()), Profile()
    links = (profile.device_bandwidth, profile.machine_bandwidth, profile.device_latency, profile.machine_latency)
    network = Network(workers, workers, *links)
    gradients = 4 * sum(p.numel() for p in engine.modules.parameters())
    return took, balance.makespan + len(plan) * network.all_reduce(gradients)


def load_costs(costs: CostModel, folder: Path, workers: int) -> None:
    """Take over the costs that the first rank's part of a checkpoint holds."""
    from safetensors.torch import load_file

    state = {}
    for file in (folder / "rank-00000").glob("*.safetensors"):
        state |= load_file(file)
    costs.load_state_dict({"measured": next(value for name, value in state.items() if name.endswith("costs/measured"))})


if __name__ == "__main__":
    main()
