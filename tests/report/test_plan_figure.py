import re

import pytest
from matplotlib.image import imread

from tgscale.data.generate import generate_stream
from tgscale.report.plan_figure import draw_plan
from tgscale.stream.config import default_config
from tgscale.stream.planner import Request, plan
from tgscale.stream.throughput import DeviceProfile

PROFILE = DeviceProfile("cpu", {100: 700.0, 200: 1000.0, 400: 1010.0}, machine={"cpu": "Z80"})


def make_plan(tmp_path, **request):
    stream = generate_stream(events=4000, nodes=500, edge_features=0)
    request = Request(**{"trainers_per_machine": 4, "max_missing": 0.9, "max_missing_busy": 0.97, **request})
    return plan(stream, default_config(tmp_path, tmp_path), request, PROFILE)


def words_of(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())


def test_the_drawing_says_what_was_chosen_and_within_which_limits(tmp_path):
    made = make_plan(tmp_path)
    assert made.choice.batch_size < made.choice.global_batch
    draw_plan(made, tmp_path / "p.svg", tmp_path / "p.png")
    words = words_of(tmp_path / "p.svg")
    choice = made.choice
    for expected in (
        f"generated: layout {choice.layout} for 1 x 4 trainers",
        f"local batch {choice.batch_size:,}",
        f"global batch {choice.global_batch:,}",
        "limit 90 %",
        "limit 97 %",
        f"busiest 1 % ({made.captured.busy_nodes} nodes)",
        "training events per second on cpu (Z80)",
        "90 % of the best",
        "1,600",
    ):
        assert expected in words
    height, width, _ = imread(tmp_path / "p.png").shape
    assert height > 900
    assert width > 1200


def test_one_line_for_one_batch_and_none_for_no_limit(tmp_path):
    made = make_plan(tmp_path, trainers_per_machine=1, max_missing=1.0, max_missing_busy=1.0)
    draw_plan(made, tmp_path / "p.svg")
    words = words_of(tmp_path / "p.svg")
    assert "local = global batch 200" in words
    assert not [word for word in words if word.startswith("limit")]


def test_equal_plans_make_equal_files(tmp_path):
    for name in ("a.svg", "b.svg"):
        draw_plan(make_plan(tmp_path), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_format_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="not supported"):
        draw_plan(make_plan(tmp_path), tmp_path / "p.nothing")
