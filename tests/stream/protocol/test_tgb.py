"""py-tgb's evaluator and files: its own results and a file that it wrote (make_tgb_fixture.py), or py-tgb itself."""

import json
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tgscale import open_stream
from tgscale.data.plain_pickle import load_plain_pickle
from tgscale.data.store import save_stream, writing
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError, DataError
from tgscale.stream.protocol import PROTOCOLS
from tgscale.stream.protocol.file_negatives import FileNegatives
from tgscale.stream.scores import ScoreTable

HERE = Path(__file__).parent
FIXTURE = json.loads((HERE / "tgb_fixture.json").read_text())
TGB = PROTOCOLS["tgb"]


def ours(positive, negative):
    """MRR and hits@1, hits@10 as the engine takes them, in two batches."""
    logits = torch.cat([torch.as_tensor(positive)[:, None], torch.as_tensor(negative)], dim=1).float()
    table, cut = ScoreTable(len(logits), TGB), len(logits) // 2
    for start, stop in ((0, cut), (cut, len(logits))):
        if start < stop:
            table.add(start, logits[start:stop])
    scores = table.scores()
    first = float((scores.reciprocal_rank == 1).double().mean())
    return {"mrr": scores.summary()["mrr"], "hits@10": scores.summary()["hits@10"], "hits@1": first}


@pytest.mark.parametrize("case", FIXTURE["cases"], ids=lambda case: f"{len(case['negative'][0])}-negatives")
def test_our_numbers_are_those_that_py_tgb_gave(case):
    found = ours(case["positive"], case["negative"])
    for name, value in found.items():
        assert value == pytest.approx(case[name], abs=1e-6)


def test_our_numbers_are_those_of_py_tgb_itself():
    evaluate = pytest.importorskip("tgb.linkproppred.evaluate", reason="py-tgb is not installed: the file stands in")
    rng = np.random.default_rng(0)
    for levels in (2, 30, 10**6):
        positive, negative = rng.integers(0, levels, 50), rng.integers(0, levels, (50, 99))
        found = ours(positive, negative)
        for k in (1, 10):
            asked = {"y_pred_pos": positive, "y_pred_neg": negative, "eval_metric": ["mrr"]}
            theirs = evaluate.Evaluator("tgbl-wiki", k_value=k).eval(asked)
            assert found["mrr"] == pytest.approx(float(theirs["mrr"]), abs=1e-6)
            assert found[f"hits@{k}"] == pytest.approx(float(theirs[f"hits@{k}"]), abs=1e-6)


def test_padding_does_not_move_a_rank():
    positive, negative = torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, -math.inf]])
    table = ScoreTable(2, TGB)
    table.add(0, torch.cat([positive[:, None], negative], dim=1))
    assert table.scores().reciprocal_rank.tolist() == [1 / 2.5, 1 / 2.5]


def tiny():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("make_tgb_fixture", HERE / "make_tgb_fixture.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return EventStream.from_arrays(*module.tiny_stream(), num_nodes=18)


def test_their_file_is_read_and_padded():
    stream = tiny()
    split = stream.split(0.15, 0.15, by="times")
    negatives = FileNegatives(stream, HERE, "val", split.train, split.val)
    table = load_plain_pickle(HERE / "tiny_val_ns.pkl")
    drawn = negatives.draw(torch.arange(split.train, split.val))
    assert not drawn.there.all()  # ragged
    for row, event in enumerate(range(split.train, split.val)):
        key = int(stream.src[event]), int(stream.dst[event]), int(stream.time[event])
        assert drawn.node[row][drawn.there[row]].tolist() == table[key].astype(int).tolist()
    part = negatives.draw(torch.arange(split.train + 3, split.train + 5))
    assert torch.equal(part.node, drawn.node[3:5])


def test_their_split_is_ours_between_times():
    stream = tiny()
    split = stream.split(0.15, 0.15, by="times")
    border, end = np.quantile(stream.time, [0.7, 0.85])
    assert split.train == (stream.time <= border).sum()
    assert split.val == (stream.time <= end).sum()
    keys = load_plain_pickle(HERE / "tiny_val_ns.pkl")
    assert {t for _, _, t in keys} == set(stream.time[split.train : split.val].tolist())


def test_their_generator_draws_as_ours_does():
    """Sets and numbers of historical and random negatives of the file that py-tgb wrote are those our rule gives."""
    stream = tiny()
    split = stream.split(0.15, 0.15, by="times")
    trained = slice(0, split.train)
    for (s, _, t), drawn in load_plain_pickle(HERE / "tiny_val_ns.pkl").items():
        met = set(stream.dst[trained][stream.src[trained] == s].tolist())
        present = set(stream.dst[(stream.src == s) & (stream.time == t)].tolist())
        known = min(4, len(met - present))
        drawn = drawn.astype(int).tolist()
        assert set(drawn[:known]) <= met - present
        free = set(range(6, 18)) - met - present
        assert set(drawn[known:]) <= free
        assert len(drawn) == known + min(8 - known, len(free))


@pytest.mark.parametrize("shift", [0, 6], ids=["from-memory", "imported"])
def test_ids_of_the_source_are_translated(tmp_path, shift):
    """Imported: sources and destinations had ids from 0 each. From memory: an id is the node's number."""
    stream = tiny()
    with writing(tmp_path / "data") as writer:
        for name in ("src", "dst", "time"):
            writer.create(name, np.int64, (stream.num_events,))
            writer.append(name, getattr(stream, name))
        writer.write_indices(18)
        about = {"name": "tiny", "num_nodes": 18, "time_unit": "s", "num_sources": 6, "source_split": None}
        writer.commit(**about, source={"format": "csv" if shift else "memory"})
    given = load_plain_pickle(HERE / "tiny_val_ns.pkl").items()
    table = {(s, d - shift, t): lists - shift for (s, d, t), lists in given}
    (tmp_path / "x_val_ns_v2.pkl").write_bytes(pickle.dumps(table))
    split = stream.split(0.15, 0.15, by="times")
    events = torch.arange(split.train, split.val)
    other = FileNegatives(open_stream(tmp_path / "data"), tmp_path, "val", split.train, split.val).draw(events)
    plain = FileNegatives(stream, HERE, "val", split.train, split.val).draw(events)
    assert torch.equal(other.node[other.there], plain.node[plain.there])


def test_mistakes_are_named(tmp_path):
    stream = tiny()
    split = stream.split(0.15, 0.15, by="times")
    with pytest.raises(ConfigError, match="no file named NAME_val_ns"):
        FileNegatives(stream, tmp_path, "val", split.train, split.val)
    with pytest.raises(DataError, match=r"event 60 of the val part, .* --eval\.split times"):
        FileNegatives(stream, HERE, "val", 60, 80)
    shutil.copy(HERE / "tiny_val_ns.pkl", tmp_path / "a_val_ns.pkl")
    shutil.copy(HERE / "tiny_val_ns.pkl", tmp_path / "b_val_ns_v2.pkl")
    with pytest.raises(ConfigError, match="2 files"):
        FileNegatives(stream, tmp_path, "val", split.train, split.val)
    (tmp_path / "a_val_ns.pkl").unlink()
    (tmp_path / "b_val_ns_v2.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="does not map"):
        FileNegatives(stream, tmp_path, "val", split.train, split.val)
    table = load_plain_pickle(HERE / "tiny_val_ns.pkl")
    (tmp_path / "b_val_ns_v2.pkl").write_bytes(pickle.dumps({key: [99] for key in table}))
    with pytest.raises(DataError, match="destination 99"):
        FileNegatives(stream, tmp_path, "val", split.train, split.val)


def test_a_run_is_validated_and_tested_on_files(make_config, make_stream, tmp_path, monkeypatch):
    from tgscale import evaluate, replace, train_stream

    monkeypatch.chdir(tmp_path)
    stream = make_stream(times=150)
    save_stream(stream, tmp_path / "data")
    split = stream.split(0.15, 0.15, by="times")
    (tmp_path / "ns").mkdir()
    rng = np.random.default_rng(0)
    for part in ("val", "test"):
        # The stream was made in memory: an id is the node's number, and destinations are those from 15 on.
        columns = [column[slice(*split.range(part))] for column in (stream.src, stream.dst, stream.time)]
        table = {key: 15 + rng.permutation(15)[: rng.integers(9, 12)] for key in zip(*columns, strict=True)}
        (tmp_path / "ns" / f"some_{part}_ns.pkl").write_bytes(pickle.dumps(table))
    config = make_config(data=tmp_path / "data", run=tmp_path / "run", train__epochs=1)
    config = replace(config, eval__protocol="tgb", eval__split="times", eval__negatives_from=Path("ns"))
    result = train_stream(config)
    told = result["protocol"]
    assert [told[key] for key in ("name", "draw", "file", "negatives", "fewest")] == [
        "tgb", "file", "some_test_ns.pkl", 11, 9,
    ]  # fmt: skip
    assert len(told["sha256"]) == 64
    monkeypatch.chdir("/")  # the run remembers where the files lie
    assert evaluate(config.run, quiet=True)["metrics"] == result["test"]
    monkeypatch.chdir(tmp_path)
    again = evaluate(config.run, protocol="tgb", negatives_from="ns", quiet=True)  # a string will do
    assert again["metrics"] == result["test"]
    drawn = evaluate(config.run, negatives="historical", quiet=True)
    assert drawn["protocol"]["draw"] == "historical"
    assert drawn["metrics"] != result["test"]
