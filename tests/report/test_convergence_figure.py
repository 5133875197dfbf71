import re

import pytest
from matplotlib.image import imread

from tgscale.errors import RunError
from tgscale.report.convergence_figure import draw_convergence, read_curve
from tgscale.stream.config import default_config, replace
from tgscale.stream.layout import Layout
from tgscale.train.config_io import to_dict
from tgscale.train.rundir import RunDirectory


def make_run(folder, data, mrr, test=None, every=10, **changes):
    """A run directory as training leaves it, with a validation every so many iterations."""
    run = folder / f"{data}-{len(list(folder.glob('*')))}"
    config = replace(default_config(folder / data, run), **changes)
    with RunDirectory.create(run, to_dict(config)) as opened:
        for index, value in enumerate(mrr):
            opened.log("epoch", iteration=every * (index + 1), val_mrr=value)
        if test is not None:
            opened.write_result({"data": {"name": data}, "test": {"mrr": test}})
    return run


def words_of(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())


def test_a_run_is_read_with_its_best_validation(tmp_path):
    curve = read_curve(make_run(tmp_path, "wiki", [0.1, 0.5, 0.4], test=0.45, emulate="1x2x4"))
    assert (curve.data, curve.layout) == ("wiki", Layout(1, 2, 4))
    assert curve.iterations == (10, 20, 30)
    assert curve.mrr == (0.1, 0.5, 0.4)
    assert curve.best == (20, 0.5)
    assert curve.test_mrr == 0.45


def test_a_run_that_is_going_on_is_read_as_far_as_it_is(tmp_path):
    curve = read_curve(make_run(tmp_path, "wiki", [0.1, 0.2]))
    assert (curve.data, curve.layout, curve.test_mrr) == ("wiki", Layout(), None)


def test_what_is_no_run_or_has_no_validation_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        read_curve(tmp_path / "nothing")
    with pytest.raises(RunError, match="holds no validation"):
        read_curve(make_run(tmp_path, "wiki", []))


def test_a_panel_per_data_set_and_a_line_per_run(tmp_path):
    runs = [
        make_run(tmp_path, "wiki", [0.6, 0.8], test=0.7),
        make_run(tmp_path, "wiki", [0.6, 0.7], test=0.75, emulate="1x1x8"),
        make_run(tmp_path, "wiki", [0.6, 0.75], emulate="1x1x8", train__warm_start="replay"),
        make_run(tmp_path, "mail", [0.3, 0.4], test=0.35, layout="2x1x1"),
    ]
    draw_convergence(runs, tmp_path / "c.svg", tmp_path / "c.png")
    words = words_of(tmp_path / "c.svg")
    for expected in (
        "wiki",
        "mail",
        "1x1x1: test 0.700",
        "1x1x8: test 0.750",
        "1x1x8, warm-start replay: not finished",
        "2x1x1: test 0.350",
    ):
        assert words.count(expected) == 1, expected
    assert words.count("validation MRR") == 2
    assert imread(tmp_path / "c.png")[0, 0].tolist() == [1, 1, 1, 1]


def test_of_options_those_are_named_that_most_runs_do_not_have(tmp_path):
    runs = [make_run(tmp_path, "wiki", [0.5], test=0.5, seed=seed, train__lr=2e-3) for seed in (0, 0, 1)]
    draw_convergence(runs, tmp_path / "c.svg")
    labels = [word for word in words_of(tmp_path / "c.svg") if "test 0" in word]
    assert labels == ["1x1x1: test 0.500", "1x1x1: test 0.500", "1x1x1, seed 1: test 0.500"]


def test_equal_runs_make_equal_files(tmp_path):
    runs = [make_run(tmp_path, "wiki", [0.5, 0.6], test=0.5)]
    draw_convergence(runs, tmp_path / "a.svg", tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
