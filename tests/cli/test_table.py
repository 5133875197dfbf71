from pathlib import Path

import pytest

from tgscale.cli.table import print_metrics
from tgscale.train.verdict import WHAT_TO_DO, verdict

LINK = {"name": "mrr49", "negatives": 49, "population": "destinations", "population_size": 20, "exclude_own": False}


def result_with(metric, own, **rules):
    return {
        "metric": metric,
        "val": {"other": 0.9, metric: 0.5},
        "test": {"other": 0.9, metric: own},
        "baselines": {name: {"other": 0.1, metric: value} for name, value in rules.items()},
    }


@pytest.mark.parametrize(
    ("metric", "own", "words"),
    [
        ("mrr", 0.512, "test MRR above the best rule (recency) by 0.0120"),
        ("mrr", 0.4, f"test MRR below the best rule (recency) by 0.1000: {WHAT_TO_DO}"),
        ("mrr", 0.5, f"test MRR equal to the best rule (recency): {WHAT_TO_DO}"),
        ("rmse", 0.3, f"test RMSE above the best rule (edgebank) by 0.1000 (lower is better): {WHAT_TO_DO}"),
        ("rmse", 0.15, "test RMSE below the best rule (edgebank) by 0.0500 (lower is better)"),
    ],
)
def test_a_verdict_compares_with_the_best_rule(metric, own, words):
    assert verdict(result_with(metric, own, edgebank=0.2, recency=0.5)) == words


def test_no_verdict_where_there_is_nothing_to_compare():
    assert verdict(result_with("mrr", 0.5)) is None
    assert verdict(result_with("mrr", None, recency=0.2)) is None
    assert verdict(result_with("mrr", 0.5, recency=None)) is None


def test_what_to_do_is_on_the_page():
    page, _, anchor = WHAT_TO_DO.partition("#")
    text = (Path(__file__).parents[2] / page).read_text()
    assert f"\n## {anchor.replace('-', ' ').capitalize()}\n" in text


def test_cells_and_columns(capsys):
    protocol = LINK | {"negatives": 1000, "exclude_own": True}
    print_metrics("test", {"mrr": 0.5, "mrr_new_nodes": None}, {"recency": {"mrr": 0.25}}, protocol)
    title, _, table = capsys.readouterr().out.partition("┏")
    assert " ".join(title.split()) == "test: mrr49, but with 1,000 negatives from destinations"
    _, head, _, own, rule, _ = table.splitlines()
    assert head.split("┃")[2:4] == ["    MRR ", " MRR, new nodes "]
    assert own.split() == ["│", "tgn", "│", "0.5000", "│", "-", "│"]
    assert rule.split() == ["│", "recency", "│", "0.2500", "│", "-", "│"]
    print_metrics("test", {"mrr": 0.5}, {}, LINK)
    assert " ".join(capsys.readouterr().out.split()).startswith("test: mrr49, 49 negatives from destinations")


@pytest.mark.parametrize("option", ["--eval.exclude-own", "--exclude-own"])
def test_a_note_names_the_option_of_its_command(capsys, option):
    print_metrics("test", {"mrr": 0.5}, {}, LINK, exclude_own=option)
    assert f"caps the MRR; {option} leaves it out." in " ".join(capsys.readouterr().out.split())
