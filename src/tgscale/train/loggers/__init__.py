"""Where the numbers of a run go beside its directory: one file per tracker, and the table of their names."""

from __future__ import annotations

import difflib
import importlib.util
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tgscale.data.files import write_atomically
from tgscale.errors import ConfigError
from tgscale.train.loggers.base import LogConfig, Logger
from tgscale.train.loggers.mlflow import MlflowLogger
from tgscale.train.loggers.wandb import WandbLogger

logger = logging.getLogger(__name__)

IDS = "loggers.json"


@dataclass(frozen=True)
class Tracker:
    """One tracker.

    Attributes:
        package: that must be installed.
        start: begins a logged run, or goes on with one, from (options, run directory, configuration, id or None).
    """

    package: str
    start: Callable[[LogConfig, Path, dict[str, Any], str | None], Logger]


LOGGERS = {"mlflow": Tracker("mlflow", MlflowLogger), "wandb": Tracker("wandb", WandbLogger)}


def names_of(config: LogConfig) -> list[str]:
    """Names of the trackers asked for.

    Raises:
        ConfigError: an unknown name.
    """
    names = [name.strip() for name in config.to.split(",") if name.strip() not in ("", "tensorboard")]
    for name in names:
        if name not in LOGGERS:
            near = difflib.get_close_matches(name, LOGGERS, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--log {name!r} is unknown: choose some of {', '.join(LOGGERS)}.{hint}")
    return list(dict.fromkeys(names))


def check_loggers(config: LogConfig) -> None:
    """Refuse trackers that cannot be used, before the work starts.

    Raises:
        ConfigError: an unknown name, or a package that is not installed.
    """
    for name in names_of(config):
        package = LOGGERS[name].package
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"--log {name} needs the package {package}: pip install {package}, or leave it out.")


def start_loggers(config: LogConfig, run: Path, options: dict[str, Any]) -> list[Logger]:
    """Begin the logged runs of a run directory, or go on with those that it has begun.

    Args:
        config: which, and how.
        run: the run directory; it keeps the ids of the logged runs.
        options: the resolved configuration, for the trackers to show.
    """
    file = run / IDS
    ids: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    started: list[Logger] = []
    for name in names_of(config):
        try:
            each = cast(Logger, Guarded(name, LOGGERS[name].start(config, run, options, ids.get(name))))
        except Exception as error:  # a server that does not answer, an account without rights
            raise ConfigError(
                f"--log {name} cannot begin ({type(error).__name__}: {error}): correct it or leave it out."
            ) from None
        ids[name] = each.id
        started.append(each)
    if started:
        write_atomically(file, json.dumps(ids, indent=1) + "\n")
    return started


class Guarded:
    """A tracker whose failures are told once and do not end the training."""

    def __init__(self, name: str, inner: Logger) -> None:
        self.id, self._name, self._inner, self._failed = inner.id, name, inner, False

    def log(self, kind: str, values: dict[str, float], iteration: int | None) -> None:
        self._try(lambda: self._inner.log(kind, values, iteration))

    def finish(self, result: dict[str, Any]) -> None:
        self._try(lambda: self._inner.finish(result))

    def close(self, done: bool) -> None:
        self._try(lambda: self._inner.close(done))

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:
            if not self._failed:
                logger.warning("%s does not take what is logged (%r): the run goes on.", self._name, error)
            self._failed = True
