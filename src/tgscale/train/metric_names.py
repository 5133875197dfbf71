"""Metrics as a reader expects them, and which way they are read."""

from __future__ import annotations

LOWER_IS_BETTER = ("mae", "rmse", "mse", "mape", "loss", "error", "seconds")
SHORT_FOR = ("mrr", "ap", "auc", "mae", "rmse", "mse", "ndcg", "f1")
"""Metrics that are written in capitals."""


def lower_is_better(metric: str) -> bool:
    """Whether small values of a metric are good."""
    return any(word in LOWER_IS_BETTER for word in metric.lower().replace("-", "_").split("_"))


def metric_name(metric: str) -> str:
    """A metric as a reader expects it: ``mrr_new_nodes`` is "MRR, new nodes", and ``f1_micro`` is "F1-micro"."""
    first, _, rest = metric.removeprefix("val_").partition("_")
    rest = rest.replace("_", " ")
    if first not in SHORT_FOR:
        return f"{first} {rest}".strip()
    if not rest:
        return first.upper()
    return f"F1-{rest}" if first == "f1" else f"{first.upper()}, {rest}"
