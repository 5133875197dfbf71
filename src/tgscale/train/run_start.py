"""How the processes of a run begin it together, go on with it, or are refused."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from tgscale.data.store import fingerprint
from tgscale.errors import RunError
from tgscale.train.checkpoint import Checkpointer
from tgscale.train.config_io import from_dict
from tgscale.train.distributed import Ranks
from tgscale.train.rundir import CONFIG, RunDirectory

STEPS, BEST, TIMELINE = "steps", "best", "timeline.json"
FINAL_LABELS = {"val": "final pass over val", "test": "test"}
"""What the walks after training are called; the parts were walked through before, by weights that were not the best."""

Config = TypeVar("Config")


def load_run_config(config_type: type[Config], run: Path) -> Config:
    """The configuration of a run directory, wherever that directory lies now.

    Raises:
        RunError: not a run directory.
    """
    values = RunDirectory.read_config(run)
    if as_written := getattr(config_type, "as_written", None):
        values = as_written(values)
    config = from_dict(config_type, values)
    config.run = run  # type: ignore[attr-defined]
    return config


def saved_steps(run: Path) -> list[int]:
    """Iterations of the checkpoints from which a run can go on, oldest first."""
    return Checkpointer(RunDirectory.checkpoints_of(run) / STEPS).steps()


def saved_ranks(run: Path) -> int:
    """How many processes wrote the newest checkpoint from which a run can go on; 1 where there is none."""
    folders = sorted((RunDirectory.checkpoints_of(run) / STEPS).glob("step-*"))
    return max(1, len(list(folders[-1].glob("rank-*")))) if folders else 1


def load_best(run: Path, data: Path | None = None) -> dict[str, Any]:
    """The best validated weights of a run, with what was saved beside them.

    Args:
        run: the run directory.
        data: what they are to be used on, where that is another process than the one that trained them.

    Raises:
        RunError: there are none yet, or ``data`` is not what they were trained on.
    """
    _, best = Checkpointer(RunDirectory.checkpoints_of(run) / BEST).load()
    if not best:
        raise RunError(f"{run} holds no validated weights: train for longer first.")
    if data is not None:
        check_data(data, run, best)
    return best


def data_of(config: Any, data: Path | None) -> Path:
    """Where a run's data lie.

    Args:
        config: of the run.
        data: where they have moved, if they have.

    Raises:
        RunError: nothing lies where they lay.
    """
    if data is not None:
        return data.expanduser().absolute()
    if not config.data.exists():
        raise RunError(f"the data of {config.run} lay at {config.data}: give --data NEW, the place where they are now.")
    return config.data


def as_begun(begun: Config, config: Config) -> Config:
    """Options that a run was begun with, and beside them what is none of the run's: whether progress is shown, and
    where the data lie. Only a checkpoint can tell whether they are the same data: without one they lie where they lay.
    """
    run = config.run  # type: ignore[attr-defined]
    changes = {"quiet": config.quiet} | ({"data": config.data} if saved_steps(run) else {})  # type: ignore[attr-defined]
    return dataclasses.replace(begun, **changes)  # type: ignore[type-var]


def check_data(data: Path, run: Path, state: dict[str, Any]) -> None:
    """Refuse data that are not those that a checkpoint was trained on.

    Raises:
        RunError: as said.
    """
    if state["data"] != fingerprint(data):
        raise RunError(f"{data} is not what {run} was trained on: the data were made anew since then.")


def began_before(run: Path, ranks: Ranks) -> bool:
    """Whether these ranks are there once more, started again by a ``torchrun`` that began this run.

    Rank 0 looks, so that no other machine remembers the run directory as one that is not there.
    """
    starters, found = _starters(ranks), False
    if any(ranks.gather_objects(ranks.restarts)) and ranks.is_first:
        holder = RunDirectory.holder_of(run).split(", ")
        found = bool(set(holder) & set(starters)) and (run / CONFIG).exists()
    return ranks.broadcast_object(found)


def enter_run(
    run: Path, config: dict[str, Any], resume: bool, ranks: Ranks, stack: contextlib.ExitStack
) -> RunDirectory | None:
    """Create or open the run directory, on the first rank; None on the others, who only see whether it is there.

    Args:
        run: the directory.
        config: plain values to write into a new one.
        resume: open one that exists.
        ranks: all call this.
        stack: what closes it in the end.

    Raises:
        RunError: it is occupied, in use, cannot be written, or is not seen by all ranks.
    """
    holder = ", ".join(_starters(ranks))
    directory = None
    with ranks.together():
        if ranks.is_first:
            directory = RunDirectory.open(run, holder) if resume else RunDirectory.create(run, config, holder)
            stack.enter_context(directory)
    with ranks.together():
        if RunDirectory.holder_of(run) != holder:
            raise RunError(f"{run} is not seen here: the run directory must lie on a file system that all share.")
    return directory


def _starters(ranks: Ranks) -> list[str]:
    return sorted(set(ranks.gather_objects(ranks.starter)))
