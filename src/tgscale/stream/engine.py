"""The stream engine: a model, its memory and its batches, walked through the events in time order.

Memory is read as it was when a batch began, before any of its events is written. Sampled neighbors and pair features
reach up to each event's own time, strictly: they may see earlier events of the batch, but never the event itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph.history import History
from tgscale.graph.sampling import NeighborSampler
from tgscale.memory.local import LocalMemory, rows_after_events
from tgscale.models.rules import RULES
from tgscale.models.tgn import TGN
from tgscale.nn.decoder import link_loss
from tgscale.nn.static_memory import StaticTable
from tgscale.stream.batch import Batch, BatchBuilder
from tgscale.stream.config import TrainConfig
from tgscale.stream.negatives import NegativeSampler
from tgscale.stream.scores import ScoreCollector, Scores
from tgscale.stream.static import make_static_memory
from tgscale.train.progress import Progress


class StreamEngine:
    """A model on one device, its memory, and the stream it walks through.

    Args:
        config: all choices.
        stream: the events.
        device: where everything lives.
        pretrain: make the static memory that the configuration asks for; False leaves it empty, to be loaded.

    Raises:
        ConfigError: a split without training, validation or test events; static features that are not there.
    """

    def __init__(self, config: TrainConfig, stream: EventStream, device: torch.device, pretrain: bool = True) -> None:
        self.config, self.stream, self.device = config, stream, device
        self.split = stream.split(config.eval.val, config.eval.test)
        for part in ("train", "val", "test"):
            start, stop = self.split.range(part)
            if start >= stop:
                brought = "the split that the data brought with it"
                ours = "a split by time at these shares (--eval.val, --eval.test)"
                raise ConfigError(
                    f"{stream.name} has {stream.num_events} events, and {brought if stream.source_split else ours} "
                    f"leaves none for the {part} part. Use more data or another split."
                )
        self.history = History(stream, device)
        sampler = NeighborSampler(
            stream,
            config.sampling.neighbors,
            strategy=config.sampling.strategy,
            window=config.sampling.window,
            seed=config.seed,
            device=device,
        )
        span = int(stream.time[self.split.train - 1] - stream.time[0])
        negatives = NegativeSampler(stream, config.eval.population, device)
        pairs = self.history if config.model.pair_encoding else None
        self.builder = BatchBuilder(stream, sampler, negatives, pairs, span, device)
        torch.manual_seed(config.seed)
        static = make_static_memory(config, stream, self.split, self.builder, device, pretrain)
        torch.manual_seed(config.seed)  # again: a table from the cache took no random numbers
        self.model = TGN(config.model, stream.edge_dim, static).to(device)
        self.memory = LocalMemory(stream.num_nodes, config.model.dim, device)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the weights; its lazy form for a co-trained table, of which a batch touches few rows."""
        train = self.config.train
        static = self.model.static
        sparse = [static.table] if isinstance(static, StaticTable) and static.trained else []
        dense = [p for p in self.model.parameters() if p.requires_grad and not any(p is s for s in sparse)]
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(dense, lr=train.lr, weight_decay=train.weight_decay, fused=True)
        ]
        return optimizers + ([torch.optim.SparseAdam(sparse, lr=train.lr)] if sparse else [])

    def schedulers(self, optimizers: list[torch.optim.Optimizer]) -> list[LRScheduler]:
        """One learning-rate schedule per optimiser, over all steps of all epochs; none for a constant rate."""
        train = self.config.train
        if train.schedule == "constant":
            return []
        steps = train.epochs * math.ceil(self.split.train / train.batch_size)
        return [LambdaLR(optimizer, lambda step: _warm_up_and_cosine(step / steps)) for optimizer in optimizers]

    def score(self, batch: Batch) -> Tensor:
        """Logits of each event's candidates, ``[B, C]`` (column 0 the true one); then the events enter the memory."""
        rows = self.memory.read(batch.block.nodes)
        updated = self.model.update(rows, self.builder.time, self.builder.edge_features)
        h = self.model.embed(updated, batch.block, self.builder.edge_features)
        logits = self.model.score(h, batch.source, batch.candidate, batch.pair_features)
        own, after = rows_after_events(
            rows, updated, batch.source_slot, batch.destination_slot, batch.event, self.builder.time
        )
        self.memory.write(batch.block.nodes[own], after)
        return logits

    def warm_up(self) -> None:
        """Let kernels compile (or load from their cache) by a step that leaves no trace."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            batch = self.builder.range(0, min(2, self.split.train), self.config.train.negatives, seed=0)
            link_loss(self.score(batch)).backward()
        self.model.zero_grad(set_to_none=True)
        self.memory.reset()

    def train_epoch(
        self,
        epoch: int,
        optimizers: list[torch.optim.Optimizer],
        schedulers: list[LRScheduler],
        progress: Progress | None = None,
    ) -> float:
        """One pass over the training events from an empty memory; returns the mean loss per event."""
        train = self.config.train
        self.model.train()
        self.memory.reset()
        self.builder.sampler.seed = self.config.seed * 1_000_003 + epoch
        total = torch.zeros((), device=self.device)
        for start in range(0, self.split.train, train.batch_size):
            stop = min(start + train.batch_size, self.split.train)
            batch = self.builder.range(start, stop, train.negatives, seed=self.config.seed * 1_000_003 + epoch + 1)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss = link_loss(self.score(batch))
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
            total += loss.detach() * (stop - start)
            if progress:
                progress.advance(stop - start)
        return float(total) / self.split.train

    @torch.no_grad()
    def evaluate(self, part: str, progress: Progress | None = None) -> Scores:
        """Score the events of a part; the memory, which must stand at its start, goes on to its end."""
        config, (first, last) = self.config.eval, self.split.range(part)
        self.model.eval()
        self.builder.sampler.seed = config.seed
        collector = ScoreCollector()
        for start in range(first, last, self.config.eval_batch_size):
            stop = min(start + self.config.eval_batch_size, last)
            batch = self.builder.range(start, stop, config.negatives, config.seed, config.exclude_own)
            collector.add(self.score(batch))
            if progress:
                progress.advance(stop - start)
        return collector.scores()

    def evaluate_rules(self, part: str, batch_size: int = 4096) -> dict[str, Scores]:
        """Score the same events and negatives by every rule. EdgeBank's time window is as long as the part lasts."""
        config, builder, (first, last) = self.config.eval, self.builder, self.split.range(part)
        collectors = {name: ScoreCollector() for name in RULES}
        window = builder.time[last - 1] - builder.time[first]
        for start in range(first, last, batch_size):
            event = torch.arange(start, min(start + batch_size, last), device=self.device)
            src, dst, time = builder.src[event].long(), builder.dst[event].long(), builder.time[event]
            negative = builder.negatives.draw(event, dst, config.negatives, config.seed, config.exclude_own)
            candidate = torch.cat([dst[:, None], negative], dim=1)
            oldest = torch.searchsorted(builder.time, time - window)
            query = [x[:, None].expand_as(candidate).reshape(-1) for x in (src, time, oldest)]
            for name, rule in RULES.items():
                score = rule(self.history, query[0], candidate.reshape(-1), query[1], query[2])
                collectors[name].add(score.view_as(candidate))
        return {name: collector.scores() for name, collector in collectors.items()}

    def new_node_events(self, part: str) -> Tensor:
        """Mask of the part's events that touch a node no training event touches, ``[events of the part]``."""
        new = torch.from_numpy(self.stream.new_nodes(self.split))
        start, stop = self.split.range(part)
        return new[self.builder.src[start:stop].long().cpu()] | new[self.builder.dst[start:stop].long().cpu()]


def _warm_up_and_cosine(done: float) -> float:
    """Factor of the learning rate after a share ``done`` of all steps: up from 4 % within the first 5 %, then down."""
    if done < 0.05:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * done / 0.05)) / 2
    return (1 + math.cos(math.pi * (done - 0.05) / 0.95)) / 2
