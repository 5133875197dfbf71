import pytest
import torch
from torch.nn import functional as F

from tgscale.nn.class_head import ClassHead


def test_it_is_what_it_says():
    torch.manual_seed(0)
    head = ClassHead(4, 3, ends=2, past_dim=5, groups=2, pair_dim=6).double().eval()
    a, b, past, pair, first, second = (torch.randn(7, n, dtype=torch.float64) for n in (4, 4, 5, 6, 3, 3))
    head.begin(torch.arange(3.0), 0.7)
    torch.nn.init.normal_(head.direct.weight)
    hidden = head.ends[0](a) + head.ends[1](b) + past @ head.past.weight.T
    hidden = hidden + head.pair[2](F.relu(head.pair[0](pair)))
    expected = F.relu(hidden) @ head.out.weight.T + head.out.bias + past @ head.direct.weight.T
    expected = expected + 0.7 * first + 0.7 * second
    torch.testing.assert_close(head([a, b], past, torch.stack([first, second], 1), pair), expected)
    assert head.out.bias.tolist() == [0, 1, 2]


def test_what_is_left_out_has_no_weights():
    head = ClassHead(4, 2, ends=1)
    assert {name.split(".")[0] for name, _ in head.named_parameters()} == {"ends", "out"}
    assert head([torch.randn(3, 4)]).shape == (3, 2)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_of_training_alone(training):
    torch.manual_seed(0)
    head = ClassHead(8, 2, ends=1, dropout=0.5).train(training)
    x = torch.randn(5, 8)
    assert torch.equal(head([x]), head([x])) == (not training)
