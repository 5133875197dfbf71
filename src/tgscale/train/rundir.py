"""The run directory: everything that a run was given and everything that it found out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import yaml

from tgscale.data.directory import META, near_path
from tgscale.data.files import write_atomically
from tgscale.errors import ConfigError, RunError
from tgscale.train.environment import describe_environment
from tgscale.train.loggers import IDS
from tgscale.train.loggers.base import Logger

CONFIG, ENVIRONMENT, METRICS, RESULT = "config.yaml", "environment.json", "metrics.jsonl", "result.json"
CHECKPOINTS, TENSORBOARD, LOCK = "checkpoints", "tensorboard", ".lock"


class RunDirectory:
    """A run directory that this process writes to. A context manager; made by :meth:`create` or :meth:`open`.

    An exclusive lock is held until :meth:`close`, or until the process ends in whatever way; the lock file says who has
    it, or had it last. A new run that fails before its first line of metrics and its first checkpoint leaves nothing
    behind.

    Attributes:
        path: the directory.
        checkpoints: the folder for checkpoints.
        loggers: who else is told what is logged; see :mod:`tgscale.train.loggers`. Closed with the directory.
    """

    def __init__(self, path: Path, lock: TextIO) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self._lock = lock
        self.loggers: Sequence[Logger] = ()
        self._done = False
        self._tensorboard: Any = None
        self._purge_step: int | None = None
        self._fresh = False

    @classmethod
    def create(cls, path: Path | str, config: dict[str, Any], holder: str | None = None) -> RunDirectory:
        """Start a new run.

        A directory where a run began but has nothing to show for it (no line of metrics, no checkpoint) is taken over.

        Args:
            path: a directory that does not exist yet, or is empty.
            config: the resolved configuration, plain values.
            holder: who writes to it now, for :meth:`holder_of`; this process unless given.

        Raises:
            RunError: the path holds a run or anything else, is a file, cannot be written, or is in use.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise RunError(f"--run {path} is a file: give a directory that does not exist yet.")
        try:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, _lock(path))
            try:
                run._refuse_occupied()
                run._hold(holder)
                write_atomically(path / CONFIG, yaml.safe_dump(config, sort_keys=False))
                write_atomically(path / ENVIRONMENT, json.dumps(describe_environment(), indent=1) + "\n")
                run.checkpoints.mkdir(exist_ok=True)
            except BaseException:
                run.close()
                raise
        except OSError as error:
            raise RunError(f"--run {path} cannot be written ({error.strerror}): choose another directory.") from error
        run._fresh = True
        return run

    @classmethod
    def open(cls, path: Path | str, holder: str | None = None) -> RunDirectory:
        """Go on writing to an existing run.

        Args:
            path: the run.
            holder: who writes to it now, for :meth:`holder_of`; this process unless given.

        Raises:
            RunError: not a run directory, it cannot be written, or it is in use.
        """
        path = Path(path)
        cls.read_config(path)
        try:
            run = cls(path, _lock(path))
            run._hold(holder)
        except OSError as error:
            raise RunError(f"run {path} cannot be written ({error.strerror}).") from error
        return run

    @staticmethod
    def holder_of(path: Path | str) -> str:
        """Who writes to a run, or was the last to; empty where nobody has begun one."""
        try:
            return (Path(path) / LOCK).read_text(encoding="utf-8")
        except OSError:
            return ""

    @classmethod
    def kind_of(cls, path: Path | str) -> str:
        """``"stream"`` or ``"snapshots"``: what a run is on.

        Raises:
            RunError: not a run directory, or a damaged one.
        """
        return cls.kind_of_config(cls.read_config(path))

    @staticmethod
    def kind_of_config(config: dict[str, Any]) -> str:
        """The same of a configuration that :meth:`read_config` gave."""
        return "snapshots" if "partition" in config else "stream"

    @staticmethod
    def read_config(path: Path | str) -> dict[str, Any]:
        """The resolved configuration of a run.

        Raises:
            RunError: not a run directory, or a damaged one.
        """
        file = Path(path) / CONFIG
        try:
            config = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{path} is not a run directory: {_what_is(Path(path))}") from None
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunError(f"{file} cannot be read ({error}).") from error
        if not isinstance(config, dict):
            raise RunError(f"{file} is damaged: it holds no mapping of options.")
        return config

    @staticmethod
    def checkpoints_of(path: Path | str) -> Path:
        """The folder of checkpoints of a run, without opening the run."""
        return Path(path) / CHECKPOINTS

    def log(self, kind: str, **values: Any) -> None:
        """Append a line to ``metrics.jsonl`` and its numbers to TensorBoard.

        Args:
            kind: what the line is about, such as ``"epoch"``.
            values: plain values; ``iteration`` says where the line belongs. Numbers that are not finite become null.

        Raises:
            RunError: it cannot be written.
        """
        line = json.dumps(plain({"kind": kind, **values}), allow_nan=False) + "\n"
        with self._writing():
            with open(self.path / METRICS, "a", encoding="utf-8") as file:
                file.write(line)
            self._log_scalars(kind, values)
        numbers = {name: float(value) for name, value in values.items() if _is_number(value) and name != "iteration"}
        for each in self.loggers:
            each.log(
                kind, {name: value for name, value in numbers.items() if math.isfinite(value)}, values.get("iteration")
            )

    def truncate_metrics(self, iteration: int) -> None:
        """Drop the lines of later iterations, and a line cut short by a crash: a resumed run writes them again."""
        self._purge_step = iteration + 1
        file = self.path / METRICS
        if not file.exists():
            return
        with self._writing():
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if _belongs(line, iteration)]
            write_atomically(file, "".join(line + "\n" for line in lines))

    def write_result(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, all at once.

        Raises:
            RunError: it cannot be written.
        """
        with self._writing():
            write_atomically(self.path / RESULT, json.dumps(plain(result), indent=1, allow_nan=False) + "\n")
        self._done = True
        for each in self.loggers:
            each.finish(plain(result))

    def close(self) -> None:
        """Close all files and give the lock back."""
        if self._tensorboard:
            with contextlib.suppress(OSError):  # what cannot be written was told when it was logged
                self._tensorboard.close()
        for each in self.loggers:
            each.close(self._done)
        self._lock.close()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error and self._fresh and not self._has_progress():
            self._remove()
            if not isinstance(error, ConfigError):  # what is refused had not begun
                error.add_note(f"{self.path} held nothing worth keeping yet and was removed.")
        self.close()

    def _hold(self, holder: str | None) -> None:
        self._lock.truncate(0)
        self._lock.write(holder or f"process {os.getpid()} on {socket.gethostname()}")
        self._lock.flush()
        os.fsync(self._lock.fileno())  # other machines are to see it while it is open

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"run {self.path} cannot be written ({error.strerror}). Make room or check permissions, then go on "
                "with --resume."
            ) from error

    def _refuse_occupied(self) -> None:
        for name in (CONFIG, ENVIRONMENT):  # what a run that was killed as it began was just writing
            for leftover in self.path.glob(f".{name}.tmp-*"):
                leftover.unlink()
        ours = {CONFIG, ENVIRONMENT, LOCK, CHECKPOINTS, IDS, "wandb"}
        if (self.path / CONFIG).exists() and self._has_progress():
            raise RunError(f"{self.path} already holds a run: go on with it by --resume, or give another --run.")
        foreign = sorted(entry.name for entry in self.path.iterdir() if entry.name not in ours)
        if foreign:
            raise RunError(f"{self.path} is not empty (it holds {foreign[0]}): give a --run that does not exist yet.")

    def _has_progress(self) -> bool:
        checkpoints = self.checkpoints.rglob("*") if self.checkpoints.exists() else ()
        return (self.path / METRICS).exists() or (self.path / RESULT).exists() or any(p.is_file() for p in checkpoints)

    def _remove(self) -> None:
        """Undo :meth:`create`."""
        for name in (CONFIG, ENVIRONMENT, LOCK, IDS):
            (self.path / name).unlink(missing_ok=True)
        folders = [*sorted(self.checkpoints.rglob("*"), reverse=True), self.checkpoints, self.path]
        for folder in folders:
            try:
                folder.rmdir()
            except OSError:
                return  # somebody put something there: leave it

    def _log_scalars(self, kind: str, values: dict[str, Any]) -> None:
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and not needed to evaluate

            self._tensorboard = SummaryWriter(str(self.path / TENSORBOARD), purge_step=self._purge_step)
        for name, value in values.items():
            if _is_number(value) and name != "iteration":
                self._tensorboard.add_scalar(f"{kind}/{name}", value, values.get("iteration"))
        self._tensorboard.flush()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _what_is(path: Path) -> str:
    """What a path is that is no run directory, and what to do."""
    if (path / META).is_file():
        return f"{CONFIG} not found in it. It is a data directory: give the --run of a training on it."
    if not path.exists():
        return f"there is nothing of that name.{near_path(path, CONFIG)}"
    runs = sorted(file.parent.name for file in path.glob(f"*/{CONFIG}"))
    there = f" It holds runs: {', '.join(runs[:8])}{', ..' if len(runs) > 8 else ''}." if runs else ""
    return f"{CONFIG} not found in it.{there}"


def plain(value: Any) -> Any:
    """A value as JSON knows it: paths become strings, tuples lists, numbers that are not finite None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):  # a NumPy or torch scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _belongs(line: str, iteration: int) -> bool:
    try:
        return json.loads(line).get("iteration", 0) <= iteration
    except ValueError:
        return False


def _lock(path: Path) -> TextIO:
    file = open(path / LOCK, "a", encoding="utf-8")  # noqa: SIM115  (held open as long as the run)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        who = RunDirectory.holder_of(path)
        raise RunError(
            f"{path} is in use by a run that is still going ({who}): wait for it, or give another --run."
        ) from None
    return file
