import pytest

from tgscale.train.metric_names import lower_is_better, metric_name


def test_names_of_metrics():
    names = ["mrr", "mrr_new_nodes", "val_rmse", "f1_micro", "accuracy", "hits@10", "f1"]
    expected = ["MRR", "MRR, new nodes", "RMSE", "F1-micro", "accuracy", "hits@10", "F1"]
    assert [metric_name(name) for name in names] == expected


@pytest.mark.parametrize(("metric", "lower"), [("mrr", False), ("rmse", True), ("val_mae", True), ("f1_micro", False)])
def test_which_way_a_metric_is_good(metric, lower):
    assert lower_is_better(metric) == lower
