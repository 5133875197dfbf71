"""The simulator counts the bytes that the partitions really send."""

import numpy as np
import pytest

from tgscale.snapshot.groups import Groups
from tgscale.snapshot.scenario import Scenario
from tgscale.snapshot.shapes import SHAPES
from tgscale.snapshot.simulate import simulate

from .cases import SEQUENCES, C, Case, F

DOUBLE = 2  # processes compute in float64 here, the simulator counts float32


def really_sent(team, case):
    """Bytes of all processes for a group, forward and backward, less those of gathering the result."""
    sent = [np.diff(each["sent"]) for each in team("run_case", case=case)]
    return sum(int(run + backward - gather) for run, gather, backward in sent) / DOUBLE


def simulated(case, devices):
    cache = case.rewrites == "all"
    groups = Groups(np.array([case.first]), case.window)
    sequence, shape = SEQUENCES[case.sequence](), SHAPES[case.model]
    scenario = Scenario(
        sequence, groups, shape, F, C, 0, 1, cache=cache, partitions=(case.placement,), per_machine=devices
    )
    return simulate(scenario, [devices]).rows[0].bytes_sent


@pytest.mark.parametrize("rewrites", ["all", "no-cache"])
@pytest.mark.parametrize("model", ["tgcn", "gclstm", "evolvegcn_o"])
@pytest.mark.parametrize("sequence", ["evolving", "static"])
def test_of_nodes(three, model, rewrites, sequence):
    case = Case("vertex", model, rewrites, sequence)
    assert simulated(case, 3) == really_sent(three, case)


@pytest.mark.parametrize("rewrites", ["all", "no-cache"])
@pytest.mark.parametrize("model", ["tgcn", "gclstm", "evolvegcn_o"])
def test_of_snapshots(three, model, rewrites):
    case = Case("snapshot", model, rewrites)
    assert simulated(case, 3) == pytest.approx(really_sent(three, case), rel=0.1)  # nodes are not split evenly here
