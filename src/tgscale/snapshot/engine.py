"""Training and evaluation of a snapshot model on one device: groups in, losses and metrics out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.graph.hashing import mix
from tgscale.nn.program import Node
from tgscale.snapshot.build import make_model, make_task
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.cost import CostModel, cost_columns
from tgscale.snapshot.groups import make_groups
from tgscale.snapshot.placement import LocalPlacement, Placement
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.rewrite import Rewrites
from tgscale.snapshot.task.base import Metrics
from tgscale.snapshot.tensors import SnapshotData
from tgscale.snapshot.windows import Windows
from tgscale.train.distributed import Ranks
from tgscale.train.progress import Progress

STOCHASTIC_MODELS = ("mpnn_lstm",)


class Parts(NamedTuple):
    """Labelled steps of the three parts of a sequence."""

    train: range
    val: range
    test: range


class Ahead(NamedTuple):
    """A group whose work before the recurrence is done."""

    group: int
    epoch: int
    values: dict[Node, Tensor]


class SnapshotEngine:
    """A model, its plan and its task on a snapshot sequence.

    Args:
        config: all choices.
        sequence: the snapshots.
        device: where everything lies.
        dtype: float32 or float64.
        place: makes the placement from the data; everything on this device unless given.

    Attributes:
        parts: labelled steps to train, validate and test on.
        groups: training groups.
        modules: ``model`` and ``head``.
        kept_bytes: what the plan keeps for the whole run.

    Raises:
        ConfigError: options that do not fit the data, or no labels in a part.
    """

    def __init__(
        self,
        config: SnapshotConfig,
        sequence: SnapshotSequence,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        place: Callable[[SnapshotData], Placement] = LocalPlacement,
    ) -> None:
        self.config, self.sequence, self.device = config, sequence, torch.device(device)
        self.task = make_task(config, sequence, self.device, dtype)
        self.parts = split_steps(config, self.task.num_steps, self.task.lead)
        self.groups = make_groups(0, self.parts.train.stop - self.task.lead, config.window, config.stride)
        self.data = SnapshotData(sequence, device, dtype, config.net.features)
        model = make_model(config, sequence, self.data.x.shape[2])
        self.modules = nn.ModuleDict({"model": model, "head": self.task.head(model.out_dim)}).to(device, dtype)
        self.model = model
        self._refuse_parts_without_labels()
        self.plan = Plan(model, Rewrites(**vars(config.plan)))
        self.placement = place(self.data)
        self.kept_bytes = self.placement.keep(self.plan)
        self._windows: Windows | None = None
        self._items: dict[int, int] = {}

    def _refuse_parts_without_labels(self) -> None:
        trained = {t + self.task.lead for group in range(len(self.groups)) for t in self._labelled(group)}
        for verb, steps in (("train", sorted(trained)), ("validate", self.parts.val), ("test", self.parts.test)):
            if not any(self.task.items(step) for step in steps):
                raise ConfigError(
                    f"the snapshots to {verb} on have no edges (steps {steps[0]} to {steps[-1]}): choose other shares "
                    f"than eval.val {self.config.eval.val} and eval.test {self.config.eval.test}, or import the data "
                    "with longer windows."
                )

    @property
    def head(self) -> nn.Module:
        return self.modules["head"]

    @property
    def stochastic(self) -> bool:
        """Whether a group's forward draws random numbers."""
        return self.config.model in STOCHASTIC_MODELS and self.config.net.dropout > 0

    def cost_model(self) -> CostModel:
        """Costs of the training groups, from their sizes so far."""
        edges = self.sequence.edge_counts()
        nodes = np.full(self.sequence.num_steps, self.sequence.num_nodes)
        features, hidden = self.data.x.shape[2], self.config.net.hidden
        return CostModel(cost_columns(nodes, edges, self.groups, features, hidden))

    def items(self, group: int) -> int:
        """Labels of a group that count in the loss, all processes together."""
        if group not in self._items:
            self._items[group] = sum(self.task.items(t + self.task.lead) for t in self._labelled(group))
        return self._items[group]

    def loss(self, group: int, epoch: int) -> Tensor:
        """Sum of the losses of a group's labels that are this process's. Draws depend on (seed, epoch, group) alone."""
        self._seed(group, epoch)
        head = self._early_head(group)
        out = self.placement.run(self.plan, int(self.groups.first[group]), self.groups.window, head)
        return self._score(out, group, epoch, decoded=head is not None)

    def ahead(self, group: int, epoch: int) -> Ahead:
        """The first half of :meth:`loss`, up to the recurrence, for a group that lies here as a whole."""
        self._seed(group, epoch)
        view = self.data.group(int(self.groups.first[group]), self.groups.window)
        return Ahead(group, epoch, self.plan.run_ahead(view, self.plan.sharing(view)))

    def finish(self, ahead: Ahead) -> Tensor:
        """The second half of :meth:`loss`."""
        view = self.data.group(int(self.groups.first[ahead.group]), self.groups.window)
        head = self._early_head(ahead.group)
        out = self.plan.run_recurrence(view, ahead.values, self.plan.sharing(view), head)
        return self._score(out, ahead.group, ahead.epoch, decoded=head is not None)

    def _early_head(self, group: int) -> nn.Module | None:
        """The head, if it can be applied to all embeddings row by row: then once for nodes that share theirs."""
        all_labelled = self.model.per_group or len(self._labelled(group)) == self.groups.window
        return self.head if all_labelled and not self.task.all_nodes else None

    def _seed(self, group: int, epoch: int) -> None:
        if self.stochastic:
            torch.manual_seed(self._draw_seed(group, epoch) % 2**62)

    def _draw_seed(self, group: int, epoch: int) -> int:
        mask = 2**64 - 1
        return mix(mix(mix(self.config.seed & mask) ^ epoch) ^ group) >> 1

    def _labelled(self, group: int) -> range:
        """Steps of a group whose embeddings are compared with labels."""
        first, stop = int(self.groups.first[group]), int(self.groups.first[group]) + self.groups.window
        last_alone = self.model.per_group or self.config.train.loss_on == "last"
        return range(stop - 1 if last_alone else first, stop)

    def _score(self, out: Tensor, group: int, epoch: int, decoded: bool) -> Tensor:
        task, placement, seed = self.task, self.placement, self._draw_seed(group, epoch)
        labelled = self._labelled(group)
        out = out[None] if self.model.per_group else out[-len(labelled) :]
        steps = range(labelled.start + task.lead, labelled.stop + task.lead)
        if not task.all_nodes:
            head = nn.Identity() if decoded else self.head
            return task.loss(head, out, steps, seed, placement.nodes, placement.part)
        h = [placement.embeddings(each) for each in out.unbind(0)]
        return task.loss(self.head, h, steps, seed, placement.nodes, placement.part)

    @torch.no_grad()
    def evaluate(self, part: str, progress: Progress | None = None, ranks: Ranks | None = None) -> Metrics:
        """Metrics of a part, the same on all ranks, each of which scores some of its steps.

        Each labelled step is predicted from a group of its own that ends just before it.

        Raises:
            DivergedError: a score or prediction is NaN; on all ranks.
        """
        ranks, steps = ranks or Ranks(), getattr(self.parts, part)
        self.modules.eval()
        rows = {}
        with ranks.together():
            for step in steps[ranks.rank :: ranks.world]:
                rows[step] = self._score_step(step)
                if progress:
                    progress.advance(ranks.world)
        self.modules.train()
        found: dict[int, np.ndarray] = {}
        for part_of_rank in ranks.gather_objects(rows):
            found.update(part_of_rank)
        summary = None
        with ranks.together():
            if ranks.is_first:
                summary = self.task.summarize(np.concatenate([found[step] for step in steps]))
        return ranks.broadcast_object(summary)

    def _score_step(self, step: int) -> np.ndarray:
        if self._windows is None:
            self._windows = self._make_windows()
        return self.task.score(self.head, self._windows.embed(step - self.task.lead), step)

    def _make_windows(self) -> Windows:
        local, plan = LocalPlacement(self.data), self.plan
        if not isinstance(self.placement, LocalPlacement):  # which keeps its own nodes' values alone
            plan = Plan(self.model, self.plan.rewrites)
            local.keep(plan)
        return Windows(plan, local, self.config.window)

    def baselines(self, part: str) -> dict[str, Metrics]:
        """Metrics of rules without training on the same labels."""
        return self.task.baselines(getattr(self.parts, part), self.parts.train)


def split_steps(config: SnapshotConfig, steps: int, lead: int) -> Parts:
    """Labelled steps of the three parts: the last share of the steps, by time, to test on, and so on.

    Raises:
        ConfigError: a part would be empty.
    """
    labelled = steps - lead
    train = lead + round(labelled * (1 - config.eval.val - config.eval.test))
    val = lead + round(labelled * (1 - config.eval.test))
    parts = Parts(range(lead, train), range(train, val), range(val, steps))
    for name, part in zip(Parts._fields, parts, strict=True):
        if not part:
            raise ConfigError(
                f"{labelled} snapshots that can be predicted leave none to {name} on with eval.val {config.eval.val} "
                f"and eval.test {config.eval.test}: choose other shares, or import the data with shorter windows."
            )
    return parts
