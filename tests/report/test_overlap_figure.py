"""What a timeline picture shows."""

from collections import Counter

import pytest
from matplotlib.colors import to_hex

from tgscale.errors import RunError
from tgscale.report.overlap_figure import COLOURS, draw_timeline, phases, timeline_figure
from tgscale.train.timeline import write_timeline
from tgscale.train.trace import Trace


@pytest.fixture
def timeline(tmp_path):
    trace = Trace(record=True)
    for name, lane, start, stop in (
        ("graph", "worker 0", 10.000, 10.002),
        ("nn", "worker 0", 10.002, 10.005),
        ("graph", "worker 1", 10.002, 10.004),
        ("backward", "worker 0", 10.005, 10.009),
        ("something else", "worker 1", 10.004, 10.005),
    ):
        trace.add(name, lane, start, stop)
    file = tmp_path / "timeline.json"
    write_timeline(file, [("device 0", trace.events())])
    return file


def test_phases_by_worker(timeline):
    found = phases(timeline)
    assert list(found) == ["worker 0", "worker 1"]
    assert [name for name, _, _ in found["worker 0"]] == ["graph", "nn", "backward"]
    assert found["worker 1"] == [("graph", pytest.approx(2, abs=1e-3), pytest.approx(2, abs=1e-3))]
    assert list(phases(timeline, 1.5, 5.5)) == ["worker 0", "worker 1"]
    assert [name for name, _, _ in phases(timeline, 1.5, 5.5)["worker 0"]] == ["nn"]


def test_every_phase_is_drawn(timeline, tmp_path):
    draw_timeline(timeline, tmp_path / "a.svg")
    draw_timeline(timeline, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "worker 1" in (tmp_path / "a.svg").read_text()
    (axes,) = timeline_figure(phases(timeline)).axes
    colours = Counter(to_hex(bar.get_facecolor()[0]) for bar in axes.collections)
    assert colours == {COLOURS["graph"]: 2, COLOURS["nn"]: 1, COLOURS["backward"]: 1}


def test_what_is_no_timeline_is_refused(timeline, tmp_path):
    with pytest.raises(RunError, match="--profile"):
        phases(tmp_path / "nowhere.json")
    with pytest.raises(RunError, match="another time"):
        phases(timeline, 100)
