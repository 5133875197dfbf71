import pytest
import torch
from torch import nn

from tgscale.train.distributed import Ranks
from tgscale.train.gradients import GradientBuffer


def test_gradients_gather_in_one_buffer_and_are_cleared_together():
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2))
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    model.register_parameter("frozen", frozen)
    buffer = GradientBuffer(model, [model[0].weight])
    for _ in range(2):  # what is left of the first time must not count
        buffer.clear()
        model[1](model[0](torch.tensor([1, 1, 4]))).square().sum().backward()
        buffer.reduce(Ranks())
    reference = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))
    reference.load_state_dict({name: value for name, value in model.state_dict().items() if name != "frozen"})
    reference[1](reference[0](torch.tensor([1, 1, 4]))).square().sum().backward()
    torch.testing.assert_close(model[1].weight.grad, reference[1].weight.grad)
    torch.testing.assert_close(model[1].bias.grad, reference[1].bias.grad)
    torch.testing.assert_close(model[0].weight.grad.to_dense(), reference[0].weight.grad)
    assert frozen.grad is None
    assert model[1].weight.grad.untyped_storage().data_ptr() == model[1].bias.grad.untyped_storage().data_ptr()


def test_a_step_without_a_batch_has_gradients_of_zero():
    table = nn.Embedding(5, 3, sparse=True)
    model = nn.Sequential(table, nn.Linear(3, 2))
    buffer = GradientBuffer(model, [table.weight])
    buffer.clear()
    buffer.reduce(Ranks())
    assert not model[1].weight.grad.any()
    assert table.weight.grad.is_sparse
    assert not table.weight.grad.to_dense().any()


class Two(Ranks):
    """Two ranks, of which the other has the same gradients, and asks to stop or does not."""

    def __init__(self, other_stops):
        super().__init__(0, 2)
        self.other_stops = other_stops

    def sum(self, tensor):
        tensor[:-1] *= 2
        tensor[-1] += self.other_stops


@pytest.mark.parametrize("mine", [False, True])
@pytest.mark.parametrize("others", [False, True])
def test_ranks_agree_to_stop_in_the_sum_of_gradients(mine, others):
    model = nn.Linear(3, 2)
    buffer = GradientBuffer(model)
    for stop in (mine, False):  # what was asked at one step is not asked again at the next
        buffer.clear()
        model(torch.ones(1, 3)).sum().backward()
        assert buffer.reduce(Two(others), stop) == (stop or others)
        assert model.weight.grad.tolist() == [[2, 2, 2], [2, 2, 2]]
    assert len(buffer.flat) == 8
