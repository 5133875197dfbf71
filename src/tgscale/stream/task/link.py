"""Link prediction: the true destination of an event among others."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tgscale.data.stream import EventStream, Split
from tgscale.nn.decoder import link_loss
from tgscale.stream.batch import Batch
from tgscale.stream.config import TrainConfig
from tgscale.stream.scores import ScoreTable
from tgscale.stream.task.base import Scored


class LinkTask:
    """Needs no labels and no weights of its own: a model's decoder scores pairs."""

    name, title, metric = "link", "link prediction", "mrr"

    def __init__(self, config: TrainConfig, stream: EventStream, split: Split, device: Any) -> None:
        self.config = config

    def attach(self, model: nn.Module) -> None:
        pass

    def negatives(self, wanted: int) -> int:
        return wanted

    def logits(self, equations: Any, h: Tensor, batch: Batch) -> Tensor:
        return equations.score(h, batch.source, batch.candidate, batch.pair_features)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return link_loss(logits)

    def table(self, first: int, last: int) -> ScoreTable:
        rule = self.config.eval.rule
        spans = rule.spans(first, last, self.config.eval_batch_size)
        return ScoreTable(last - first, rule, [stop - first for _, stop in spans])

    def rules(self, part: str) -> dict[str, Scored] | None:
        return None

    def describe(self) -> dict[str, Any] | None:
        return None
