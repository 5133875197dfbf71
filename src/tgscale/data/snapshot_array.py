"""A series of values per node on a fixed graph, such as the speeds of road sensors, as a snapshot sequence.

A step's features are the values at that step (with ``lags``, those before it too, oldest first; with ``steps_per_day``,
the time of day), and its target is the first channel ``horizon`` steps later. The last ``horizon`` steps have no target
yet: they are there to be predicted.
"""

from __future__ import annotations

import time as clock
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tgscale.data.directory import CHUNK_BYTES, check_target, read_kind
from tgscale.data.snapshot_report import SnapshotReport, report_on
from tgscale.data.snapshot_store import SnapshotWriter, writing_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DataError

TRAIN_SHARE = 0.7


def import_array(
    source: str | Path,
    out: str | Path,
    *,
    series: str | None = None,
    adjacency: str | None = None,
    horizon: int = 1,
    lags: int = 1,
    steps_per_day: int | None = None,
    first_step: int | None = None,
    zscore: bool = False,
    train_share: float = TRAIN_SHARE,
    scale_as: str | Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> SnapshotReport:
    """Import an array of values and an adjacency matrix.

    Args:
        source: ``.npz`` or ``.npy`` file.
        out: the data directory to make.
        series: name of the array ``[T, N]`` or ``[T, N, F]`` in the ``.npz``; None: the only one that can be it.
        adjacency: name of an array ``[N, N]`` in the ``.npz``, or a ``.npz`` or ``.npy`` file that has it (``FILE`` or
            ``FILE:NAME``); None: the array ``adj``. ``adjacency[i, j]`` is the weight of the edge from ``i`` to ``j``;
            0 is no edge.
        horizon: how many steps ahead the target lies.
        lags: number of steps whose values are the features of one.
        steps_per_day: adds the time of day, from 0 to 1, as the last feature; step 0 is a midnight.
        first_step: number of the first value, 0 unless given: where steps are told by their numbers, and days begin.
            To be said with ``scale_as`` and ``steps_per_day`` together, as a later series may begin anywhere.
        zscore: subtract the mean and divide by the standard deviation of each channel.
        train_share: the share of the steps, from the first on, that mean and deviation are taken of, so that nothing of
            later steps is known.
        scale_as: a data directory that was made from a series: scale as it did, in place of ``zscore``. For a later
            or longer series that a model of that directory is to predict; it need not reach ``horizon`` steps further.
        name: name for reports; the directory's name unless given.
        overwrite: replace a data directory that is already there.

    Raises:
        ConfigError: an option that cannot be used.
        DataError: no such file or array, shapes that do not fit, a value that is not finite.
        StoreError: the target exists, or the disk is full.
    """
    began = clock.perf_counter()
    out = Path(out)
    check_target(out, overwrite)
    values = _values(Path(source), series)
    steps = len(values) - lags + 1
    for option, number in (("--horizon", horizon), ("--lags", lags)):
        if number < 1 or steps < 1 or (steps <= horizon and scale_as is None):
            raise ConfigError(
                f"{option} {number} does not fit a series of {len(values)} steps: give 1 or a little more."
            )
    if steps_per_day is not None and steps_per_day < 1:
        raise ConfigError(f"--steps-per-day is {steps_per_day}: give the number of steps in a day, such as 288.")
    if first_step is not None and first_step < 0:
        raise ConfigError(f"--first-step is {first_step}: give 0 or more.")
    if first_step is None and steps_per_day is not None and scale_as is not None:
        raise ConfigError(
            "--steps-per-day needs to know at which step of its day a later series begins: give --first-step N, its "
            "place in the whole series, or 0 where this is the whole."
        )
    first_step = first_step or 0
    if not 0 < train_share <= 1:
        raise ConfigError(f"--train-share is {train_share}: give a share of the steps, above 0 and at most 1.")
    _check_finite(Path(source), values)
    graph = _graph(Path(source), adjacency, values.shape[1], steps)
    if scale_as is not None and (zscore or train_share != TRAIN_SHARE):
        raise ConfigError(
            f"{'--zscore' if zscore else '--train-share'} is for measuring mean and deviation anew, and --scale-as "
            "takes them over: give one of them."
        )
    if scale_as is not None:
        shift, scale = _scale_of(Path(scale_as), values.shape[2])
    else:
        shift, scale = _scale(values[: max(1, int(len(values) * train_share))] if zscore else None, values.shape[2])
    scaled = zscore or bool((shift != 0).any() or (scale != 1).any())
    about: dict[str, Any] = {"format": "array", "files": [str(source)], "series": series, "adjacency": adjacency}
    about |= {"horizon": horizon, "lags": lags, "steps_per_day": steps_per_day, "first_step": first_step}
    about |= {"mean": shift.tolist(), "std": scale.tolist(), "train_share": train_share if zscore else None}
    with writing_snapshots(out, overwrite) as writer:
        width = lags * values.shape[2] + (steps_per_day is not None)
        writer.write_sequence(graph, more=4 * steps * values.shape[1] * (width + 1))
        first = first_step + lags - 1
        day = None if steps_per_day is None else (first + np.arange(steps)) % steps_per_day / steps_per_day
        _write_values(writer, values, steps, lags, horizon, day, shift, scale)
        writer.write("step_time", first + np.arange(steps))
        if scaled:
            column = np.ones((values.shape[1], 1), np.float32)
            writer.write("target_mean", column * np.float32(shift[0]))
            writer.write("target_std", column * np.float32(scale[0]))
        writer.commit(
            name=name or out.absolute().name,
            num_relations=1,
            undirected=False,
            time_unit="step",
            target_delay=horizon,
            source=about,
        )
    return report_on(out, began, "array", f"a series of {len(values):,} steps on a fixed graph")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path} not found: give a .npz or .npy file.")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no .npz or .npy file of plain numbers: {error}.") from None


def _named(path: Path, loaded: Any, wanted: str, option: str) -> np.ndarray:
    if wanted not in loaded.files:
        raise DataError(f"{path} has no array {wanted!r} for {option}; it has {', '.join(loaded.files)}.")
    return _member(path, loaded, wanted)


def _member(path: Path, loaded: Any, name: str, hint: str = "") -> np.ndarray:
    """An array of a ``.npz`` file, which is read here and not when the file is opened."""
    try:
        array = loaded[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: the array {name!r} cannot be read ({error}): save it as plain numbers, or get the file "
            f"anew.{hint}"
        ) from None
    if not isinstance(array, np.ndarray):  # any other file in a zip archive
        raise DataError(f"{path}: {name!r} is no array: save it as plain numbers.{hint}")
    return array


def _values(path: Path, series: str | None) -> np.ndarray:
    """The series, ``[T, N, F]``."""
    loaded = _load(path)
    if isinstance(loaded, np.ndarray):
        values = loaded
    elif series is not None:
        values = _named(path, loaded, series, "--series")
    else:
        hint = " With --series NAME no other array is looked at."
        shapes = {name: _member(path, loaded, name, hint).shape for name in loaded.files}
        found = [name for name, shape in shapes.items() if shape[1:] and shape[0] != shape[1]]
        if len(found) != 1:
            raise DataError(f"{path} has the arrays {', '.join(loaded.files)}: say which is the series, with --series.")
        values = _member(path, loaded, found[0])
    if values.ndim not in (2, 3) or not np.issubdtype(values.dtype, np.number):
        raise DataError(
            f"{path}: the series is {values.dtype} {list(values.shape)}, numbers [T, N] or [T, N, F] expected."
        )
    return values[:, :, None] if values.ndim == 2 else values


def _graph(source: Path, adjacency: str | None, num_nodes: int, steps: int) -> SnapshotSequence:
    """The graph of all steps, without values."""
    matrix, where = _matrix(source, adjacency)
    if matrix.shape != (num_nodes, num_nodes):
        raise DataError(f"{where} has shape {list(matrix.shape)}, expected {[num_nodes] * 2} as the series has nodes.")
    if not np.issubdtype(matrix.dtype, np.number) and matrix.dtype != bool:
        raise DataError(f"{where} is {matrix.dtype}, numbers expected: give the weights of the edges, 0 for none.")
    if not np.isfinite(matrix).all():
        raise DataError(f"{where} has a weight that is not finite: put 0 where there is no edge.")
    src, dst = np.nonzero(matrix)
    return SnapshotSequence.from_arrays(
        np.zeros(len(src), np.int64),
        src,
        dst,
        num_nodes=num_nodes,
        graph_of=np.zeros(steps, np.int64),
        edge_weight=matrix[src, dst],
    )


def _matrix(source: Path, adjacency: str | None) -> tuple[np.ndarray, str]:
    """The adjacency matrix, and what to call it."""
    wanted = adjacency or "adj"
    loaded = _load(source)
    if not isinstance(loaded, np.ndarray) and wanted in loaded.files:
        return _member(source, loaded, wanted), f"array {wanted!r} of {source}"
    if adjacency is None:
        raise DataError(
            f"{source} has no array 'adj': say where the adjacency matrix lies, with --adjacency NAME or FILE."
        )
    file, _, key = adjacency.partition(":")
    if not Path(file).is_file():
        raise DataError(f"--adjacency {adjacency} is neither an array of {source} nor a .npz or .npy file.")
    other = _load(Path(file))
    if isinstance(other, np.ndarray):
        return np.asarray(other), file
    return _named(Path(file), other, key or "adj", "--adjacency"), file


def _check_finite(path: Path, values: np.ndarray) -> None:
    bad = ~np.isfinite(values).all(axis=2)
    if bad.any():
        step, node = np.argwhere(bad)[0]
        raise DataError(f"{path}: the value of node {node} at step {step} is not finite; fill the series first.")


def _scale(values: np.ndarray | None, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, ``[F]``; 0 and 1 without values."""
    if values is None:
        return np.zeros(channels), np.ones(channels)
    std = values.std(axis=(0, 1), dtype=np.float64)
    return values.mean(axis=(0, 1), dtype=np.float64), np.where(std > 0, std, 1.0)


def _scale_of(data: Path, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation by which an earlier import scaled.

    Raises:
        ConfigError: it was made from no series, or from one of other channels.
    """
    source = read_kind(data, "snapshots", {"source"}, set())["source"] or {}
    if source.get("format") != "array" or len(source["mean"]) != channels:
        raise ConfigError(
            f"--scale-as {data} was not made from a series of {channels} channel{'s' if channels > 1 else ''} a node: "
            "give the data directory that the model was trained on."
        )
    return np.asarray(source["mean"], np.float64), np.asarray(source["std"], np.float64)


def _write_values(
    writer: SnapshotWriter,
    values: np.ndarray,
    steps: int,
    lags: int,
    horizon: int,
    day: np.ndarray | None,
    shift: np.ndarray,
    scale: np.ndarray,
) -> None:
    """Write features and target, some steps at a time; ``day`` is the time of day of each step."""
    nodes, channels = values.shape[1:]
    width = lags * channels + (day is not None)
    writer.create("node_features", np.float32, (steps, nodes, width))
    writer.create("target", np.float32, (max(0, steps - horizon), nodes, 1))
    block = max(1, CHUNK_BYTES // (4 * nodes * width))
    for at in range(0, steps, block):
        last = min(at + block, steps)
        scaled = (values[at : last + lags + horizon - 1] - shift) / scale
        features = [scaled[lag : lag + last - at] for lag in range(lags)]
        if day is not None:
            features.append(np.broadcast_to(day[at:last, None, None], (last - at, nodes, 1)))
        writer.append("node_features", np.concatenate(features, axis=2))
        writer.append("target", scaled[lags + horizon - 1 :, :, :1])
