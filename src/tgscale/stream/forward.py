"""How the model's equations run while it is trained: in which precision, and whether ``torch.compile`` has made them.

Both are for training steps alone. Validation and test compute in float32 as ever: scores of eight bits would tie.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tgscale.errors import ConfigError
from tgscale.models.stream_model import StreamModel
from tgscale.nn.dispatch import has_triton
from tgscale.stream.config import TrainConfig
from tgscale.train.trace import Trace

OPERATORS = {"update": "memory updater", "embed": "embedding", "score": "decoder"}
"""What the timeline calls the parts of a forward: the embedding gathers neighbors and is bound by memory."""


@dataclass(frozen=True)
class Equations:
    """The methods of a model that an engine calls, as they are or compiled."""

    update: Callable[..., Tensor]
    embed: Callable[..., Tensor]
    score: Callable[..., Tensor]

    @classmethod
    def of(cls, model: StreamModel, compiled: bool = False) -> Equations:
        """The model's own, or each compiled on its first call and whenever shapes of another kind come."""
        methods = (model.update, model.embed, model.score)
        return cls(*(torch.compile(method) if compiled else method for method in methods))

    def traced(self, trace: Trace) -> Equations:
        """The same, each a span of the timeline."""

        def within(name: str, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def call(*args: Any, **kwargs: Any) -> Tensor:
                with trace.span(name):
                    return method(*args, **kwargs)

            return call

        return Equations(*(within(OPERATORS[name], method) for name, method in vars(self).items()))


def autocast(config: TrainConfig, device: torch.device, training: bool) -> torch.autocast:
    """bf16: products in bfloat16. State, sums, losses and gradients stay float32, and the phase of time float64."""
    # The cache of cast weights would outlive a capture; each weight is cast once per step as it is.
    wanted = training and config.precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted, cache_enabled=False)


def check_forward(config: TrainConfig, device: torch.device) -> None:
    """Refuse a precision or a compiler that cannot work here.

    Raises:
        ConfigError: as said, with what to change.
    """
    if config.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError(f"precision bf16 needs a GPU that knows bfloat16, and {device} does not: use fp32.")
    if not config.compile:
        return
    if config.static.mode == "cotrained":
        raise ConfigError(
            "compile does not know the sparse gradients of static.mode cotrained: leave out --compile, or choose "
            "another static memory."
        )
    if device.type == "cpu" and not _cxx():
        raise ConfigError("compile needs a C++ compiler, and none was found: install g++, set CXX, or leave it out.")
    if device.type == "cuda" and not has_triton():
        raise ConfigError("compile needs Triton on a GPU, and it is not installed: install it, or leave it out.")


def _cxx() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "g++", "clang++"))
