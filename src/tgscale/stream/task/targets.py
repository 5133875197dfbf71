"""What the labels of events are: one of two classes, one of many, or any number of them. Loss, metrics and past."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tgscale.errors import ConfigError
from tgscale.stream.task.base import Metrics
from tgscale.train.metrics import ap_auc

MOST_CLASSES = 10_000
SMOOTH = 1.0
"""How many events the prior counts as, where shares become evidence."""
BALANCE = {"none": 0.0, "sqrt": 0.5, "inverse": 1.0}
"""To which power of its rarity a class counts in the loss."""


class Targets(Protocol):
    """The labels of all events, as a task sees them.

    Attributes:
        kind: for reports.
        metric: by which models are compared.
        classes: number of classes, C.
        outputs: scores that a head gives per event.
        width: numbers per event that metrics are made of, and their type.
        about: what the metrics are, for reports.
    """

    kind: str
    metric: str
    classes: int
    outputs: int
    width: int
    dtype: torch.dtype
    about: str

    def losses(self, logits: Tensor, event: Tensor) -> Tensor:
        """Loss of each event, ``[B]``, 0 where its label is not known. ``logits`` are ``[B, outputs]``."""

    def answer(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What the scores say: the class of each event, ``[B]``, or which classes it has, ``[B, C]``, bool; and the
        probability of each class, ``[B, C]``, float64, in which scores that differ stay apart."""

    def scores(self, probability: Tensor) -> Tensor:
        """Scores that these probabilities come from, ``[B, outputs]``, float64; of many classes up to a number that is
        added to all."""

    def rows(self, logits: Tensor, event: Tensor) -> Tensor:
        """What :meth:`summarize` needs, ``[width, B]``."""

    def summarize(self, columns: Tensor, event: Tensor) -> Metrics:
        """Metrics of the rows of all events of a part."""

    def shares(self, event: Tensor) -> Tensor:
        """How the classes share some events, ``[B, C]``: mean over the events ``[B, K]``, -1 for none."""

    def prior(self, stop: int) -> Tensor:
        """How the classes share the events before ``stop``, ``[C]``."""

    def as_logits(self, shares: Tensor) -> Tensor:
        """What a head would give for these shares of classes, ``[B, C]`` to ``[B, outputs]``."""

    def evidence(self, groups: list[Tensor]) -> list[Tensor]:
        """What groups of events say for each score of a head, ``[B, outputs]`` each.

        ``log(share / usual share)``, for several classes that of the odds. Shares are smoothed by what is usual, so
        that a group without events says nothing: 0.

        Args:
            groups: events ``[B, K]`` each, -1 for none; from the general to the particular.
        """

    def start(self, groups: int) -> tuple[Tensor, float]:
        """What a head starts from: its scores without evidence, ``[outputs]``, and how much the evidence of each of so
        many groups counts."""


class _OneClass:
    """One class per event.

    Args:
        label: class of each event, ``[E]``, int64, -1 where it is not known.
        classes: number of classes.
        train: training events, from the first on.
        balance: see :data:`BALANCE`.
    """

    def __init__(self, label: Tensor, classes: int, train: int, balance: str) -> None:
        self.label, self.classes = label, classes
        self.outputs = 1 if classes == 2 else classes
        counts = torch.bincount(label[:train][label[:train] >= 0], minlength=classes).double()
        weight = (counts.sum() / counts.clamp(min=1)) ** BALANCE[balance]
        weight = weight / (weight * counts).sum() * counts.sum()  # a mean of 1 over the training events
        self.weight = weight.float()
        # As often as each class counts in the loss; none is impossible.
        usual = (weight * counts + 1 / classes) / (weight * counts + 1 / classes).sum()
        self.usual = usual.float()

    def evidence(self, groups: list[Tensor]) -> list[Tensor]:
        """A class is narrowed down: what a group finds is usual for the next one. So all evidence adds up to the share
        in the most particular group that has events, smoothed by those before it."""
        found, usual = [], self.usual
        for event in groups:
            there = torch.where(event >= 0, self.label[event.clamp(min=0)] >= 0, False).sum(1, keepdim=True)
            counts = self.shares(event) * self.weight * there
            share = (counts + SMOOTH * usual) / (counts.sum(1, keepdim=True) + SMOOTH)
            found.append(self._for_outputs((share / usual).log()))
            usual = share
        return found

    def start(self, groups: int) -> tuple[Tensor, float]:
        return self._for_outputs(self.usual.log()), 1.0

    def _for_outputs(self, log: Tensor) -> Tensor:
        """For two classes there is one score: the second against the first."""
        return log if self.outputs > 1 else log[..., 1:] - log[..., :1]

    def shares(self, event: Tensor) -> Tensor:
        label = torch.where(event >= 0, self.label[event.clamp(min=0)], -1)
        found = torch.zeros(len(event), self.classes + 1, device=event.device)
        found.scatter_add_(1, label + 1, torch.ones_like(found[:, :1]).expand(label.shape))
        found = found[:, 1:]  # the first counted those that are not there
        return found / found.sum(1, keepdim=True).clamp(min=1)

    def prior(self, stop: int) -> Tensor:
        known = self.label[:stop][self.label[:stop] >= 0]
        return torch.bincount(known, minlength=self.classes).float() / max(len(known), 1)


class Binary(_OneClass):
    """One of two classes, the second of which is looked for: a state change, a fraud. One score per event."""

    kind, metric, width, dtype = "binary", "auc", 1, torch.float64
    about = "AUC and AP of the second class"

    def losses(self, logits: Tensor, event: Tensor) -> Tensor:
        label = self.label[event]
        loss = F.binary_cross_entropy_with_logits(logits[:, 0], label.clamp(min=0).to(logits.dtype), reduction="none")
        return torch.where(label >= 0, loss * self.weight[label.clamp(min=0)], 0)

    def answer(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        score = logits[:, 0].double()
        return (score > 0).long(), _against_zero(score)

    def scores(self, probability: Tensor) -> Tensor:
        return probability[:, 1:].log() - probability[:, :1].log()

    def rows(self, logits: Tensor, event: Tensor) -> Tensor:
        return logits.T

    def summarize(self, columns: Tensor, event: Tensor) -> Metrics:
        label = self.label[event.to(self.label.device)].cpu()
        positive, negative = columns[0][label == 1], columns[0][label == 0]
        if not len(positive) or not len(negative):
            return {"auc": None, "ap": None}
        ap, auc = ap_auc(positive, negative)
        return {"auc": auc, "ap": ap}

    def as_logits(self, shares: Tensor) -> Tensor:
        return shares[:, 1:]


class Multiclass(_OneClass):
    """One of many classes."""

    kind, metric, width, dtype = "multi-class", "accuracy", 2, torch.float64
    about = "accuracy (which F1-micro equals), macro F1 over the classes that occur, MRR of the true class"

    def losses(self, logits: Tensor, event: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, self.label[event], weight=self.weight.to(logits.dtype), ignore_index=-1, reduction="none"
        )

    def answer(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return logits.argmax(1), logits.double().softmax(1)

    def scores(self, probability: Tensor) -> Tensor:
        return probability.log()

    def rows(self, logits: Tensor, event: Tensor) -> Tensor:
        true = logits.gather(1, self.label[event].clamp(min=0)[:, None])
        # Classes of equal score share their places: half of the others at the same score come first.
        rank = 0.5 + (logits > true).sum(1) + 0.5 * (logits == true).sum(1)
        return torch.stack([logits.argmax(1).double(), rank.double()])

    def summarize(self, columns: Tensor, event: Tensor) -> Metrics:
        from torchmetrics.functional.classification import multiclass_f1_score  # slow to import

        label = self.label[event.to(self.label.device)].cpu()
        known = label >= 0
        if not known.any():
            return {"accuracy": None, "f1_macro": None, "class_mrr": None}
        true, found, rank = label[known], columns[0][known].long(), columns[1][known]
        f1 = multiclass_f1_score(found, true, num_classes=self.classes, average="macro")
        return {
            "accuracy": float((true == found).double().mean()),
            "f1_macro": float(f1),
            "class_mrr": float(rank.reciprocal().mean()),
        }

    def as_logits(self, shares: Tensor) -> Tensor:
        return shares


class Multilabel:
    """Any number of classes per event; a class counts as found where its score is above 0 (probability 1/2).

    Args:
        marks: 0 or 1, ``[E, L]``, uint8.
        train: training events, from the first on.
        balance: see :data:`BALANCE`; of each class by itself, present against absent.
    """

    kind, metric, dtype = "multi-label", "f1_micro", torch.float32
    about = "F1 at probability 1/2 (micro, macro over classes), mean AP of the classes"

    def __init__(self, marks: Tensor, train: int, balance: str) -> None:
        self.marks = marks
        self.classes = self.outputs = self.width = marks.shape[1]
        present = self.prior(train).clamp(1 / train, 1 - 1 / train)
        self.weight = ((1 - present) / present).clamp(min=1e-3) ** BALANCE[balance]
        self.usual = self.weight * present / (self.weight * present + 1 - present)

    def evidence(self, groups: list[Tensor]) -> list[Tensor]:
        """Classes come from different sides and add up, so each group speaks for itself."""
        found = []
        for event in groups:
            there = (event >= 0).sum(1, keepdim=True)
            share = (self.shares(event) * there + SMOOTH * self.usual) / (there + SMOOTH)
            found.append(share.logit() - self.usual.logit())
        return found

    def start(self, groups: int) -> tuple[Tensor, float]:
        return self.usual.logit(), 1 / groups

    def losses(self, logits: Tensor, event: Tensor) -> Tensor:
        target = self.marks[event].to(logits.dtype)
        weight = self.weight.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none").mean(1)

    def answer(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return logits > 0, _against_zero(logits.double())[..., 1]

    def scores(self, probability: Tensor) -> Tensor:
        return probability.logit()

    def rows(self, logits: Tensor, event: Tensor) -> Tensor:
        return logits.T

    def summarize(self, columns: Tensor, event: Tensor) -> Metrics:
        from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

        true = self.marks[event.to(self.marks.device)].cpu().long()
        found, many = (columns.T > 0).long(), self.classes
        score = columns.T.double().sigmoid()
        return {
            "f1_micro": float(multilabel_f1_score(found, true, many, average="micro")),
            "f1_macro": float(multilabel_f1_score(found, true, many, average="macro")),
            "ap_macro": float(multilabel_average_precision(score, true, many, average="macro")),
        }

    def shares(self, event: Tensor) -> Tensor:
        there = event >= 0
        marks = self.marks[event.clamp(min=0)].float() * there[..., None]
        return marks.sum(1) / there.sum(1, keepdim=True).clamp(min=1)

    def prior(self, stop: int) -> Tensor:
        total = torch.zeros(self.marks.shape[1], dtype=torch.float64, device=self.marks.device)
        for part in self.marks[:stop].split(1 << 20):  # as float a piece at a time
            total += part.sum(0, dtype=torch.float64)
        return (total / max(stop, 1)).float()

    def as_logits(self, shares: Tensor) -> Tensor:
        return shares - 0.5


def one_class(
    label: np.ndarray, unknown: int | None, names: tuple[str, ...], train: int, val: int, balance: str, device: Any
) -> Binary | Multiclass:
    """Targets of integer labels.

    Args:
        label: ``[E]``.
        unknown: the label that says that it is not known, or None.
        names: of the classes 0, 1, .. ; empty where the labels are the source's own integers.
        train, val: where the training and the validation events end.
        balance: ``"auto"``, or see :data:`BALANCE`.
        device: where queries come from.

    Raises:
        ConfigError: fewer than two classes, more than :data:`MOST_CLASSES`, or none to learn or to validate on.
    """
    values = np.arange(len(names)) if names else np.unique(label)
    values = values if unknown is None else values[values != unknown]
    if not 2 <= len(values) <= MOST_CLASSES:
        raise ConfigError(
            f"the labels have {len(values):,} different values: a classification needs 2 to {MOST_CLASSES:,} classes."
        )
    place = np.searchsorted(values, label).clip(max=len(values) - 1)
    number = torch.from_numpy(np.where(values[place] == label, place, -1)).to(device)
    for what, part in (("training", number[:train]), ("validation", number[train:val])):
        found = len(torch.unique(part[part >= 0]))
        if found < 2:
            raise ConfigError(
                f"the {what} events have labels of {found} of the {len(values)} classes, and 2 are needed to learn or "
                "compare anything: choose other shares (--eval.val, --eval.test), or import more events."
            )
    if len(values) == 2:
        return Binary(number, 2, train, "inverse" if balance == "auto" else balance)
    return Multiclass(number, len(values), train, "none" if balance == "auto" else balance)


def _against_zero(score: Tensor) -> Tensor:
    """``sigmoid(-score)`` and ``sigmoid(score)``, ``[..., 2]``, the same to the last bit wherever a score stands.

    On processors with AVX-512 torch's sigmoid rounds the last few values of a tensor otherwise than those before them,
    so an event's probability would depend on its place in the batch. Softmax goes row by row.
    """
    return torch.stack([torch.zeros_like(score), score], dim=-1).softmax(dim=-1)
