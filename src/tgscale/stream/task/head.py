"""A task's head beside a model: how it is trained, and on the embeddings of a model that was trained before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from tgscale.errors import ConfigError
from tgscale.stream.config import PRESETS, TrainConfig
from tgscale.train.run_start import load_best, load_run_config
from tgscale.train.rundir import RunDirectory

if TYPE_CHECKING:
    from tgscale.stream.engine import StreamEngine

HEAD = "task_head."


def options_of_source(config: TrainConfig) -> TrainConfig:
    """The configuration with what ``task.init_from`` decides: options of the model, its sampling and its static memory.

    Raises:
        RunError: not a run directory.
        ConfigError: a run on snapshots, or options that contradict it.
    """
    if config.task.init_from is None:
        return config
    source = Path(config.task.init_from).expanduser().absolute()
    if RunDirectory.kind_of(source) == "snapshots":
        raise ConfigError(f"task.init_from {source} is a run on snapshots: give one on an event stream.")
    begun = load_run_config(TrainConfig, source)
    _refuse_others(config, begun, source)
    task = dataclasses.replace(config.task, init_from=source)
    return dataclasses.replace(config, model=begun.model, sampling=begun.sampling, static=begun.static, task=task)


def _refuse_others(config: TrainConfig, begun: TrainConfig, source: Path) -> None:
    """Refuse options that the source decides, where they were given and are others."""
    usual = PRESETS[config.preset](config.data, config.run, "tgn")
    for part in ("model", "sampling", "static"):
        given, taken, default = (getattr(each, part) for each in (config, begun, usual))
        for each in dataclasses.fields(given):
            value = getattr(given, each.name)
            if value not in (getattr(taken, each.name), getattr(default, each.name)):
                raise ConfigError(
                    f"{part}.{each.name} is {value}, and {getattr(taken, each.name)} in {source}, whose weights "
                    "task.init_from takes: leave it out."
                )


def load_source(engine: StreamEngine) -> None:
    """Give the engine's model the best weights of the run that it starts from.

    Raises:
        RunError: that run has no weights yet, or was trained on other data.
        ConfigError: its weights do not fit.
    """
    config = engine.config
    if config.task.init_from is None:
        return
    best = load_best(config.task.init_from, config.data)
    weights = {name: value for name, value in best["model"].items() if not name.startswith(HEAD)}
    wanted = {name for name in engine.model.state_dict() if not name.startswith(HEAD)}
    if wanted != set(weights):
        raise ConfigError(
            f"task.init_from {config.task.init_from}: its model has other weights "
            f"({', '.join(sorted(wanted ^ set(weights))[:3])}): it was trained by another version."
        )
    engine.model.load_state_dict(weights, strict=False)


def head_apart(model: nn.Module, weights: list[nn.Parameter], lr: float) -> list[dict[str, Any]]:
    """Groups of weights for an optimiser: all but the task's head, and the head with a learning rate of its own."""
    of_head = {id(p) for name, p in model.named_parameters() if name.startswith(HEAD)}
    rest, head = ([p for p in weights if (id(p) in of_head) == wanted] for wanted in (False, True))
    groups: list[dict[str, Any]] = [{"params": rest}] if rest else []
    return [*groups, {"params": head, "lr": lr}] if head else groups


def is_frozen(config: TrainConfig) -> bool:
    """Whether the head alone is trained."""
    return config.task.init_from is not None and config.task.freeze


def train_mode(model: nn.Module, frozen: bool) -> None:
    """``model.train()``; what is frozen computes as in evaluation, without dropout."""
    model.train()
    if frozen:
        for name, child in model.named_children():
            child.train(f"{name}." == HEAD)
