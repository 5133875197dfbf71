"""A trained model as a folder of its own: weights as safetensors, what it was made of as JSON, and no trainer."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tgscale
from tgscale.data.files import sync_folder, write_atomically
from tgscale.errors import RunError

FORMAT = 1
CONFIG, WEIGHTS, MEMORY = "config.json", "model.safetensors", "memory.safetensors"

BUILDERS = {"stream": "tgscale.stream.export", "snapshots": "tgscale.snapshot.export"}
"""Engine -> module whose ``build(config)`` makes the untrained model of an exported configuration."""


@dataclass
class Exported:
    """A model that was exported.

    Attributes:
        model: with its weights, in evaluation mode. Of a run on snapshots a ``ModuleDict`` of ``model`` and ``head``.
        config: what ``config.json`` holds.
        memory: state of all nodes after the last event of the run's data, by name, ``[N, ...]``; None on snapshots.
            ``LocalMemory.load_state_dict`` takes it.
        rest: weights that belong to no part of the model, such as those of a task's head.
        path: the folder.
    """

    model: nn.Module
    config: dict[str, Any]
    memory: dict[str, Tensor] | None
    rest: dict[str, Tensor]
    path: Path


def write_export(
    out: Path,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    memory: dict[str, Tensor] | None,
    files: list[Path],
    overwrite: bool,
) -> None:
    """Write a folder that :func:`load_model` reads; all of it appears at once.

    Args:
        out: the folder.
        config: goes into ``config.json``.
        weights: state of the model.
        memory: state of the nodes.
        files: copied into it.
        overwrite: replace an export that is there.

    Raises:
        RunError: ``out`` exists, or cannot be written.
    """
    check_out(out, overwrite)
    partial = out.absolute().with_name(f".{out.absolute().name}.tmp-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        for name, tensors in ((WEIGHTS, weights), (MEMORY, memory)):
            if tensors is not None:
                save_file(
                    {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, partial / name
                )
        for file in files:
            shutil.copyfile(file, partial / file.name)
        about = {"format": FORMAT, "tgscale": tgscale.__version__, **config}
        write_atomically(partial / CONFIG, json.dumps(about, indent=1, allow_nan=False) + "\n")
        if out.exists():
            shutil.rmtree(out)
        os.rename(partial, out)
        sync_folder(out.absolute().parent)
    except OSError as error:
        raise RunError(
            f"--out {out} cannot be written ({error.strerror}): choose another folder, or make room."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder that is there, unless it is an export and may be replaced.

    Raises:
        RunError: as said.
    """
    if not out.exists():
        return
    if not overwrite:
        raise RunError(f"--out {out} is there already: give another folder, or --overwrite to replace it.")
    if not out.is_dir() or {entry.name for entry in out.iterdir()} - _own_files(out):
        raise RunError(
            f"--out {out} is no exported model, or holds other files too, so it is not replaced: give another folder."
        )


def _own_files(out: Path) -> set[str]:
    """Names of the files that an export may have; none for a folder whose ``config.json`` is another program's."""
    try:
        ours = "tgscale" in json.loads((out / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return set()
    return {CONFIG, WEIGHTS, MEMORY, "node_ids.parquet"} if ours else set()


def load_model(path: Path | str, device: torch.device | str = "cpu") -> Exported:
    """Load what ``tgscale export`` wrote. Nothing is unpickled.

    Args:
        path: the folder.
        device: where model and memory go.

    Raises:
        RunError: no such folder, a damaged one, or one of a newer version.
    """
    path = Path(path)
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        version = config["format"]
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path} is no exported model: {CONFIG} not found. Make one with `tgscale export RUN`."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path / CONFIG} is damaged ({error!r}): export the run again.") from None
    if version != FORMAT:
        raise RunError(
            f"{path} is of format {version}, this tgscale reads {FORMAT}: upgrade tgscale, or export it again."
        )
    build: Callable[[dict[str, Any]], nn.Module] = importlib.import_module(BUILDERS[config["engine"]]).build
    try:
        weights = load_file(path / WEIGHTS)
        memory = load_file(path / MEMORY) if (path / MEMORY).exists() else None
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} is damaged ({error}): export the run again.") from None
    model = build(config)
    own = model.state_dict()
    rest = {name: value.to(device) for name, value in weights.items() if name not in own}
    try:
        model.load_state_dict({name: value for name, value in weights.items() if name in own})
    except RuntimeError as error:
        raise RunError(f"{path}: the weights are not those of its {CONFIG} ({error}): export the run again.") from None
    memory = None if memory is None else {name: value.to(device) for name, value in memory.items()}
    return Exported(model.to(device).eval(), config, memory, rest, path)


def result_of_run(run: Path) -> dict[str, Any]:
    """What the run measured, where it is over."""
    try:
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: result[name] for name in ("task", "val", "test", "protocol") if name in result}
