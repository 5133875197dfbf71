"""Losses and metrics on numbers that can be checked by hand."""

import math

import numpy as np
import pytest
import torch

from tgscale.errors import ConfigError, RunError
from tgscale.stream.task.base import RowTable
from tgscale.stream.task.targets import Binary, Multiclass, Multilabel, one_class


def summary(targets, logits, pieces=2):
    """Metrics of logits that come in pieces, out of order."""
    table = RowTable(0, len(logits), targets.width, targets.rows, targets.summarize, targets.dtype)
    starts = range(0, len(logits), max(1, len(logits) // pieces))
    for start in reversed(starts):
        table.add(start, logits[start : start + starts.step])
    return table.scores().summary()


def test_binary_metrics_by_hand():
    targets = Binary(torch.tensor([0, 1, 0, 1, -1]), 2, 5, "none")
    logits = torch.tensor([[0.1], [0.4], [0.35], [0.8], [9.0]])
    # Of the four pairs of a positive and a negative all are in order: 0.4 > 0.1, 0.4 > 0.35, 0.8 > both.
    assert summary(targets, logits) == {"auc": 1.0, "ap": 1.0}
    logits = torch.tensor([[0.1], [0.2], [0.35], [0.8], [9.0]])
    # Three of four pairs; at the first positive 1 of 1 is right, at the second 2 of 3.
    assert summary(targets, logits) == {"auc": 0.75, "ap": pytest.approx((1 + 2 / 3) / 2)}
    tie = torch.tensor([[0.0], [0.0], [0.0], [0.0], [0.0]])
    assert summary(targets, tie)["auc"] == 0.5


def test_a_part_without_one_of_both_has_no_auc():
    assert summary(Binary(torch.tensor([0, 0]), 2, 2, "none"), torch.zeros(2, 1)) == {"auc": None, "ap": None}


def test_multiclass_metrics_by_hand():
    targets = Multiclass(torch.tensor([0, 1, 2, 0, -1]), 4, 5, "none")
    logits = torch.tensor([[3.0, 0, 1, -1], [2, 1, 0, 0], [0, 0, 1, 0], [1, 2, 0, 3], [0, 0, 0, 9]])
    got = summary(targets, logits)
    # Found are 0, 0, 2, 3; class 0 has TP 1, FP 1, FN 1; 1 has FN 1; 2 is right; 3 has FP 1.
    assert got["accuracy"] == 0.5
    assert got["f1_macro"] == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    assert got["class_mrr"] == pytest.approx((1 + 1 / 2 + 1 + 1 / 3) / 4)


def test_ties_of_classes_share_their_places():
    targets = Multiclass(torch.tensor([2]), 4, 1, "none")
    assert summary(targets, torch.zeros(1, 4))["class_mrr"] == pytest.approx(1 / 2.5)


def test_multilabel_metrics_by_hand():
    marks = torch.tensor([[1, 0], [1, 1], [0, 0]], dtype=torch.uint8)
    logits = torch.tensor([[2.0, 1.0], [-1, 3], [-2, -2]])
    got = summary(Multilabel(marks, 3, "none"), logits)
    # Class 0: TP 1, FN 1, F1 2/3. Class 1: TP 1, FP 1, F1 2/3. Together TP 2, FP 1, FN 1.
    assert got["f1_micro"] == pytest.approx(2 / 3)
    assert got["f1_macro"] == pytest.approx(2 / 3)
    assert got["ap_macro"] == pytest.approx(1.0)  # both rank their own above what is not


def test_a_score_that_is_no_number_ends_the_run():
    targets = Multiclass(torch.tensor([0, 1]), 2, 2, "none")
    with pytest.raises(RunError, match="NaN"):
        summary(targets, torch.tensor([[0.0, float("nan")], [0, 0]]))


@pytest.mark.parametrize("balance", ["none", "sqrt", "inverse"])
def test_weights_of_classes_have_a_mean_of_one_over_the_training_events(balance):
    label = torch.tensor([0] * 6 + [1] * 3 + [2] + [1] * 5)
    targets = Multiclass(label, 3, 10, balance)
    mean = targets.weight[label[:10]].mean()
    assert mean == pytest.approx(1, abs=1e-6)
    ratio = float(targets.weight[2] / targets.weight[0])
    assert ratio == pytest.approx({"none": 1, "sqrt": math.sqrt(6), "inverse": 6}[balance])


def test_losses_are_those_of_the_label_and_none_where_it_is_not_known():
    loss = Multiclass(torch.tensor([1, -1]), 3, 1, "none").losses(torch.zeros(2, 3), torch.arange(2))
    assert loss.tolist() == pytest.approx([math.log(3), 0])
    loss = Binary(torch.tensor([1, 0, -1]), 2, 2, "none").losses(torch.tensor([[2.0], [2], [2]]), torch.arange(3))
    assert loss.tolist() == pytest.approx([math.log1p(math.exp(-2)), math.log1p(math.exp(2)), 0])
    marks = torch.tensor([[1, 0]], dtype=torch.uint8)
    loss = Multilabel(marks, 1, "none").losses(torch.tensor([[2.0, 2.0]]), torch.arange(1))
    assert loss.tolist() == pytest.approx([(math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2])


def test_shares_of_past_classes():
    past = torch.tensor([[2, 0, 1], [3, -1, -1], [-1, -1, -1], [4, 0, -1]])
    one = Multiclass(torch.tensor([0, 1, 1, 2, -1]), 3, 5, "none")
    expected = [[1 / 3, 2 / 3, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]  # what is not known does not count
    torch.testing.assert_close(one.shares(past), torch.tensor(expected))
    marks = torch.tensor([[1, 1], [0, 1], [0, 0], [1, 0], [1, 1]], dtype=torch.uint8)
    expected = [[1 / 3, 2 / 3], [1, 0], [0, 0], [1, 1]]
    torch.testing.assert_close(Multilabel(marks, 5, "none").shares(past), torch.tensor(expected))


def test_the_prior_is_of_training_events():
    assert Multiclass(torch.tensor([0, 1, 1, -1, 0]), 3, 4, "none").prior(4).tolist() == pytest.approx(
        [1 / 3, 2 / 3, 0]
    )
    marks = torch.tensor([[1, 0], [1, 1], [0, 1]], dtype=torch.uint8)
    assert Multilabel(marks, 2, "none").prior(2).tolist() == [1, 0.5]


def test_labels_are_numbered_and_counted():
    label = np.array([7, 3, 7, 5, 3, 5])
    targets = one_class(label, None, (), 3, 6, "auto", "cpu")
    assert isinstance(targets, Multiclass)
    assert targets.label.tolist() == [2, 0, 2, 1, 0, 1]
    targets = one_class(label, 7, (), 4, 6, "auto", "cpu")
    assert isinstance(targets, Binary)
    assert targets.label.tolist() == [-1, 0, -1, 1, 0, 1]
    assert targets.weight.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ([4, 4, 4, 4], "have 1 different values"),
        ([0, 0, 0, 1], "the training events have labels of 1 of the 2 classes"),
    ],
)
def test_labels_that_teach_nothing_are_refused(label, words):
    with pytest.raises(ConfigError, match=words):
        one_class(np.array(label), None, (), 2, 4, "auto", "cpu")


def test_evidence_by_hand():
    past = torch.tensor([[1, 2], [4, -1], [-1, -1]])  # twice class 1; not known; nothing
    targets = Multiclass(torch.tensor([0, 1, 1, 0, 2, -1]), 3, 5, "none")
    usual = targets.usual
    torch.testing.assert_close(usual, torch.tensor([7 / 18, 7 / 18, 4 / 18]))  # a third of an event more for each
    shares = (torch.tensor([[0, 2, 0], [0, 0, 1], [0, 0, 0]]) + usual) / torch.tensor([[3], [2], [1]])
    first, second = targets.evidence([past, past])
    torch.testing.assert_close(first, (shares / usual).log())
    # What the first group found is usual for the second, which says the same again.
    torch.testing.assert_close(second[0], ((torch.tensor([0, 2, 0]) + shares[0]) / 3 / shares[0]).log())
    assert second[2].tolist() == [0, 0, 0]
    binary = Binary(torch.tensor([0, 1, 1, 0, -1]), 2, 4, "none")
    expected = [[math.log(5)], [0], [0]]  # (2 + 1/2) to (0 + 1/2); what is not known says nothing
    torch.testing.assert_close(binary.evidence([past])[0], torch.tensor(expected))
    marks = torch.tensor([[1, 0], [0, 1], [0, 1], [1, 0]], dtype=torch.uint8)
    expected = [[math.log(1 / 5), math.log(5)], [0, 0]]
    torch.testing.assert_close(Multilabel(marks, 4, "none").evidence([past[[0, 2]]])[0], torch.tensor(expected))


def test_where_a_head_starts():
    bias, belief = Multiclass(torch.tensor([0, 0, 0, 1]), 3, 4, "none").start(2)
    torch.testing.assert_close(bias.exp(), torch.tensor([10, 4, 1]) / 15)  # a third of an event more for each
    assert belief == 1
    bias, belief = Binary(torch.tensor([0, 0, 0, 1]), 2, 4, "inverse").start(2)
    torch.testing.assert_close(bias, torch.zeros(1))
    assert belief == 1
    assert Multilabel(torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8), 2, "none").start(2)[1] == 0.5
