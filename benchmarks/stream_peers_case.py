"""What all sides of ``stream_peers.py`` share: the events, the settings, how predictions are scored. NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIM, HEADS, NEIGHBORS, DROPOUT, RATE = 100, 2, 10, 0.1, 1e-3


@dataclass(frozen=True)
class Case:
    """Events in time order, as plain arrays.

    A round trains the events ``[0, warm_up)``, which are not timed, and then ``[warm_up, train)``, from an empty
    memory; the weights go on from round to round. Scored are the events after ``train``, by the last round's memory.
    """

    src: np.ndarray
    dst: np.ndarray
    time: np.ndarray
    features: np.ndarray
    num_nodes: int
    warm_up: int
    train: int
    batch_size: int
    rounds: int

    def save(self, path: Path) -> None:
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: str) -> Case:
        arrays = dict(np.load(path))
        return cls(**{name: int(value) if value.ndim == 0 else value for name, value in arrays.items()})


def average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """Mean, over the true events, of the precision at their score; events of equal score count together."""
    score = np.concatenate([positive, negative])
    true = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    order = np.argsort(-score, kind="stable")
    score, found = score[order], np.cumsum(true[order])
    last = np.searchsorted(-score, -score, side="right") - 1  # of those with the same score
    return float(np.sum(true[order] * found[last] / (last + 1)) / len(positive))
