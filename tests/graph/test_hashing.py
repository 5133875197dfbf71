import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.graph import hashing

int64 = st.integers(-(2**63), 2**63 - 1)


def test_mix_is_splitmix64():
    """The first three outputs of SplitMix64 from seed 1234567, as published with the algorithm's test vectors."""
    state, outputs = 1234567, []
    for _ in range(3):
        outputs.append(hashing.mix(state))
        state += hashing.GOLDEN
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@settings(deadline=None)
@given(seed=int64, node=st.integers(0, 2**62), time=int64, slot=st.integers(0, 1000), n=st.integers(1, 2**31 - 1))
def test_three_forms_agree(seed, node, time, slot, n):
    expected = hashing.draw_below(n, seed, node, time, slot)
    assert 0 <= expected < n
    key = hashing.key_numba(np.uint64(hashing.mix(seed % 2**64)), node, time)
    assert hashing.draw_below_numba(n, np.uint64(key), slot) == expected
    key = hashing.key_tensor(hashing.seed_key_tensor(seed, torch.device("cpu")), torch.tensor(node), torch.tensor(time))
    assert int(hashing.draw_below_tensor(torch.tensor(n), key, slot)) == expected
