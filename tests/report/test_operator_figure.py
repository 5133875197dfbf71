import re

import pytest

from tgscale.models.mpnn_lstm import MPNNLSTM
from tgscale.models.tgcn import TGCN
from tgscale.report.operator_figure import draw_plan
from tgscale.snapshot.describe import Sizes, describe
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.rewrite import Rewrites

PLANS = {
    "planned": (TGCN(3, 4), Rewrites()),
    "as-written": (TGCN(3, 4), Rewrites.none()),
    "mpnn_lstm": (MPNNLSTM(3, 4, 5), Rewrites()),
}


@pytest.fixture(params=PLANS)
def operators(request):
    model, rewrites = PLANS[request.param]
    return describe(Plan(model, rewrites), Sizes(10, 30, 5, {}))


def test_svg_shows_every_operator_once_and_an_arrow_per_input(operators, tmp_path):
    for name in ("a.svg", "b.svg"):
        draw_plan(operators, tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert sorted(re.findall(r'id="operator-(\d+)"', text), key=int) == [str(each.number) for each in operators]
    arrows = [(str(source), str(each.number)) for each in operators for source in each.inputs]
    assert sorted(re.findall(r'id="input-(\d+)-(\d+)"', text)) == sorted(arrows)
    assert (tmp_path / "b.svg").read_text() == text


def test_dot_has_every_operator_once_and_an_arrow_per_input(operators, tmp_path):
    draw_plan(operators, tmp_path / "a.dot")
    text = (tmp_path / "a.dot").read_text()
    assert sorted(map(int, re.findall(r"op(\d+) \[", text))) == [each.number for each in operators]
    assert len(re.findall("->", text)) == sum(len(each.inputs) for each in operators)
