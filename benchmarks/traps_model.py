"""Traps of evaluation that show on one trained model, which is scored anew. Used by protocol_traps.py."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tgscale
from tgscale.data.stream import Split
from tgscale.stream import engine as engine_module
from tgscale.stream.config import other_protocol
from tgscale.stream.engine import StreamEngine
from tgscale.stream.scores import Scores
from tgscale.stream.trainer import load_config, restore_best
from tgscale.train.metrics import ap_auc, batch_ap_auc, optimistic_ranks, reciprocal_ranks
from tgscale.train.run_start import load_best


def train(data: Path, run: Path, **options: Any) -> Path:
    """A run directory, trained unless it is there."""
    if not (run / "result.json").exists():
        config = tgscale.replace(tgscale.default_config(data, run), quiet=True, device="cpu", **options)
        tgscale.train_stream(config)
    return run


def load(run: Path, roots: str = "event", **options: Any) -> StreamEngine:
    """The best weights, with the memory of the end of the training events, under other options of evaluation."""
    config = load_config(run)
    evaluation = other_protocol(config.eval, options.pop("protocol", None), **options)
    sampling = dataclasses.replace(config.sampling, roots=roots)
    config = dataclasses.replace(config, eval=evaluation, sampling=sampling)
    engine = StreamEngine(config, tgscale.open_stream(config.data), torch.device("cpu"), pretrain=False)
    restore_best(engine, load_best(run))
    engine.model.eval()
    return engine


def walk(engine: StreamEngine, part: str) -> None:
    """Let the memory go through a part in the batches of its evaluation."""
    for span in engine.config.eval.rule.spans(*engine.split.range(part), engine.config.eval_batch_size):
        engine.advance(*span)


def test_scores(run: Path, **options: Any) -> tuple[Scores, dict[str, Scores]]:
    """Scores of the test part by the model and by the rules."""
    engine = load(run, **options)
    walk(engine, "val")
    return engine.evaluate("test"), engine.evaluate_rules("test")


def populations(run: Path, cases: dict[str, dict[str, Any]], metric: str) -> dict[str, dict[str, float]]:
    """A metric of the model, EdgeBank and recency under each case of evaluation."""
    found = {}
    for name, options in cases.items():
        scores, rules = test_scores(run, **options)
        of = {"model": scores, "edgebank": rules["edgebank"], "recency": rules["recency"]}
        found[name] = {who: float(each.summary()[metric] or 0) for who, each in of.items()}
    return found


def ties(run: Path) -> dict[str, dict[str, float]]:
    """MRR against 49 by the three rules for ties, and the share of events whose true destination is in a tie."""
    engine = load(run)
    walk(engine, "val")
    logits: dict[str, list[torch.Tensor]] = {"model": []}
    _collect(engine, lambda each: logits["model"].append(each))
    candidates = torch.cat(logits["model"])
    rules = {"constant": torch.zeros_like(candidates), "model": candidates}
    rules |= {name: _rule_logits(engine, name) for name in ("edgebank", "popularity", "recency")}
    return {name: _by_tie_rule(scores) for name, scores in rules.items()}


def _by_tie_rule(scores: torch.Tensor) -> dict[str, float]:
    positive, negative = scores[:, 0], scores[:, 1:]
    pessimistic = 1.0 + (negative >= positive[:, None]).sum(1).double()
    return {
        "optimistic": float(optimistic_ranks(positive, negative).reciprocal().mean()),
        "half": float(reciprocal_ranks(positive, negative).mean()),
        "pessimistic": float(pessimistic.reciprocal().mean()),
        "tied": float((negative == positive[:, None]).any(1).double().mean()),
    }


@torch.no_grad()
def _collect(engine: StreamEngine, take: Callable[[torch.Tensor], None]) -> None:
    negatives = engine.negatives_of("test")
    for start, stop in engine.config.eval.rule.spans(*engine.split.range("test"), engine.config.eval_batch_size):
        event = torch.arange(start, stop)
        batch = engine.builder.against(event, negatives.draw(event))
        take(engine.logits(engine.memory.read(batch.block.nodes), batch))
        engine.advance(start, stop)


def _rule_logits(engine: StreamEngine, name: str) -> torch.Tensor:
    rule, negatives, builder = engine_module.RULES[name], engine.negatives_of("test"), engine.builder
    rows = []
    for event in torch.arange(*engine.split.range("test")).split(4096):
        candidate = torch.cat([builder.dst[event].long()[:, None], negatives.draw(event).node], dim=1)
        query = [x[:, None].expand_as(candidate).reshape(-1) for x in (builder.src[event].long(), builder.time[event])]
        score = rule(engine.history, query[0], candidate.reshape(-1), query[1], torch.zeros_like(query[1]))
        rows.append(score.view_as(candidate))
    return torch.cat(rows)


def averages(run: Path, sizes: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """AP of the same scores, over all events and as the mean over batches of several sizes; MRR likewise."""
    scores, _ = test_scores(run, protocol="ap")
    ranks = test_scores(run)[0].reciprocal_rank
    count = len(ranks)
    found = {"all events": {"ap": ap_auc(scores.positive, scores.negative)[0], "mrr": float(ranks.mean())}}
    for size in sizes:
        bounds = [*range(size, count, size), count]
        starts = [0, *bounds[:-1]]
        means = [float(ranks[a:b].mean()) for a, b in zip(starts, bounds, strict=True)]
        ap = batch_ap_auc(scores.positive, scores.negative, bounds)[0]
        found[f"{size}"] = {"ap": ap, "mrr": float(np.mean(means))}
    return found


def batch_sizes(run: Path, sizes: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """Test MRR of the same weights by the batch size of evaluation, and by how fresh sampled neighbors are."""
    found: dict[int, dict[str, float]] = {size: {} for size in sizes}
    for size in sizes:
        for roots in ("event", "node"):
            engine = load(run, roots, batch_size=size)
            walk(engine, "val")
            found[size][roots] = engine.evaluate("test").mrr
    return found


def memories(run: Path) -> dict[str, float]:
    """Test MRR of the same weights by the memory they begin the test part with."""
    found = {}
    engine = load(run)
    walk(engine, "val")
    found["training and validation events (ours)"] = engine.evaluate("test").mrr
    engine = load(run)
    found["training events; validation is not walked through"] = engine.evaluate("test").mrr
    engine = load(run)
    engine.memory.reset()
    found["none: reset before the test part"] = engine.evaluate("test").mrr
    engine = load(run)
    walk(engine, "val")
    walk(engine, "test")
    found["all events: left over from a test before"] = engine.evaluate("test").mrr
    engine = load(run)
    weights = engine.model.state_dict()
    torch.manual_seed(0)
    other = StreamEngine(engine.config, engine.stream, engine.device, pretrain=False)
    other.model.eval()
    walk(other, "train")
    engine.model.load_state_dict(weights)
    engine.memory.load_state_dict(other.memory.state_dict())
    walk(engine, "val")
    found["training events, but through other weights (of the start)"] = engine.evaluate("test").mrr
    return found


def static_pretraining(data: Path, out: Path, seeds: int, **options: Any) -> dict[str, list[float]]:
    """Test MRR with static node memory pre-trained on the training events, and on all events, of some seeds."""
    made, original = {}, engine_module.make_static_memory

    def of_everything(config, stream, split, *rest):
        return original(config, stream, Split(stream.num_events, stream.num_events, stream.num_events), *rest)

    for name, maker in (("training", original), ("everything", of_everything)):
        made[name] = []
        for seed in range(seeds):
            run = out / f"static-{name}-{seed}"
            engine_module.make_static_memory = maker
            try:
                if not (run / "result.json").exists():
                    config = tgscale.disttgl_config(data, run)
                    config = tgscale.replace(config, quiet=True, device="cpu", seed=seed, **options)
                    tgscale.train_stream(config)
            finally:
                engine_module.make_static_memory = original
            made[name].append(json.loads((run / "result.json").read_text())["test"]["mrr"])
    return made
