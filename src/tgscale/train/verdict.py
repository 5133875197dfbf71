"""What a result comes to, in a line: whether the model is above the best rule; and which figure rests on little."""

from __future__ import annotations

from typing import Any

from tgscale.data.value_words import counted
from tgscale.train.metric_names import lower_is_better, metric_name

FEW = 30
"""Events whose mean says little."""
WHAT_TO_DO = "docs/troubleshooting.md#the-model-is-no-better-than-a-rule"


def verdict(result: dict[str, Any]) -> str | None:
    """The line; None where there is nothing to compare.

    Args:
        result: of a run, as in ``result.json``; without ``metric``, as earlier versions wrote it, the first one counts.
    """
    metric = result.get("metric") or next(iter(result["val"]))
    own = result["test"].get(metric)
    rules = {name: values[metric] for name, values in result["baselines"].items() if values.get(metric) is not None}
    return None if own is None else against_rules(metric, own, rules)


def against_rules(metric: str, own: float, rules: dict[str, float]) -> str | None:
    """The same of one metric: the model's, and that of each rule."""
    if not rules:
        return None
    sign = -1 if lower_is_better(metric) else 1
    best = max(rules, key=lambda name: sign * rules[name])
    apart, wins = own - rules[best], sign * own > sign * rules[best]
    side = "equal to" if not apart else "above" if apart > 0 else "below"
    words = f"test {metric_name(metric)} {side} the best rule ({best})" + (f" by {abs(apart):.4f}" if apart else "")
    way = " (lower is better)" if sign < 0 else ""
    return f"{words}{way}" + ("" if wins else f": {WHAT_TO_DO}")


def few_new_nodes(result: dict[str, Any]) -> str | None:
    """What to know of the metric of new nodes where it is that of a few events; else None."""
    count = (result.get("data") or {}).get("new_node_test_events")
    if not count or count >= FEW or (result.get("test") or {}).get("mrr_new_nodes") is None:
        return None
    return f"{metric_name('mrr_new_nodes')} is that of {counted(count, 'test event')} alone"
