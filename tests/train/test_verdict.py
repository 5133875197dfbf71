"""What a result comes to, in words."""

from pathlib import Path

import pytest

from tgscale.train.verdict import WHAT_TO_DO, few_new_nodes, verdict


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


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "MRR, new nodes is that of 1 test event alone"),
        (29, "MRR, new nodes is that of 29 test events alone"),
        (30, None),
        (0, None),
        (None, None),  # of an earlier version
    ],
)
def test_a_metric_of_a_few_events_is_named(count, words):
    result = {"test": {"mrr": 0.5, "mrr_new_nodes": 1.0}, "data": {"name": "a", "new_node_test_events": count}}
    assert few_new_nodes(result) == words
    assert few_new_nodes(result | {"test": {"mrr": 0.5}}) is None
