"""All models of event streams by name."""

from __future__ import annotations

from tgscale.memory.shape import RowShape
from tgscale.models.apan import APAN
from tgscale.models.config import ModelConfig
from tgscale.models.dyrep import DyRep
from tgscale.models.graphmixer import GraphMixer
from tgscale.models.jodie import JODIE
from tgscale.models.stream_model import StreamModel
from tgscale.models.tgat import TGAT
from tgscale.models.tgn import TGN

STREAM_MODELS: dict[str, type[StreamModel]] = {
    "tgn": TGN,
    "jodie": JODIE,
    "dyrep": DyRep,
    "apan": APAN,
    "tgat": TGAT,
    "graphmixer": GraphMixer,
}
"""Name, as in :attr:`ModelConfig.name`, -> class."""


def model_class(config: ModelConfig) -> type[StreamModel]:
    """The class of the model that a configuration names."""
    return STREAM_MODELS[config.name]


def state_shape(config: ModelConfig, neighbors: int) -> RowShape | None:
    """Widths of what the model keeps per node, with so many sampled past events per root; None for nothing."""
    return model_class(config).shape(config, neighbors)
