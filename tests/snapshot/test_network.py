import numpy as np
import pytest

from tgscale.errors import ConfigError
from tgscale.snapshot.network import Network

LINKS = (1e9, 1e8, 1e-6, 1e-5)


def test_a_ring_on_one_machine():
    network = Network(4, 4, *LINKS)
    assert network.machines == 1
    assert network.all_reduce(8e6) == pytest.approx(2 * 3 / 4 * 8e6 / 1e9 + 2 * 3 * 1e-6)
    assert network.all_reduce_bytes(8e6) == 2 * 3 * 8e6


def test_machines_of_one_device_are_a_ring_too():
    assert Network(4, 1, *LINKS).all_reduce(8e6) == pytest.approx(2 * 3 / 4 * 8e6 / 1e8 + 2 * 3 * 1e-5)


def test_rings_inside_and_between():
    network = Network(8, 4, *LINKS)
    inside, between = 2 * 3 / 4 * 8e6 / 1e9 + 6e-6, 2 * 1 / 2 * 8e6 / 1e8 + 2e-5
    assert network.all_reduce(8e6) == pytest.approx(inside + between)
    # What is counted: each of 2 machines sends 2 * 3 shares inside, then each of 4 shares goes round both machines.
    assert network.all_reduce_bytes(8e6) == pytest.approx(2 * 2 * 3 * 8e6 + 4 * 2 * 2 * 1 / 2 * 8e6 / 4)


def test_an_exchange_waits_for_the_slower_link():
    one, two = Network(4, 4, *LINKS), Network(8, 4, *LINKS)
    assert one.exchange(np.array([6e6, 0.0])) == pytest.approx([6e6 / 1e9 + 1e-6, 1e-6])
    assert two.exchange(np.array([7e6])) == pytest.approx([4 * 7e6 * 4 / 7 / 1e8 + 1e-5])
    assert two.exchange(np.array([7e6]), senders=3) == pytest.approx([2 * 7e6 * 4 / 7 / 1e8 + 1e-5])
    assert two.exchange(np.array([7e6]), senders=8) == two.exchange(np.array([7e6]))
    fast_between = Network(8, 4, 1e9, 1e12, 1e-6, 1e-5)
    assert fast_between.exchange(np.array([7e6])) == pytest.approx([7e6 * 3 / 7 / 1e9 + 1e-5])


def test_one_device_sends_nothing():
    network = Network(1, 1, *LINKS)
    assert (network.all_reduce(1e9), network.all_reduce_bytes(1e9)) == (0, 0)
    assert network.exchange(np.array([1e9])).tolist() == [0]


def test_machines_are_full():
    with pytest.raises(ConfigError, match="12 devices do not fill machines of 8"):
        Network(12, 8, *LINKS)
