"""All models of event streams by name."""

from __future__ import annotations

from collections.abc import Sequence

from tgscale.errors import ConfigError
from tgscale.memory.shape import RowShape
from tgscale.models.apan import APAN
from tgscale.models.config import OPTIONS, ModelConfig
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


def register(name: str, model: type[StreamModel], options: Sequence[str] = ()) -> None:
    """Make a model of one's own known by a name, for as long as this process lasts.

    Args:
        name: what ``--model`` and ``default_config(..., model=name)`` then take.
        model: its class.
        options: fields of :class:`ModelConfig` that it reads, beside those that all models have.

    Raises:
        ConfigError: the name is taken.
    """
    if name in STREAM_MODELS:
        raise ConfigError(f"there is a model {name!r} already: register yours under another name.")
    STREAM_MODELS[name], OPTIONS[name] = model, tuple(options)


def model_class(config: ModelConfig) -> type[StreamModel]:
    """The class of the model that a configuration names."""
    return STREAM_MODELS[config.name]


def state_shape(config: ModelConfig, neighbors: int) -> RowShape | None:
    """Widths of what the model keeps per node, with so many sampled past events per root; None for nothing."""
    return model_class(config).shape(config, neighbors)
