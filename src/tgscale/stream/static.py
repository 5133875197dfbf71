"""The stage that makes a run's static node memory: pre-train a table, or take the node features."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import tgscale
from tgscale.data.files import scanning
from tgscale.data.stream import EventStream, Split
from tgscale.errors import ConfigError
from tgscale.models.stream_models import model_class
from tgscale.nn.decoder import link_loss
from tgscale.nn.static_memory import StaticMemory, StaticTable
from tgscale.stream.batch import BatchBuilder
from tgscale.stream.config import TrainConfig
from tgscale.train.progress import Progress

logger = logging.getLogger(__name__)

TABLE_VERSION = 1
"""Raise it when pre-training changes what it makes, so that no table of before is used."""


def make_static_memory(
    config: TrainConfig,
    stream: EventStream,
    split: Split,
    builder: BatchBuilder,
    device: torch.device,
    pretrain: bool = True,
) -> StaticMemory:
    """The static memory that ``config.static`` asks for. Pre-trained tables are cached by content hash.

    Args:
        config: all choices.
        stream, split, builder: what a table is trained on.
        device: where it lives.
        pretrain: False leaves a pre-trained table empty, to be loaded from a checkpoint.

    Raises:
        ConfigError: ``features`` on a stream without node features.
    """
    static, dim = config.static, config.model.dim
    if static.mode == "none":
        return StaticMemory()
    if static.mode == "features":
        if stream.node_features is None:
            raise ConfigError(
                "static.mode is 'features', but the data has no node features: import them with --node-features, "
                "or choose none, pretrained or cotrained."
            )
        # A copy: weights are loaded into it, and a memory-mapped column must not be written to.
        table = torch.tensor(np.asarray(stream.node_features), device=device)
        return StaticTable(table, dim, dropout=static.dropout, project=True, gate=static.gate)
    width = static.dim or dim
    if static.mode == "cotrained":
        table = torch.randn(stream.num_nodes, width, device=device) * 0.1
        return StaticTable(table, dim, trained=True, dropout=static.dropout, gate=static.gate)
    if pretrain:
        table = _cached_table(config, stream, split, builder, width).to(device)
    else:
        table = torch.zeros(stream.num_nodes, width, device=device)
    return StaticTable(table, dim, dropout=static.dropout, gate=static.gate)


def _cached_table(config: TrainConfig, stream: EventStream, split: Split, builder: BatchBuilder, width: int) -> Tensor:
    path = config.static.cache.expanduser() / f"{_content_hash(config, stream, split, builder)}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return load_file(path)["table"]
    except FileNotFoundError:
        pass  # not made yet
    except SafetensorError:
        logger.warning("%s is damaged: the table is made again.", path)
    except OSError as error:
        raise ConfigError(
            f"static.cache {path.parent} cannot be used ({error.strerror}): give another --static.cache."
        ) from None
    table = pretrain_table(config, stream, split, builder, width)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({"table": table.cpu().contiguous()}, partial)
    partial.replace(path)
    return table


def _content_hash(config: TrainConfig, stream: EventStream, split: Split, builder: BatchBuilder) -> str:
    """Hash of all that the table depends on: training events, population of negatives, options, seed, device, code."""
    digest = hashlib.sha256()
    static = {k: v for k, v in dataclasses.asdict(config.static).items() if k not in ("cache", "dropout", "gate")}
    model = config.model.options()
    if config.model.name == "tgn":
        del model["name"]  # so that tables of before are found
    options = [static, model, dataclasses.asdict(config.sampling), config.train.negatives, config.seed]
    extent = [stream.num_nodes, split.train, builder.time.device.type, TABLE_VERSION, tgscale.__version__]
    digest.update(json.dumps([options, extent], sort_keys=True).encode())
    digest.update(builder.negatives.nodes.cpu().numpy().data)
    columns = [c for c in (stream.src, stream.dst, stream.time, stream.edge_features) if c is not None]
    with scanning(*columns[3:]):
        for column in columns:
            digest.update(np.ascontiguousarray(column[: split.train]).data)
    return digest.hexdigest()[:32]


def pretrain_table(config: TrainConfig, stream: EventStream, split: Split, builder: BatchBuilder, width: int) -> Tensor:
    """Train node vectors with the same architecture and task but no dynamic memory, on shuffled training events.

    Without memory nothing depends on the order of batches, so every event is used as often as any other. Nodes that no
    training event touches get zeros. DistTGL section 3.1.

    Returns:
        ``[N, width]``.
    """
    static, device = config.static, builder.time.device
    model_config = dataclasses.replace(config.model, pair_encoding=False)
    table = StaticTable(torch.randn(stream.num_nodes, width, device=device) * 0.1, config.model.dim, trained=True)
    kind, neighbors = model_class(model_config), config.sampling.neighbors
    model = kind(model_config, stream.edge_dim, table, neighbors=neighbors).to(device)
    dense = [p for p in model.parameters() if p is not table.table and p.requires_grad]
    optimizers = [
        torch.optim.AdamW(dense, lr=static.lr, weight_decay=static.weight_decay, fused=True),
        torch.optim.SparseAdam([table.table], lr=static.lr),
    ]
    no_memory = torch.zeros(1, config.model.dim, device=device)
    generator = torch.Generator().manual_seed(config.seed)
    with Progress(static.epochs * split.train, "static memory", quiet=config.quiet) as progress:
        for epoch in range(static.epochs):
            order = torch.randperm(split.train, generator=generator).to(device)
            builder.sampler.seed = config.seed * 1_000_003 + epoch
            for event in order.split(static.batch_size):
                seed = ~(config.seed * 1_000_003 + epoch)
                batch = builder.events(event, config.train.negatives, seed, with_pairs=False, with_past=False)
                block, features = batch.inputs(builder.edge_features)
                h = model.embed(no_memory.expand(len(block.nodes), -1), block, features)
                loss = link_loss(model.score(h, batch.source, batch.candidate))
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
                if static.weight_decay:  # of the touched rows alone, as SparseAdam updates no others
                    with torch.no_grad():
                        table.table[batch.block.nodes] *= 1 - static.lr * static.weight_decay
                progress.advance(len(event), loss=loss.item())
    result = table.table.detach().clone()
    result[torch.from_numpy(stream.new_nodes(split)).to(device)] = 0
    return result
