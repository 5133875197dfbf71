"""Tensors on disk from arrays on disk: ``torch.save`` of memory maps, so that nothing has to fit into memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np


def tensor(array: np.ndarray) -> Any:
    """The array as a tensor that shares its memory; it is only read."""
    import torch  # takes seconds to load, and few formats need it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def save(content: Any, path: Path) -> None:
    """``torch.save``; a disk that is full is an ``OSError``, as it is elsewhere."""
    import torch

    try:
        torch.save(content, path)
    except RuntimeError as error:
        raise OSError(f"{path} could not be written: {str(error).splitlines()[0]}") from error
