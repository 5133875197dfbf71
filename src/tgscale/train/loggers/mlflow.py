"""MLflow: an experiment per project, a run per run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tgscale.train.loggers.base import LogConfig, final_numbers, flat

LONGEST = 500  # characters of a parameter


class MlflowLogger:
    """Logs through MLflow's client, which keeps no state of its own beside the id. See :class:`base.Logger`."""

    def __init__(self, config: LogConfig, run: Path, options: dict[str, Any], id: str | None) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=config.tracking_uri)
        if id is None:
            experiment = self._client.get_experiment_by_name(config.project)
            number = experiment.experiment_id if experiment else self._client.create_experiment(config.project)
            id = self._client.create_run(number, run_name=config.name or run.absolute().name).info.run_id
            for name, value in flat(options).items():
                self._client.log_param(id, name, str(value)[:LONGEST])
        else:
            self._client.set_terminated(id, status="RUNNING")
        self.id: str = id

    def log(self, kind: str, values: dict[str, float], iteration: int | None) -> None:
        for name, value in values.items():
            self._client.log_metric(self.id, f"{kind}/{name}".replace("@", "_at_"), value, step=iteration or 0)

    def finish(self, result: dict[str, Any]) -> None:
        for name, value in final_numbers(result).items():
            self._client.log_metric(self.id, name, value)

    def close(self, done: bool) -> None:
        self._client.set_terminated(self.id, status="FINISHED" if done else "KILLED")
