"""The result: each run's test metrics beside the rules on the same events, and beside what is published."""

from __future__ import annotations

from collections.abc import Sequence

from tgscale.report.bars import Bar, bars_figure
from tgscale.report.drawing import Drawing
from tgscale.report.palette import OTHER, QUIET, SERIES
from tgscale.report.published import Published, published
from tgscale.report.runs import Run, numbers
from tgscale.report.section import Section, Table, number
from tgscale.train.metric_names import lower_is_better, metric_name
from tgscale.train.verdict import against_rules, few_new_nodes

RULES_SHOWN, PUBLISHED_SHOWN = 4, 6


def result(runs: Sequence[Run]) -> Section:
    """A table and bars per data set, task and protocol."""
    section = Section("result", "Result")
    for run in runs:
        if not run.finished:
            section.missing.append(f"{run.name} has no result.json: it is still going, or was cut short.")
    alike: dict[str, list[Run]] = {}
    for run in runs:
        if run.test:
            alike.setdefault(run.compared, []).append(run)
    for place, group in enumerate(alike.values()):
        _compare(section, group, list(runs), place)
    section.lead = f"On the test part. Rules need no training, and are scored on the same {_scored_on(runs)}."
    return section


def _scored_on(runs: Sequence[Run]) -> str:
    """What models and rules have in common; a task of classes or values has labels, and no negatives."""
    drawn = {"negatives" in run.result.get("protocol", {}) for run in runs if run.finished}
    return {frozenset({True}): "events and negatives", frozenset({False}): "labels"}.get(
        frozenset(drawn), "events and negatives, or labels"
    )


def _compare(section: Section, group: list[Run], runs: list[Run], place: int) -> None:
    data, task = group[0].data, str(group[0].result.get("task", ""))
    metric = group[0].metric or next(iter(group[0].test))
    protocol = str(group[0].result.get("protocol", {}).get("name", ""))
    rules = {name: numbers(values) for name, values in group[0].result.get("baselines", {}).items()}
    papers = published(data, protocol, metric) if group[0].kind == "stream" else []
    columns = list(dict.fromkeys(name for run in group for name in run.test))
    names = [_label(run, runs) for run in group]
    rows = [
        [name, *(number(run.test.get(column)) for column in columns)] for name, run in zip(names, group, strict=True)
    ]
    rows += [[f"rule: {name}", *(number(values.get(column)) for column in columns)] for name, values in rules.items()]
    words = f"{data}: {task}" + (f", {protocol}" if protocol and protocol != task else "")
    heads = [metric_name(name) for name in columns]
    section.tables.append(Table(["", *heads], rows, set(range(len(group))), words))
    if papers:
        section.tables.append(_table_of_papers(papers, metric, data))
    of_rules = {name: values[metric] for name, values in rules.items() if metric in values}
    bars = _bars(group, names, runs, of_rules, papers, metric)
    for run, name in zip(group, names, strict=True):
        if metric in run.test and (line := against_rules(metric, run.test[metric], of_rules)):
            section.notes.append(f"{name}, {line}.")
        if note := few_new_nodes(run.result):
            section.notes.append(f"{name}: {note}.")
    arrow = "lower is better" if lower_is_better(metric) else "higher is better"
    section.drawings.append(
        Drawing(
            f"result-{place}",
            f"{data}: test {metric_name(metric)}, {arrow}",
            bars_figure(bars, most=0.0 if lower_is_better(metric) else 1.0),
            _about(group, bool(papers), _left_out(of_rules, papers)),
        )
    )
    section.figures[f"{data}: {task}" if f"{data}: {task}" not in section.figures else f"{words} ({place + 1})"] = {
        "metric": metric,
        "protocol": protocol,
        "runs": {run.name: run.test for run in group},
        "rules": rules,
        "published": [paper._asdict() for paper in papers],
    }


def _label(run: Run, runs: Sequence[Run]) -> str:
    return run.model if len(runs) == 1 else f"{run.name} ({run.model})"


def _bars(
    group: list[Run],
    names: list[str],
    runs: list[Run],
    rules: dict[str, float],
    papers: list[Published],
    metric: str,
) -> list[Bar]:
    sign = -1 if lower_is_better(metric) else 1
    bars = [
        Bar(name, run.test[metric], SERIES[runs.index(run) % len(SERIES)], number(run.test[metric]))
        for name, run in zip(names, group, strict=True)
        if metric in run.test
    ]
    best_rules = sorted(rules.items(), key=lambda each: -sign * each[1])[:RULES_SHOWN]
    bars += [Bar(f"rule: {name}", value, QUIET, number(value)) for name, value in best_rules]
    of_papers = sorted(papers, key=lambda each: -sign * each.value)[:PUBLISHED_SHOWN]
    bars += [Bar(f"published: {each.system}", each.value, OTHER, number(each.value)) for each in of_papers]
    return bars


def _table_of_papers(papers: list[Published], metric: str, data: str) -> Table:
    rows = [[each.system, number(each.value), each.source] for each in papers]
    return Table(["system", metric_name(metric), "source"], rows, caption=f"Published on {data}", words=True)


def _left_out(rules: dict[str, float], papers: list[Published]) -> str:
    """How many rules and papers have no bar."""
    more = {
        "rule": len(rules) - RULES_SHOWN,
        "published figure": len(papers) - PUBLISHED_SHOWN,
    }
    words = [f"{count} more {what}{'s' if count > 1 else ''}" for what, count in more.items() if count > 0]
    return f"and {' and '.join(words)} in the table" if words else ""


def _about(group: list[Run], papers: bool, left_out: str) -> str:
    said = group[0].result.get("protocol", {})
    parts = [left_out] if left_out else []
    if "negatives" in said:
        parts.append(f"{said['negatives']} negatives from {said.get('population', '?')}")
    if "ties" in said:
        parts.append(f"ties count {said['ties']}")
    if papers:
        parts.append("published figures are of other budgets, features and seeds, and may count ties for the model")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
