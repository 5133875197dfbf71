"""Each protocol's rule against a plain one, on the engine."""

import dataclasses
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.cli.evaluate import EvaluateCommand
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.stream.config import EvalConfig, other_protocol
from tgscale.stream.protocol import PROTOCOLS
from tgscale.stream.scores import ScoreTable
from tgscale.train.distributed import Ranks
from tgscale.train.metrics import batch_ap_auc


def choices(cls, field):
    """The strings that an option takes."""
    kind = typing.get_type_hints(cls)[field]
    literals = [kind, *typing.get_args(kind)]
    return [value for each in literals if typing.get_origin(each) is typing.Literal for value in typing.get_args(each)]


def test_options_name_every_protocol():
    assert choices(EvalConfig, "protocol") == choices(EvaluateCommand, "protocol") == list(PROTOCOLS)


def plain_ap_auc(positive, negative):
    """Average precision and AUC from their definitions, for scores without ties between the two kinds or with."""
    scores, label = np.concatenate([positive, negative]), np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    ap, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        recall = label[taken].sum() / label.sum()
        ap, before = ap + (recall - before) * label[taken].mean(), recall
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return ap, wins


def test_batches_are_averaged_as_in_tgl():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 9, 53), rng.normal(0, 9, 53)
    positive[3] = negative[4]
    positive[20], negative[21] = 90.0, 100.0  # equal after the sigmoid in fp32
    bounds = [7, 17, 27, 37, 47, 53]
    expected = []
    for a, b in zip([0, *bounds[:-1]], bounds, strict=True):
        likely = [torch.from_numpy(x[a:b]).float().sigmoid().numpy() for x in (positive, negative)]
        expected.append(plain_ap_auc(*likely))
    found = batch_ap_auc(torch.from_numpy(positive), torch.from_numpy(negative), bounds)
    assert found == pytest.approx(tuple(np.mean(expected, axis=0)), abs=1e-6)


def test_batches_are_averaged_as_scikit_learn_has_it():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: the plain rule stands in")
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive, negative = np.round(rng.normal(1, 2, 40), 1), np.round(rng.normal(0, 2, 40), 1)
        likely = torch.from_numpy(np.r_[positive, negative]).float().sigmoid().numpy()
        target = np.r_[np.ones(40), np.zeros(40)]
        found = batch_ap_auc(torch.from_numpy(positive), torch.from_numpy(negative), [40])
        expected = metrics.average_precision_score(target, likely), metrics.roc_auc_score(target, likely)
        assert found == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 500), st.integers(1, 300), st.integers(1, 70))
def test_aligned_batches_are_those_of_the_whole_stream(first, number, size):
    last = first + number
    spans = PROTOCOLS["ap-tgl"].spans(first, last, size)
    assert [e for span in spans for e in range(*span)] == list(range(first, last))
    assert all(len({e // size for e in range(*span)}) == 1 for span in spans)
    assert len({span[0] // size for span in spans}) == len(spans)
    plain = PROTOCOLS["ap-dyglib"].spans(first, last, size)
    assert plain == [(start, min(start + size, last)) for start in range(first, last, size)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=3, max_size=80), st.sampled_from([0.1, 0.15, 0.25]))
def test_split_between_times_is_numpys_quantile(times, share):
    time = np.sort(np.array(times)) * 10**9
    stream = EventStream.from_arrays(np.zeros(len(time), int), np.ones(len(time), int), time)
    split = stream.split(share, share, by="times")
    border, end = np.quantile(time, [1 - share - share, 1 - share])
    assert (split.train, split.val) == ((time <= border).sum(), (time <= end).sum())


def test_the_legacy_rank_lets_a_constant_scorer_win():
    logits = torch.zeros(4, 50)
    for name, mrr in (("mrr49", 1 / 25.5), ("mrr49-optimistic", 1.0)):
        table = ScoreTable(4, PROTOCOLS[name])
        table.add(0, logits)
        assert table.scores().mrr == pytest.approx(mrr)


CASES = [
    ("mrr49", {}), ("mrr49-optimistic", {}), ("ap", {}), ("ap-tgl", {}), ("ap-pyg", {}), ("ap-dyglib", {}), ("tgb", {}),
    ("ap", {"negatives": "historical"}), ("ap-dyglib", {"negatives": "historical"}),
    ("ap-dyglib", {"negatives": "inductive"}), ("ap-tgl", {"negatives": "inductive"}),
    ("mrr49", {"negatives": "historical"}), ("mrr49", {"negatives": "inductive", "negatives_per_event": 7}),
    ("tgb", {"negatives": "inductive", "negatives_per_event": 6}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{o.get('negatives', 'own')}" for n, o in CASES])
def test_the_engine_scores_what_was_drawn(make_engine, name, options):
    """Each event alone, source and destination of each negative put into a batch of their own, gives the same."""
    eval_options = {f"eval__{key}": value for key, value in {"protocol": name, **options}.items()}
    engine = make_engine(train__batch_size=20, **eval_options)
    engine.advance(0, engine.split.train)
    state = engine.memory.state_dict()
    scores = engine.evaluate("val")
    first, last = engine.split.range("val")
    engine.memory.load_state_dict(state)
    negatives, rule = engine.negatives_of("val"), engine.config.eval.rule
    for start, stop in rule.spans(first, last, 20):
        event = torch.arange(start, stop)
        drawn = negatives.draw(event)
        for row, e in enumerate(event.tolist()):
            src = int(engine.stream.src[e]) if drawn.source is None else int(drawn.source[row, 0])
            pair = [logit_of(engine, e, int(engine.stream.src[e]), int(engine.stream.dst[e])),
                    logit_of(engine, e, src, int(drawn.node[row, 0]))]  # fmt: skip
            found = [float(scores.positive[e - first]), float(scores.negative[e - first])]
            if drawn.there is not None and not drawn.there[row, 0]:
                pair[1] = -np.inf
            assert found == pytest.approx(pair, abs=1e-5)
        engine.advance(start, stop)
    rules = engine.evaluate_rules("val")
    assert all(len(each.reciprocal_rank) == last - first for each in rules.values())
    summary = scores.summary()
    assert ("hits@10" in summary) == (name == "tgb")
    assert all(0 <= value <= 1 for value in summary.values())


@torch.no_grad()
def logit_of(engine, event, source, destination):
    """Score of one pair at an event's time, on the memory as it is, through a batch of this pair alone."""
    from tgscale.stream.protocol.negatives import Drawn

    drawn = Drawn(torch.tensor([[destination]]), torch.tensor([[source]]))
    batch = engine.builder.against(torch.tensor([event]), drawn)
    engine.model.eval()
    return float(engine.logits(engine.memory.read(batch.block.nodes), batch)[0, 1])


def test_a_rules_scores_are_no_logits(make_engine):
    """Recency scores by event ids: a sigmoid would make them all equal."""
    engine = make_engine(eval__protocol="ap-dyglib")
    recency, whole = engine.evaluate_rules("val")["recency"], make_engine(eval__protocol="ap").evaluate_rules("val")
    assert recency.summary()["ap"] == pytest.approx(whole["recency"].summary()["ap"], abs=0.1)
    squashed = batch_ap_auc(recency.positive, recency.negative, recency.bounds)
    assert squashed[0] < recency.summary()["ap"] - 0.1


def test_rules_are_scored_on_whole_edges(make_engine):
    engine = make_engine(eval__protocol="ap-dyglib", eval__negatives="historical", train__batch_size=10)
    scores = engine.evaluate_rules("val")["edgebank"]
    first, last = engine.split.range("val")
    src, dst, time = engine.stream.src, engine.stream.dst, engine.stream.time
    drawn = [engine.negatives_of("val").draw(torch.arange(a, b)) for a, b in
             engine.config.eval.rule.spans(first, last, 10)]  # fmt: skip
    source = torch.cat([each.source[:, 0] for each in drawn]).tolist()
    node = torch.cat([each.node[:, 0] for each in drawn]).tolist()
    for row, e in enumerate(range(first, last)):
        past = time < time[e]
        either = (src == source[row]) & (dst == node[row]) | (dst == source[row]) & (src == node[row])
        assert scores.negative[row] == float((past & either).any())
    assert scores.negative.mean() > 0.5  # they are historical, after all


def test_options_that_contradict_a_protocol_are_refused():
    for options, message in [
        ({"protocol": "ap-tgl", "population": "destinations"}, "draws from the population all"),
        ({"protocol": "ap-pyg", "negatives": "historical"}, "random negatives alone"),
        ({"protocol": "ap", "negatives_per_event": 9}, "one negative per event"),
        ({"protocol": "ap-dyglib", "exclude_own": True}, "may draw"),
        ({"negatives_from": Path("x")}, "for the protocol tgb"),
        ({"protocol": "tgb", "negatives_from": Path("x"), "negatives": "random"}, "brings the negatives"),
    ]:
        with pytest.raises(ConfigError, match=message):
            EvalConfig(**options)
    with pytest.raises(ConfigError, match="unknown: choose one of mrr49"):
        other_protocol(EvalConfig(), "mrr50")
    with pytest.raises(ConfigError, match="val is nothing that an evaluation can change: give split"):
        other_protocol(EvalConfig(), None, val=0.1)


def test_another_protocol_brings_its_own_rules():
    run = EvalConfig(protocol="mrr49", population="all", negatives="historical", exclude_own=True, seed=3)
    other = other_protocol(run, "ap-dyglib")
    assert (other.draw, other.drawn_from, other.exclude_own, other.seed) == ("random", "destinations", False, 3)
    assert other_protocol(run, "ap").drawn_from == "all"
    assert other_protocol(run, None) == run
    assert other_protocol(run, "mrr49", seed=5) == dataclasses.replace(run, seed=5)


class OneOf(Ranks):
    """A rank that does its share and adds up nothing."""

    def sum(self, tensor):
        pass


@pytest.mark.parametrize(
    "options", [{"protocol": "ap-tgl"}, {"protocol": "ap-dyglib", "negatives": "inductive"}, {"protocol": "tgb"}]
)
def test_the_shares_of_ranks_add_up_to_the_whole(make_engine, options):
    options = {f"eval__{key}": value for key, value in options.items()} | {"eval__batch_size": 7}
    parts = []
    for ranks in [Ranks(), OneOf(0, 3), OneOf(1, 3), OneOf(2, 3)]:
        engine = make_engine(**options)
        engine.advance(0, engine.split.train)
        parts.append(engine.evaluate("val", ranks=ranks))
    whole, *shares = [torch.stack([s.reciprocal_rank, s.positive, s.negative]) for s in parts]
    assert torch.equal(sum(shares), whole)
