"""Weights & Biases: a project, a run per run; offline where asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tgscale.train.loggers.base import LogConfig, final_numbers


class WandbLogger:
    """See :class:`base.Logger`."""

    def __init__(self, config: LogConfig, run: Path, options: dict[str, Any], id: str | None) -> None:
        import wandb

        self._run = wandb.init(
            project=config.project,
            name=config.name or run.absolute().name,
            id=id,
            resume="allow" if id else None,
            config=options,
            dir=str(run),
            mode="offline" if config.offline else None,
            settings=wandb.Settings(silent=True, console="off"),
        )
        # Numbers carry their iteration with them: a resumed run may go on from an earlier one than was logged last.
        self._run.define_metric("iteration")
        self._run.define_metric("*", step_metric="iteration")
        self.id: str = self._run.id

    def log(self, kind: str, values: dict[str, float], iteration: int | None) -> None:
        self._run.log({"iteration": iteration or 0, **{f"{kind}/{name}": value for name, value in values.items()}})

    def finish(self, result: dict[str, Any]) -> None:
        for name, value in final_numbers(result).items():
            self._run.summary[name] = value

    def close(self, done: bool) -> None:
        self._run.finish(exit_code=0 if done else 1)
