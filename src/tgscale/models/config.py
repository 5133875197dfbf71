"""What a model of an event stream is made of: one set of options for all models, each of which has some of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from tgscale.errors import ConfigError
from tgscale.nn.pair_encoding import DEFAULT_GROUPS, GroupName, pair_dim

OPTIONS: dict[str, tuple[str, ...]] = {
    "tgn": ("heads", "dropout", "score", "time_encoding", "updater"),
    "jodie": ("time_encoding",),
    "dyrep": ("time_encoding",),
    "apan": ("heads", "dropout", "mails"),
    "tgat": ("heads", "dropout", "time_encoding", "layers"),
    "graphmixer": ("dropout", "layers", "gap"),
}
"""Options of each model beside those that all of them have."""

SHARED = ("name", "dim", "pair_encoding", "pair_groups")

DEFAULT_LAYERS = {"tgat": 2, "graphmixer": 1}


@dataclass
class ModelConfig:
    """What the model is made of. Each model has some of the options; one that it does not have is refused."""

    name: Annotated[str, tyro.conf.arg(aliases=["--model"])] = "tgn"
    """Which model: tgn, jodie, dyrep, apan, tgat, graphmixer, or one that was registered; see docs/models.md."""
    dim: int = 100
    """Width of memory, time encoding and embedding."""
    heads: int = 2
    """Attention heads; divides dim. (tgn, tgat, apan)"""
    dropout: float = 0.1
    """On attention weights and the attention's output; within APAN's and GraphMixer's MLPs. (not jodie, dyrep)"""
    score: Literal["leaky_relu", "scaled"] = "leaky_relu"
    """Attention score: LeakyReLU(q.k) as in DistTGL's code, or q.k / sqrt(width). (tgn)"""
    time_encoding: Literal["fixed", "learned"] = "fixed"
    """Whether the frequencies of the time encoding are learned. (tgn, jodie, dyrep, tgat)"""
    updater: Literal["gru", "rnn"] = "gru"
    """Cell that absorbs mail into memory. (tgn)"""
    pair_encoding: bool = True
    """Let the decoder see whether, how often and when the two nodes have met."""
    pair_groups: tuple[GroupName, ...] = DEFAULT_GROUPS
    """What else the pair encoding sees, in groups (docs/pair-encoding.md); without a name: nothing."""
    mails: int = 10
    """Mails that a node's mailbox holds. (apan)"""
    layers: int | None = None
    """Attention layers, and so hops of sampled past (tgat; 2 unless given); Mixer layers (graphmixer; 1)."""
    gap: int | None = None
    """Average only neighbors at most this long ago, in the stream's time unit; all sampled ones unless given.
    (graphmixer)"""

    def __post_init__(self) -> None:
        if self.name not in OPTIONS:
            raise ConfigError(f"model.name {self.name!r} is unknown: choose one of {', '.join(OPTIONS)}.")
        self._refuse_what_it_lacks()
        heads = self.heads if "heads" in OPTIONS[self.name] else 1
        if self.dim < 1 or self.heads < 1 or self.dim % heads:
            raise ConfigError(
                f"model.dim {self.dim} does not divide into model.heads {self.heads} heads: "
                "choose a multiple, such as 100 and 2."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout is {self.dropout}: give a share in [0, 1).")
        pair_dim(self.pair_groups)  # refuses a group that stands twice
        for option in ("mails", "layers", "gap"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise ConfigError(f"model.{option} is {value}: give 1 or more.")
        if self.name == "apan" and self.mails < 2:
            raise ConfigError("model.mails is 1: APAN's mailbox needs 2 or more; its paper has 10.")

    def _refuse_what_it_lacks(self) -> None:
        for field in dataclasses.fields(self):
            given, has = getattr(self, field.name), OPTIONS[self.name]
            if field.name in (*SHARED, *has) or given == field.default:
                continue
            owners = [name for name, options in OPTIONS.items() if field.name in options]
            raise ConfigError(
                f"model.{field.name} is {given}, and model {self.name} has no such option: leave it out, or choose "
                f"{' or '.join(owners)}."
            )

    @property
    def depth(self) -> int:
        """Layers, with the model's own number where none was given."""
        return self.layers or DEFAULT_LAYERS.get(self.name, 1)

    def options(self) -> dict[str, Any]:
        """The options that this model has, as plain values: what its weights depend on."""
        has = ("name", "dim", *OPTIONS[self.name])
        return {name: value for name, value in dataclasses.asdict(self).items() if name in has}
