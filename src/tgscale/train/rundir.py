"""The run directory: everything that a run was given and everything that it found out."""

from __future__ import annotations

import fcntl
import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import yaml

from tgscale.data.files import write_atomically
from tgscale.errors import RunError
from tgscale.train.environment import describe_environment

CONFIG, ENVIRONMENT, METRICS, RESULT = "config.yaml", "environment.json", "metrics.jsonl", "result.json"
CHECKPOINTS, TENSORBOARD, LOCK = "checkpoints", "tensorboard", ".lock"


class RunDirectory:
    """A run directory that this process writes to. A context manager; made by :meth:`create` or :meth:`open`.

    An exclusive lock is held until :meth:`close`, or until the process ends in whatever way. A new run that fails
    before its first line of metrics and its first checkpoint leaves nothing behind.

    Attributes:
        path: the directory.
        checkpoints: the folder for checkpoints.
    """

    def __init__(self, path: Path, lock: TextIO) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self._lock = lock
        self._metrics: TextIO | None = None
        self._tensorboard: Any = None
        self._purge_step: int | None = None
        self._fresh = False

    @classmethod
    def create(cls, path: Path | str, config: dict[str, Any]) -> RunDirectory:
        """Start a new run.

        A directory where a run began but has nothing to show for it (no line of metrics, no checkpoint) is taken over.

        Args:
            path: a directory that does not exist yet, or is empty.
            config: the resolved configuration, plain values.

        Raises:
            RunError: the path holds a run or anything else, is a file, cannot be written, or is in use.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise RunError(f"--run {path} is a file: give a directory that does not exist yet.")
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = _lock(path)
        except OSError as error:
            raise RunError(f"--run {path} cannot be written ({error.strerror}): choose another directory.") from error
        run = cls(path, lock)
        try:
            run._refuse_occupied()
            write_atomically(path / CONFIG, yaml.safe_dump(config, sort_keys=False))
            write_atomically(path / ENVIRONMENT, json.dumps(describe_environment(), indent=1) + "\n")
            run.checkpoints.mkdir(exist_ok=True)
            run._fresh = True
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunDirectory:
        """Go on writing to an existing run.

        Raises:
            RunError: not a run directory, it cannot be written, or it is in use.
        """
        path = Path(path)
        cls.read_config(path)
        try:
            return cls(path, _lock(path))
        except OSError as error:
            raise RunError(f"run {path} cannot be written ({error.strerror}).") from error

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
            raise RunError(f"{path} is not a run directory: {CONFIG} not found in it.") from None
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
            values: plain values; ``epoch`` says where the line belongs. Numbers that are not finite become null.
        """
        if self._metrics is None:
            self._metrics = open(self.path / METRICS, "a", encoding="utf-8")  # noqa: SIM115  (closed by close)
        self._metrics.write(json.dumps(plain({"kind": kind, **values}), allow_nan=False) + "\n")
        self._metrics.flush()
        self._log_scalars(kind, values)

    def truncate_metrics(self, epoch: int) -> None:
        """Drop the lines of later epochs, and a line cut short by a crash: a resumed run writes them again."""
        self._purge_step = epoch + 1
        file = self.path / METRICS
        if not file.exists():
            return
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if _belongs(line, epoch)]
        write_atomically(file, "".join(line + "\n" for line in lines))

    def write_result(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, all at once."""
        write_atomically(self.path / RESULT, json.dumps(plain(result), indent=1, allow_nan=False) + "\n")

    def close(self) -> None:
        """Close all files and give the lock back."""
        if self._metrics:
            self._metrics.close()
        if self._tensorboard:
            self._tensorboard.close()
        self._lock.close()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind and self._fresh and not self._has_progress():
            self._remove()
        self.close()

    def _refuse_occupied(self) -> None:
        ours = {CONFIG, ENVIRONMENT, LOCK, CHECKPOINTS}
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
        for name in (CONFIG, ENVIRONMENT, LOCK):
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
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "epoch":
                self._tensorboard.add_scalar(f"{kind}/{name}", value, values.get("epoch"))
        self._tensorboard.flush()


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


def _belongs(line: str, epoch: int) -> bool:
    try:
        return json.loads(line).get("epoch", 0) <= epoch
    except ValueError:
        return False


def _lock(path: Path) -> TextIO:
    file = open(path / LOCK, "a", encoding="utf-8")  # noqa: SIM115  (held open as long as the run)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RunError(f"{path} is in use by a run that is still going: wait for it, or give another --run.") from None
    return file
