"""The stream engine: a model, its memory and its batches, walked through the events in time order.

Memory is read as it was when a batch began, before any of its events is written. Sampled neighbors and pair features
reach up to each event's own time, strictly: they may see earlier events of the batch, but never the event itself.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from tgscale.data.stream import EventStream, Split
from tgscale.errors import ConfigError
from tgscale.graph.hashing import mix
from tgscale.graph.history import History
from tgscale.graph.sampling import NeighborSampler
from tgscale.graph.search import as_tensor
from tgscale.memory.group import Write
from tgscale.memory.local import LocalMemory, MemoryRows, NoMemory
from tgscale.models.rules import RULES
from tgscale.models.stream_models import model_class, state_shape
from tgscale.nn.static_memory import StaticTable
from tgscale.stream.batch import Batch, BatchBuilder, mail_tables
from tgscale.stream.config import TrainConfig
from tgscale.stream.feature_cache import FeatureCache
from tgscale.stream.forward import Equations, autocast
from tgscale.stream.negatives import NegativeSampler
from tgscale.stream.protocol.make import make_negatives
from tgscale.stream.protocol.negatives import Negatives
from tgscale.stream.scores import ScoreTable
from tgscale.stream.scoring import ScoreThreads, score_threads
from tgscale.stream.static import make_static_memory
from tgscale.stream.task import TASKS
from tgscale.stream.task.base import Scored
from tgscale.stream.task.head import head_apart, is_frozen, train_mode
from tgscale.train.distributed import Ranks
from tgscale.train.progress import Progress
from tgscale.train.rates import warm_up_and_cosine
from tgscale.train.trace import Trace


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
        self.split = config.eval.split_of(stream)
        for part in ("train", "val", "test"):
            start, stop = self.split.range(part)
            if start >= stop:
                brought = "the split that the data brought with it"
                ours = "a split by time at these shares (--eval.val, --eval.test)"
                raise ConfigError(
                    f"{stream.name} has {stream.num_events} events, and {brought if stream.source_split else ours} "
                    f"leaves none for the {part} part. Use more data or another split."
                )
        self.builder = self.make_builder(device)
        self.history = self.builder.history or History(stream, device)
        self._negatives: dict[str, Negatives] = {}
        self._event_time = as_tensor(stream.time, torch.device("cpu"))
        torch.manual_seed(config.seed)
        static = make_static_memory(config, stream, self.split, self.builder, device, pretrain)
        torch.manual_seed(config.seed)  # again: a table from the cache took no random numbers
        kind = model_class(config.model)
        scale = typical_gap(stream, self.split)
        self.model = kind(config.model, stream.edge_dim, static, scale, config.sampling.neighbors).to(device)
        self.task = TASKS[config.task.name](config, stream, self.split, device)
        if is_frozen(config):
            self.model.requires_grad_(False)
        self.task.attach(self.model)
        self.model.to(device)
        self._trained = Equations.of(self.model, config.compile)
        shape = state_shape(config.model, config.sampling.neighbors)
        self.memory = NoMemory(device) if shape is None else LocalMemory(stream.num_nodes, shape, device)

    def make_builder(self, device: torch.device) -> BatchBuilder:
        """What makes this engine's batches, on a device."""
        config, stream = self.config, self.stream
        sampler = NeighborSampler(
            stream,
            config.sampling.neighbors,
            strategy=config.sampling.strategy,
            window=config.sampling.window,
            seed=config.seed,
            device=device,
        )
        builder = BatchBuilder(
            stream,
            sampler,
            NegativeSampler(stream, config.eval.drawn_from, device),
            History(stream, device) if config.model.pair_encoding else None,
            span=int(stream.time[self.split.train - 1] - stream.time[0]),
            device=device,
            slice_features=config.pipeline.slice_features,
            roots=config.sampling.roots,
            pair_groups=config.model.pair_groups,
            needs=model_class(config.model).needs(config.model),
        )
        if config.pipeline.feature_cache:
            cache = FeatureCache(builder.edge_features, config.pipeline.feature_cache, device)
            builder.edge_features = cast(Tensor, cache)  # only ever sliced
        return builder

    def sparse_parameters(self) -> list[nn.Parameter]:
        """The co-trained table of static memory, if there is one: a batch touches few of its rows."""
        static = self.model.static
        trained = isinstance(static, StaticTable) and static.trained and static.table.requires_grad
        return [static.table] if isinstance(static, StaticTable) and trained else []

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the weights, and its lazy form for sparse parameters; set for as many trainers as the layout has."""
        train = self.config.train
        world = self.config.run_layout.world
        adam = scaled_adam(train.lr, world, train.lr_scaling)
        sparse = self.sparse_parameters()
        dense = [p for p in self.model.parameters() if p.requires_grad and not any(p is s for s in sparse)]
        groups = head_apart(self.model, dense, scaled_adam(self.config.task.lr, world, train.lr_scaling)["lr"])
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, weight_decay=train.weight_decay, fused=True, **adam)
        ]
        return optimizers + ([torch.optim.SparseAdam(sparse, **adam)] if sparse else [])

    def schedulers(self, optimizers: list[torch.optim.Optimizer], steps: int) -> list[LRScheduler]:
        """One learning-rate schedule per optimiser, over all ``steps`` of the run; none for a constant rate."""
        if self.config.train.schedule == "constant":
            return []
        return [LambdaLR(optimizer, lambda step: warm_up_and_cosine(step / steps)) for optimizer in optimizers]

    def forward(self, rows: MemoryRows, batch: Batch, every_end: bool = False) -> tuple[Tensor, Write | None]:
        """Score a batch on the memory that was read for it.

        Args:
            rows: state of the batch's nodes as it was before the batch.
            batch: the events and their candidates.
            every_end: see :func:`tgscale.memory.local.rows_after_events`.

        Returns:
            What the task asks for, for links the logits of each event's candidates, ``[B, C]`` (column 0 the true one),
            and what the events leave behind: None for a model without memory.
        """
        logits, updated, read, time = self._equations(rows, batch)
        after = self.model.after(read, updated, batch.ends(rows.mail_event, every_end), time)
        return logits, None if after is None else Write(batch.block.nodes[after[0]], after[1])

    def _equations(self, rows: MemoryRows, batch: Batch) -> tuple[Tensor, Tensor, MemoryRows, Tensor]:
        """Logits; the updated memory, the rows that it came of, and the times that these point into."""
        rows, time, features = self._mail(rows)
        training = self.model.training
        model = self._trained if training else self.model
        with autocast(self.config, self.device, training):
            updated = model.update(rows, time, features)
            h = model.embed(updated, *batch.inputs(self.builder.edge_features), elapsed(rows, time, batch))
            logits = self.task.logits(model, h, batch).to(updated.dtype)
        return logits, updated, rows, time

    def logits(self, rows: MemoryRows, batch: Batch) -> Tensor:
        """Logits of each event's candidates alone, ``[B, C]``; see :meth:`forward`. -inf for one that is not there."""
        return batch.by_event(self._equations(rows, batch)[0])

    def negatives_of(self, part: str) -> Negatives:
        """What the events of a part are compared with; made when first asked for."""
        if part not in self._negatives:
            self._negatives[part] = make_negatives(self.config.eval, self.stream, self.split, part, self.device)
        return self._negatives[part]

    def trace_operators(self, trace: Trace) -> None:
        """Let the parts of a training step's forward be spans."""
        self._trained = self._trained.traced(trace)

    def _mail(self, rows: MemoryRows) -> tuple[MemoryRows, Tensor, Tensor]:
        """Rows, and the tables of times and edge features that their ``mail_event`` points into."""
        if self.builder.slice_features:
            return mail_tables(rows, self._event_time, self.builder.edge_features, self.device)
        return rows, self.builder.time, self.builder.edge_features

    def score(self, batch: Batch) -> Tensor:
        """Logits, as :meth:`forward` gives them; then the events enter :attr:`memory`."""
        logits, write = self.forward(self.memory.read(batch.block.nodes), batch)
        if write is not None:
            self.memory.write(write.nodes, write.rows)
        return logits

    @torch.no_grad()
    def advance(self, start: int, stop: int) -> None:
        """Let the events ``[start, stop)`` enter :attr:`memory`, scoring nothing."""
        if isinstance(self.memory, NoMemory):
            return
        nodes, ends = self.builder.ends(start, stop)
        kept = self.memory.read(nodes)
        rows, time, features = self._mail(kept)
        updated = self.model.update(rows, time, features)
        after = self.model.after(rows, updated, ends(kept.mail_event), time)
        assert after is not None
        self.memory.write(nodes[after[0]], after[1])

    def seed(self, iteration: int, trainer: int) -> None:
        """Set the random numbers of a trainer's step: a function of the run's seed, the iteration and the trainer.

        So nothing of them has to be kept: an emulated trainer draws what a real one draws, and a resumed one what it
        would have drawn.
        """
        value = mix(mix(mix(self.config.seed & (2**64 - 1)) ^ iteration) ^ trainer) & (2**63 - 1)
        torch.default_generator.manual_seed(value)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(value)

    def train_mode(self) -> None:
        """Let the model compute as in training: with dropout, where weights are trained."""
        train_mode(self.model, is_frozen(self.config))

    def warm_up(self) -> None:
        """Let kernels compile (or load from their cache) by a step that leaves no trace."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            batch = self.builder.range(
                0, min(2, self.split.train), self.task.negatives(self.config.train.negatives), seed=0
            )
            self.task.loss(self.score(batch), batch).backward()
        self.model.zero_grad(set_to_none=True)
        self.memory.reset()

    @torch.no_grad()
    def evaluate(self, part: str, progress: Progress | None = None, ranks: Ranks | None = None) -> Scored:
        """Score the events of a part; the memory, which must stand at its start, goes on to its end.

        The memory takes the events in by itself, without their candidates, which is a small part of the work. So ranks
        can share the scoring: each walks through all batches and scores every ``world``-th of them.

        Args:
            part: ``"val"`` or ``"test"``.
            progress: told of each batch.
            ranks: all of which call this with equal weights and memory, or None.
        """
        config, (first, last) = self.config.eval, self.split.range(part)
        ranks = ranks or Ranks()
        self.model.eval()
        self.builder.sampler.seed = config.seed
        spans = config.rule.spans(first, last, self.config.eval_batch_size)
        scores = self.task.table(first, last)
        turn = {span: number % ranks.world for number, span in enumerate(spans)}
        negatives = self.negatives_of(part) if self.task.negatives(1) else None

        def build(builder: BatchBuilder, span: tuple[int, int]) -> Batch | None:
            if turn[span] != ranks.rank:
                return None
            event = torch.arange(*span, device=self.device)
            if negatives is None:
                return builder.events(event, 0, config.seed)
            return builder.against(event, negatives.draw(event))

        with ScoreThreads(self.builder, score_threads(self.device), scores.add) as threads:
            for (start, stop), batch in threads.batches(spans, build):
                if batch is not None:
                    rows = self.memory.read(batch.block.nodes)
                    threads.score(start - first, partial(self.logits, rows, batch))
                self.advance(start, stop)
                if progress:
                    progress.advance(stop - start)
        ranks.sum(scores.columns)
        return scores.scores()

    def evaluate_rules(self, part: str, batch_size: int = 4096) -> dict[str, Scored]:
        """Score the same events and negatives by every rule. EdgeBank's time window is as long as the part lasts."""
        if (rules := self.task.rules(part)) is not None:
            return rules
        config, builder, (first, last) = self.config.eval, self.builder, self.split.range(part)
        spans = config.rule.spans(first, last, self.config.eval_batch_size)
        bounds, negatives = [stop - first for _, stop in spans], self.negatives_of(part)
        if not negatives.by_batch:  # larger steps, the same draws
            spans = [(start, min(start + batch_size, last)) for start in range(first, last, batch_size)]
        tables = {name: ScoreTable(last - first, config.rule, bounds, logits=False) for name in RULES}
        window = builder.time[last - 1] - builder.time[first]
        for start, stop in spans:
            event = torch.arange(start, stop, device=self.device)
            src, dst, time = builder.src[event].long(), builder.dst[event].long(), builder.time[event]
            drawn = negatives.draw(event)
            candidate = torch.cat([dst[:, None], drawn.node], dim=1)
            oldest = torch.searchsorted(builder.time, time - window)
            query = [x[:, None].expand_as(candidate) for x in (src, time, oldest)]
            if drawn.source is not None:
                query[0] = torch.cat([src[:, None], drawn.source], dim=1)
            source, asked, oldest = (each.reshape(-1) for each in query)
            for name, rule in RULES.items():
                score = rule(self.history, source, candidate.reshape(-1), asked, oldest).view_as(candidate)
                if drawn.there is not None:
                    score[:, 1:].masked_fill_(~drawn.there, -math.inf)
                tables[name].add(start - first, score)
        return {name: table.scores() for name, table in tables.items()}

    def new_node_events(self, part: str) -> Tensor:
        """Mask of the part's events that touch a node no training event touches, ``[events of the part]``."""
        new = torch.from_numpy(self.stream.new_nodes(self.split))
        start, stop = self.split.range(part)
        return new[self.builder.src[start:stop].long().cpu()] | new[self.builder.dst[start:stop].long().cpu()]


def elapsed(rows: MemoryRows, event_time: Tensor, batch: Batch) -> Tensor | None:
    """From the last event of each root's node that the memory knows of to the root's time, ``[R]``; 0 where there is
    none. None unless the model needs it."""
    block = batch.block
    if block.time is None:
        return None
    last = rows.mail_event[block.roots[block.root_row]]
    return torch.where(last >= 0, block.time - event_time[last.clamp(min=0)], 0)


def typical_gap(stream: EventStream, split: Split) -> float:
    """Mean time from one training event of a node to its next, if all nodes had equally many; in the stream's unit."""
    span = int(stream.time[split.train - 1] - stream.time[0])
    return max(span * stream.num_nodes / (2 * split.train), 1.0)


def scaled_adam(lr: float, world: int, rule: str) -> dict[str, Any]:
    """Adam's settings when each step averages the gradients of ``world`` times as many events.

    Args:
        lr: for one trainer.
        world: trainers.
        rule: ``"sqrt"`` follows the stochastic differential equation that Adam approximates (Malladi et al. 2022,
            arXiv 2205.10287, scaling rule 5.3): the rate grows with the square root, and the averages forget as fast
            per event as before. ``"linear"`` is the rule for SGD, as in DistTGL; ``"none"`` changes nothing.
    """
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    if rule == "linear":
        lr *= world
    elif rule == "sqrt":
        lr, eps = lr * world**0.5, eps / world**0.5
        beta1, beta2 = (max(0.0, 1 - world * (1 - beta)) for beta in (beta1, beta2))
    return {"lr": lr, "betas": (beta1, beta2), "eps": eps}
