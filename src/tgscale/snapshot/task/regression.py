"""Node regression: the target of every node at a step from its embedding there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.snapshot.task.base import Metrics
from tgscale.train.metrics import refuse_nan


class Regression:
    """Mean squared error in training; MAE and RMSE in the source's own units when scored.

    Args:
        sequence: with a target.
        device, dtype: of the embeddings.
        residual: predict by how much the target differs from the latest one that is known.

    Raises:
        ConfigError: no target.
    """

    name, lead, metric, better = "node regression", 0, "rmse", "lower"
    all_nodes = False

    def __init__(
        self, sequence: SnapshotSequence, device: torch.device, dtype: torch.dtype, residual: bool = False
    ) -> None:
        if sequence.target is None:
            raise ConfigError(
                f"{sequence.name} has no target to predict: choose --task link, or import it with a target."
            )
        self.num_steps = sequence.num_targets
        self.target = torch.from_numpy(np.array(sequence.target)).to(device, dtype)
        self.delay, self.residual = sequence.target_delay, residual
        mean, std = sequence.target_mean, sequence.target_std
        self.mean = 0.0 if mean is None else np.asarray(mean, np.float64)
        self.std = 1.0 if std is None else np.asarray(std, np.float64)

    def head(self, dim: int) -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Linear(dim, self.target.shape[2]))

    def items(self, step: int) -> int:
        return self.target.shape[1]

    def loss(self, head: nn.Module, h: Tensor, steps: range, seed: int, nodes: slice, part: tuple[int, int]) -> Tensor:
        error = self._predict(head, h, steps, nodes) - self.target[steps.start : steps.stop, nodes]
        return error.square().mean(2).sum()

    def score(self, head: nn.Module, h: Tensor, step: int) -> np.ndarray:
        predicted = self._predict(head, h[None], range(step, step + 1))[0]
        refuse_nan(predicted)
        return self._errors(predicted.double().cpu().numpy(), step)

    def predict(self, head: nn.Module, h: Tensor, step: int) -> np.ndarray:
        """The target of every node at a step, known or not, in the source's units, ``[N, K]``, float64.

        Args:
            head: the decoder.
            h: embeddings of the step, ``[N, C]``.
            step: at most ``target_delay`` behind the last one whose target is known, with ``residual``.

        Raises:
            DivergedError: a prediction is NaN.
        """
        predicted = self._predict(head, h[None], range(step, step + 1))[0]
        refuse_nan(predicted)
        return predicted.double().cpu().numpy() * self.std + self.mean

    def known(self, step: int) -> np.ndarray | None:
        """The target of every node at a step in the source's units, ``[N, K]``, float64; None where it is not known."""
        if step >= self.num_steps:
            return None
        return self.target[step].double().cpu().numpy() * self.std + self.mean

    def summarize(self, rows: np.ndarray) -> Metrics:
        return {"mae": float(rows[:, 0].mean()), "rmse": float(np.sqrt(rows[:, 1].mean()))}

    def baselines(self, steps: range, train: range) -> dict[str, Metrics]:
        """Persistence (the latest target that is known) and historical average (each node's mean while training).

        At the first steps no target is known yet: persistence is scored on the others alone, and is left out where
        there are none.
        """
        target = self.target.double().cpu().numpy()
        average = target[train.start : train.stop].mean(axis=0)
        rules = {
            "persistence": {step: target[step - self.delay] for step in steps if step >= self.delay},
            "historical average": dict.fromkeys(steps, average),
        }
        return {
            name: self.summarize(np.concatenate([self._errors(said, step) for step, said in rule.items()]))
            for name, rule in rules.items()
            if rule
        }

    def describe(self) -> dict[str, Any]:
        return {"name": "node regression", "units": "as in the source" if np.any(self.std != 1) else "as stored"}

    def _predict(self, head: nn.Module, h: Tensor, steps: range, nodes: slice = slice(None)) -> Tensor:
        out = head(h)
        if not self.residual:
            return out
        known = self.target.new_zeros(out.shape)  # of the first steps nothing is known yet
        first = min(max(0, self.delay - steps.start), len(steps))
        known[first:] = self.target[steps.start + first - self.delay : max(0, steps.stop - self.delay), nodes]
        return known + out

    def _errors(self, predicted: np.ndarray, step: int) -> np.ndarray:
        """Absolute and squared error of each node, in the source's units, ``[N, 2]``."""
        error = (predicted - self.target[step].double().cpu().numpy()) * self.std
        return np.stack([np.abs(error).mean(axis=1), np.square(error).mean(axis=1)], axis=1)
