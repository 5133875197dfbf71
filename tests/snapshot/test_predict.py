"""Predictions of steps: the numbers of the evaluation, what is still to come, and whom they are about."""

import json
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tgscale.data.generate import generate_stream
from tgscale.data.ingest import import_events
from tgscale.data.snapshot_array import import_array
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_ingest import import_snapshots
from tgscale.data.snapshot_store import open_snapshots, save_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.data.store import save_stream
from tgscale.errors import ConfigError, DataError, DivergedError, RunError, StoreError
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.predict import answers, predict_snapshots
from tgscale.snapshot.predict import run as run_module
from tgscale.snapshot.task.edges import EdgeClassification
from tgscale.snapshot.task.links import LinkPrediction
from tgscale.snapshot.trainer import evaluate_snapshots, load_config, train_snapshots
from tgscale.stream.config import default_config
from tgscale.stream.config import replace as stream_replace
from tgscale.stream.predict import predict
from tgscale.stream.trainer import train_stream
from tgscale.train.run_start import load_best


def engine_of(run):
    config = load_config(run)
    engine = SnapshotEngine(config, open_snapshots(config.data), "cpu")
    engine.modules.load_state_dict(load_best(run)["modules"])
    engine.modules.eval()
    return engine


def rows_of(done):
    return pq.read_table(done["out"]).to_pylist()


def generated(path, **options):
    options = {"nodes": 40, "snapshots": 30, "edges": 80, "change": 10, "skew": 1.0, "seed": 0, "features": 3} | options
    save_snapshots(generate_snapshots(**options), path)
    return path


def shortened(sequence, steps):
    """The first steps of a sequence in which each step has a graph of its own."""
    edges = slice(0, int(sequence.offsets[steps]))
    step = np.repeat(np.arange(steps), np.diff(sequence.offsets[: steps + 1]))
    dst = np.concatenate([sequence.edges(t)[1] for t in range(steps)])
    weight = None if sequence.edge_weight is None else sequence.edge_weight[edges]
    return SnapshotSequence.from_arrays(
        step,
        sequence.neighbor[edges],
        dst,
        num_nodes=sequence.num_nodes,
        num_steps=steps,
        edge_weight=weight,
        node_features=None if sequence.node_features is None else sequence.node_features[:steps],
        name="short",
    )


@pytest.mark.parametrize("task", ["regression", "link"])
@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize("model", ["tgcn", "a3tgcn", "evolvegcn_h", "mpnn_lstm"])
def test_of_a_part_they_are_those_of_its_evaluation(make_config, tmp_path, task, part, model):
    config = make_config(task=task, model=model, train__epochs=1)
    train_snapshots(config)
    done = predict_snapshots(config.run, tmp_path / "a.parquet", steps=part, quiet=True)
    assert done["metrics"] == evaluate_snapshots(config.run, part, quiet=True)["metrics"]
    steps = engine_of(config.run).parts._asdict()[part]
    assert done["steps"] == [steps.start, steps.stop]
    assert sorted({row["step"] for row in rows_of(done)}) == list(steps)


def test_a_target_is_in_the_units_of_the_source(make_config, tmp_path):
    plain = generate_snapshots(nodes=40, snapshots=30, edges=80, change=10, skew=1.0, seed=0, features=3)
    scaled = plain.__class__(
        **(vars(plain) | {"target_mean": np.full((40, 1), 7.0), "target_std": np.full((40, 1), 3.0)})
    )
    save_snapshots(scaled, tmp_path / "scaled")
    config = make_config(data=tmp_path / "scaled", train__epochs=1)
    train_snapshots(config)
    done = predict_snapshots(config.run, tmp_path / "a.parquet", steps="test", quiet=True)
    rows = rows_of(done)
    target = [float(plain.target[row["step"], row["node"], 0]) * 3 + 7 for row in rows]
    assert [row["target"] for row in rows] == target
    error = np.array([row["prediction"] for row in rows]) - target
    assert np.abs(error).mean() == pytest.approx(done["metrics"]["mae"], rel=1e-6)


@pytest.mark.parametrize("residual", [False, True])
def test_what_is_to_come_is_what_a_longer_series_has_of_the_same_steps(make_config, tmp_path, residual):
    series = np.cumsum(np.random.default_rng(0).normal(size=(40, 6)), axis=0).astype(np.float32)
    adjacency = np.eye(6) + np.eye(6, k=1)
    for name, steps in (("old", 30), ("new", 40)):
        np.savez(tmp_path / f"{name}.npz", x=series[:steps], adj=adjacency)
    options = {"lags": 2, "horizon": 3}
    import_array(tmp_path / "old.npz", tmp_path / "old", zscore=True, **options)
    config = make_config(data=tmp_path / "old", net__residual=residual, groups_per_step=2)
    train_snapshots(config)
    done = predict_snapshots(config.run, tmp_path / "next.parquet", quiet=True)
    rows = rows_of(done)
    assert done["metrics"] is None
    assert [(row["step"], row["time"], row["target_time"], row["node"]) for row in rows] == [
        (step, step + 1, step + 4, node) for step in (26, 27, 28) for node in range(6)
    ]
    assert {row["target"] for row in rows} == {None}
    import_array(tmp_path / "new.npz", tmp_path / "new", scale_as=tmp_path / "old", **options)
    later = predict_snapshots(
        config.run, tmp_path / "later.parquet", snapshots=tmp_path / "new", steps="26:29", quiet=True
    )
    for row, again in zip(rows, rows_of(later), strict=True):
        assert again["prediction"] == pytest.approx(row["prediction"], rel=1e-5)
        assert again["target"] == pytest.approx(series[row["step"] + 1 + 3, row["node"]], rel=1e-5)
    unscaled = import_array(tmp_path / "new.npz", tmp_path / "own", zscore=True, **options).path
    with pytest.raises(ConfigError, match=f"scaled by another mean.*--scale-as {tmp_path / 'old'}"):
        predict_snapshots(config.run, tmp_path / "x.parquet", snapshots=unscaled, quiet=True)
    assert not (tmp_path / "x.parquet").exists()


@pytest.fixture
def linked(make_config):
    config = make_config(task="link", model="gclstm", train__epochs=1)
    train_snapshots(config)
    return config


def test_the_step_after_the_last_sees_all_and_nothing_that_comes_later(make_config, tmp_path):
    whole = open_snapshots(generated(tmp_path / "whole", features=0))
    save_snapshots(shortened(whole, 26), tmp_path / "short")
    config = make_config(data=tmp_path / "short", task="link", model="gconv_gru", train__epochs=1)
    train_snapshots(config)
    after = rows_of(predict_snapshots(config.run, tmp_path / "a.parquet", quiet=True))
    same = predict_snapshots(config.run, tmp_path / "b.parquet", snapshots=tmp_path / "whole", steps="26", quiet=True)
    assert [row["step"] for row in after] == [26] * len(after)
    for row, again in zip(after, rows_of(same), strict=True):
        assert again["src"] == row["src"]
        assert again["top_score"] == pytest.approx(row["top_score"], rel=1e-4, abs=1e-6)
        assert again["top_dst"] == row["top_dst"]


@pytest.mark.parametrize("cells", [7, 100, 1 << 18])
def test_the_likeliest_are_those_of_all_pairs(linked, tmp_path, monkeypatch, cells):
    monkeypatch.setattr(answers, "CELLS", cells)
    engine = engine_of(linked.run)
    sequence, step, task = engine.sequence, 28, engine.task
    with torch.no_grad():
        h = engine._make_windows().embed(step - 1)
    seen = np.unique(np.concatenate([sequence.edges(t)[1] for t in range(step)]))
    sources = np.unique(np.concatenate([sequence.edges(t)[0] for t in range(step - 4, step)]))
    for top_k in (3, 0):
        done = predict_snapshots(
            linked.run, tmp_path / "a.parquet", steps="28", top_k=top_k, quiet=True, overwrite=True
        )
        rows = rows_of(done)
        assert [row["src"] for row in rows] == sources.tolist()
        for row in rows:
            others = torch.from_numpy(seen[seen != row["src"]]).long()
            with torch.no_grad():
                score = task.logits(engine.head, h, torch.tensor([row["src"]]), others[None], step)[0]
            best = score.sort(descending=True, stable=True).indices[: top_k or len(others)]
            assert row["top_dst"] == others[best].tolist()
            assert row["top_score"] == pytest.approx(score[best].tolist(), abs=1e-5)


def test_pairs_are_scored_and_told_whether_they_are_joined(linked, tmp_path):
    engine = engine_of(linked.run)
    src, dst = engine.sequence.edges(28)
    pairs = [(int(src[0]), int(dst[0])), (0, 1), (int(src[5]), int(dst[5])), (3, 3)]
    (tmp_path / "q.csv").write_text("from,to\n" + "".join(f"{u},{v}\n" for u, v in pairs))
    done = predict_snapshots(linked.run, tmp_path / "a.parquet", steps="28:31", queries=tmp_path / "q.csv", quiet=True)
    rows, there = rows_of(done), set(zip(src.tolist(), dst.tolist(), strict=True))
    assert [(row["step"], row["src"], row["dst"]) for row in rows] == [
        (s, *pair) for s in (28, 29, 30) for pair in pairs
    ]
    assert [row["joined"] for row in rows if row["step"] == 28] == [pair in there for pair in pairs]
    assert {row["joined"] for row in rows if row["step"] == 30} == {None}
    with torch.no_grad():
        h = engine._make_windows().embed(27)
        u, v = torch.tensor(pairs).unbind(1)
        score = engine.task.logits(engine.head, h, u, v[:, None], 28)[:, 0]
    assert [row["score"] for row in rows if row["step"] == 28] == pytest.approx(score.tolist(), abs=1e-6)


def test_sources_alone_are_answered(linked, tmp_path):
    (tmp_path / "q.csv").write_text("user\n7\n3\n")
    rows = rows_of(
        predict_snapshots(linked.run, tmp_path / "a.parquet", queries=tmp_path / "q.csv", top_k=2, quiet=True)
    )
    assert [(row["step"], row["src"], len(row["top_dst"])) for row in rows] == [(30, 7, 2), (30, 3, 2)]


def test_a_node_is_its_own_candidate_where_there_are_loops(make_config, tmp_path):
    generator = np.random.default_rng(0)
    step, src = np.repeat(np.arange(20), 30), generator.integers(0, 8, 600)
    loops = SnapshotSequence.from_arrays(step, src, src, num_nodes=8)
    save_snapshots(loops, tmp_path / "loops")
    config = make_config(data=tmp_path / "loops", task="link", train__epochs=1)
    train_snapshots(config)
    rows = rows_of(predict_snapshots(config.run, tmp_path / "a.parquet", top_k=0, quiet=True))
    assert all(sorted(row["top_dst"]) == list(range(8)) for row in rows)


@pytest.fixture
def classed(make_config, tmp_path):
    """A run that classifies edges, of people with names, whose class is that of their sum; labels are 3, 5 and 9."""
    generator = np.random.default_rng(0)
    lines = ["who,whom,day,label"]
    for day in range(24):
        for u, v in generator.integers(0, 12, (30, 2)):
            lines.append(f"p{u:02d},p{v:02d},{day},{(3, 5, 9)[(u + v) % 3]}")
    (tmp_path / "e.csv").write_text("\n".join(lines))
    import_snapshots(tmp_path / "e.csv", tmp_path / "edges", snapshots="day", src="who", dst="whom")
    config = make_config(data=tmp_path / "edges", task="edge", train__epochs=1)
    train_snapshots(config)
    return config


def test_edges_are_classified_as_in_the_evaluation(classed, tmp_path):
    done = predict_snapshots(classed.run, tmp_path / "a.parquet", steps="test", quiet=True)
    rows = rows_of(done)
    assert done["metrics"] == evaluate_snapshots(classed.run, "test", quiet=True)["metrics"]
    right = np.mean([row["class"] == row["label"] for row in rows])
    assert right == pytest.approx(done["metrics"]["accuracy"])
    for row in rows:
        assert sum(row["probability"]) == pytest.approx(1)
        assert row["class"] == (3, 5, 9)[int(np.argmax(row["probability"]))]
    known = duckdb.sql(f"SELECT who, whom, label FROM '{tmp_path}/e.csv' WHERE day >= {done['steps'][0]}").fetchall()
    first = {(who, whom, label) for who, whom, label in known}
    assert {(row["src"], row["dst"], row["label"]) for row in rows} <= first


def test_pairs_to_come_are_classified_by_name(classed, tmp_path):
    (tmp_path / "q.csv").write_text("whom,who\np03,p01\np00,p11\n")
    rows = rows_of(predict_snapshots(classed.run, tmp_path / "a.parquet", queries=tmp_path / "q.csv", quiet=True))
    assert [(row["step"], row["src"], row["dst"], row["label"]) for row in rows] == [
        (24, "p01", "p03", None),
        (24, "p11", "p00", None),
    ]
    assert json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"classes"]) == [3, 5, 9]


def test_new_edges_may_lack_labels_and_have_none_that_was_not_learned(classed, tmp_path):
    text = (tmp_path / "e.csv").read_text()
    (tmp_path / "plain.csv").write_text(text)
    import_snapshots(tmp_path / "plain.csv", tmp_path / "plain", snapshots="day", src="who", dst="whom", label="")
    whole = rows_of(predict_snapshots(classed.run, tmp_path / "a.parquet", steps="20", quiet=True))
    done = predict_snapshots(classed.run, tmp_path / "b.parquet", steps="20", snapshots=tmp_path / "plain", quiet=True)
    assert done["metrics"] is None
    for row, again in zip(whole, rows_of(done), strict=True):
        assert again["probability"] == pytest.approx(row["probability"], abs=1e-6)
        assert (again["src"], again["dst"], again["label"]) == (row["src"], row["dst"], None)
    (tmp_path / "odd.csv").write_text(text.replace(",9\n", ",8\n"))
    import_snapshots(tmp_path / "odd.csv", tmp_path / "odd", snapshots="day", src="who", dst="whom")
    with pytest.raises(DataError, match="edges with the label 8, which the run did not learn"):
        predict_snapshots(classed.run, tmp_path / "c.parquet", steps="20", snapshots=tmp_path / "odd", quiet=True)


def test_the_two_sides_of_a_bipartite_source_have_ids_of_their_own(make_config, tmp_path):
    generator = np.random.default_rng(0)
    rows = [f"{u * 10},{v * 10},{day}" for day in range(20) for u, v in generator.integers(1, 9, (20, 2))]
    (tmp_path / "e.csv").write_text("user,item,day\n" + "\n".join(rows))
    import_snapshots(tmp_path / "e.csv", tmp_path / "shop", snapshots="day", bipartite=True)
    config = make_config(data=tmp_path / "shop", task="link", train__epochs=1)
    train_snapshots(config)
    (tmp_path / "q.csv").write_text("user,item\n20,20\n80,10\n")
    rows = rows_of(predict_snapshots(config.run, tmp_path / "a.parquet", queries=tmp_path / "q.csv", quiet=True))
    assert [(row["src"], row["dst"]) for row in rows] == [(20, 20), (80, 10)]
    sequence, step = open_snapshots(tmp_path / "shop"), 19
    joined = {(20, 20): False, (80, 10): False}
    for u, v in zip(*sequence.edges(step), strict=True):
        pair = (int(u + 1) * 10, int(v - 8 + 1) * 10)
        if pair in joined:
            joined[pair] = True
    done = predict_snapshots(
        config.run, tmp_path / "b.parquet", queries=tmp_path / "q.csv", steps=str(step), quiet=True
    )
    assert [row["joined"] for row in rows_of(done)] == list(joined.values())


@pytest.mark.parametrize("through_events", [False, True])
@pytest.mark.parametrize(("user", "item"), [("{}", "{}"), ("user{}", "item{}"), ("zoe{}", "item{}")])
def test_ids_of_two_sides_are_those_of_the_source(make_config, tmp_path, user, item, through_events):
    """Dense ones, and text in either order of the alphabet; also of snapshots that come from events."""
    generator = np.random.default_rng(0)
    pairs = [(day, *generator.integers(0, 8, 2)) for day in range(20) for _ in range(20)]
    lines = [f"{user.format(u)},{item.format(v)},{day * 86400}" for day, u, v in pairs]
    (tmp_path / "e.csv").write_text("user,item,time\n" + "\n".join(lines))
    if through_events:
        import_events(tmp_path / "e.csv", tmp_path / "events", bipartite=True)
        import_snapshots(tmp_path / "events", tmp_path / "shop", every="1d")
    else:
        import_snapshots(tmp_path / "e.csv", tmp_path / "shop", every="1d", bipartite=True)
    config = make_config(data=tmp_path / "shop", task="link", train__epochs=1)
    train_snapshots(config)
    rows = rows_of(predict_snapshots(config.run, tmp_path / "a.parquet", top_k=0, quiet=True))
    users, items = ({pattern.format(n) for n in range(8)} for pattern in (user, item))
    assert {str(row["src"]) for row in rows} <= users
    assert all({str(dst) for dst in row["top_dst"]} == items for row in rows)
    (tmp_path / "q.csv").write_text(f"user,item\n{user.format(3)},{item.format(1)}\n")
    [pair] = rows_of(predict_snapshots(config.run, tmp_path / "b.parquet", queries=tmp_path / "q.csv", quiet=True))
    assert (str(pair["src"]), str(pair["dst"])) == (user.format(3), item.format(1))
    [ranked] = [row for row in rows if row["src"] == pair["src"]]
    assert ranked["top_score"][ranked["top_dst"].index(pair["dst"])] == pytest.approx(pair["score"], abs=1e-5)


def test_of_two_sides_one_asks_and_one_is_named(make_config, tmp_path):
    """An undirected edge is stored both ways, so sources and destinations are all nodes; their ids say nothing."""
    generator = np.random.default_rng(0)
    rows = [f"{u * 10},{v * 10},{day}" for day in range(20) for u, v in generator.integers(1, 9, (20, 2))]
    (tmp_path / "e.csv").write_text("user,item,day\n" + "\n".join(rows))
    import_snapshots(tmp_path / "e.csv", tmp_path / "shop", snapshots="day", bipartite=True, undirected=True)
    config = make_config(data=tmp_path / "shop", task="link", train__epochs=1)
    train_snapshots(config)
    (tmp_path / "q.csv").write_text("user\n20\n80\n")
    for options in ({}, {"queries": tmp_path / "q.csv"}):
        done = predict_snapshots(config.run, tmp_path / "a.parquet", top_k=0, quiet=True, overwrite=True, **options)
        for row in rows_of(done):
            assert sorted(row["top_dst"]) == [10 * item for item in range(1, 9)]
        asked = [row["src"] for row in rows_of(done)]
        assert asked == ([20, 80] if options else sorted(set(asked)))


def test_a_destination_that_is_first_seen_later_is_no_candidate(make_config, tmp_path):
    generator = np.random.default_rng(0)
    step, src = np.repeat(np.arange(24), 20), generator.integers(0, 10, 480)
    dst = np.where(step < 20, generator.integers(0, 8, 480), generator.integers(0, 14, 480))
    save_snapshots(SnapshotSequence.from_arrays(step, src, dst, num_nodes=14, num_steps=24), tmp_path / "late")
    config = make_config(data=tmp_path / "late", task="link", train__epochs=1)
    train_snapshots(config)
    done = predict_snapshots(config.run, tmp_path / "a.parquet", steps="20:22", top_k=0, quiet=True)
    named = {step: {dst for row in rows_of(done) if row["step"] == step for dst in row["top_dst"]} for step in (20, 21)}
    assert named[20] == set(range(8))
    assert named[21] == set(range(8)) | set(dst[step == 20].tolist())


def test_edges_of_several_types_are_told_apart(make_config, tmp_path):
    generator = np.random.default_rng(0)
    rows = [
        f"{u},{v},{day},{kind},{kind}"
        for day in range(24)
        for u, v in generator.integers(0, 6, (8, 2))
        for kind in (0, 1)
    ]
    (tmp_path / "e.csv").write_text("src,dst,day,kind,label\n" + "\n".join(sorted(set(rows))))
    import_snapshots(tmp_path / "e.csv", tmp_path / "e", snapshots="day", edge_type="kind")
    config = make_config(data=tmp_path / "e", task="edge", model="lrgcn", train__epochs=1)
    train_snapshots(config)
    rows = rows_of(predict_snapshots(config.run, tmp_path / "a.parquet", steps=20, quiet=True))
    told = [(row["src"], row["dst"], row["edge_type"]) for row in rows]
    assert len(set(told)) == len(told)
    assert all(row["label"] == row["edge_type"] for row in rows)


def test_the_edges_of_undirected_snapshots_are_classified_once(make_config, tmp_path):
    generator = np.random.default_rng(0)
    pairs = [(day, *sorted(generator.choice(12, 2, replace=False))) for day in range(24) for _ in range(10)]
    lines = sorted({f"{u},{v},{day},{(u + v) % 3}" for day, u, v in pairs})
    (tmp_path / "e.csv").write_text("src,dst,day,label\n" + "\n".join(lines))
    import_snapshots(tmp_path / "e.csv", tmp_path / "e", snapshots="day", undirected=True)
    config = make_config(data=tmp_path / "e", task="edge", train__epochs=1)
    train_snapshots(config)
    rows = rows_of(predict_snapshots(config.run, tmp_path / "a.parquet", steps=20, quiet=True))
    found = {f"{row['src']},{row['dst']},20,{row['label']}" for row in rows}
    assert found == {line for line in lines if line.split(",")[2] == "20"}
    assert len(rows) == len(found)


def test_a_loop_to_come_is_not_known_before(make_config, tmp_path):
    generator = np.random.default_rng(0)
    step, src = np.repeat(np.arange(24), 20), generator.integers(0, 10, 480)
    dst = (src + generator.integers(1, 10, 480)) % 10
    config = make_config(data=tmp_path / "plain", task="link", train__epochs=1)
    for name, loops in (("plain", 0), ("looped", 10)):
        more = ([20] * loops, range(loops), range(loops))
        late = [np.append(each, some).astype(int) for each, some in zip((step, src, dst), more, strict=True)]
        save_snapshots(SnapshotSequence.from_arrays(*late, num_nodes=10, num_steps=24), tmp_path / name)
    train_snapshots(config)
    found = {
        name: rows_of(
            predict_snapshots(
                config.run, tmp_path / f"{name}.parquet", snapshots=tmp_path / name, steps="20:22", top_k=0, quiet=True
            )
        )
        for name in ("plain", "looped")
    }
    at = {name: [row for row in rows if row["step"] == 20] for name, rows in found.items()}
    assert [row["top_dst"] for row in at["plain"]] == [row["top_dst"] for row in at["looped"]]
    assert all(len(row["top_dst"]) == (10 if row["step"] == 21 else 9) for row in found["looped"])


def test_residuals_reach_as_far_as_a_target_is_known(make_config, tmp_path):
    generator = np.random.default_rng(0)
    whole = generate_snapshots(nodes=40, snapshots=30, edges=40, change=10, skew=1.0, features=2)
    cut = whole.__class__(**(vars(whole) | {"target": generator.normal(size=(25, 40, 1)), "target_delay": 2}))
    save_snapshots(cut, tmp_path / "cut")
    config = make_config(data=tmp_path / "cut", net__residual=True, train__epochs=1)
    train_snapshots(config)
    done = predict_snapshots(config.run, tmp_path / "a.parquet", quiet=True)
    assert done["steps"] == [25, 27]
    with pytest.raises(ConfigError, match="that can be predicted are 3 to 26"):
        predict_snapshots(config.run, tmp_path / "b.parquet", steps=27, quiet=True)


def test_labels_of_pairs_that_are_there_are_told(classed, tmp_path):
    known = duckdb.sql(
        f"SELECT who, whom, any_value(label) FROM '{tmp_path}/e.csv' WHERE day = 20 GROUP BY 1, 2"
    ).fetchall()
    asked = [*known, ("p00", "p00", None)] if ("p00", "p00") not in {each[:2] for each in known} else known
    (tmp_path / "q.csv").write_text("who,whom\n" + "".join(f"{u},{v}\n" for u, v, _ in asked))
    done = predict_snapshots(classed.run, tmp_path / "a.parquet", steps=20, queries=tmp_path / "q.csv", quiet=True)
    assert [(row["src"], row["dst"], row["label"]) for row in rows_of(done)] == asked


@pytest.mark.parametrize("types", [2, 1])
def test_lrgcn_takes_snapshots_that_lack_a_type(make_config, tmp_path, types):
    generator = np.random.default_rng(0)
    step, ends = np.repeat(np.arange(24), 20), generator.integers(0, 10, (2, 480))
    for name, many in (("three", 3), ("fewer", types)):
        kind = generator.integers(0, many, 480)
        save_snapshots(SnapshotSequence.from_arrays(step, *ends, edge_type=kind, num_nodes=10), tmp_path / name)
    config = make_config(data=tmp_path / "three", task="link", model="lrgcn", train__epochs=1)
    train_snapshots(config)
    assert predict_snapshots(config.run, tmp_path / "a.parquet", snapshots=tmp_path / "fewer", quiet=True)["rows"]
    save_snapshots(SnapshotSequence.from_arrays(step, *ends, num_nodes=10), tmp_path / "none")
    with pytest.raises(ConfigError, match="edge types: no, and the run was trained with yes"):
        predict_snapshots(config.run, tmp_path / "b.parquet", snapshots=tmp_path / "none", quiet=True)
    kind = np.arange(480) % 4
    save_snapshots(SnapshotSequence.from_arrays(step, *ends, edge_type=kind, num_nodes=10), tmp_path / "more")
    with pytest.raises(ConfigError, match="4 edge types, and the run was trained with 3"):
        predict_snapshots(config.run, tmp_path / "b.parquet", snapshots=tmp_path / "more", quiet=True)


@pytest.mark.parametrize("size", [1, 1000])
def test_the_file_is_written_in_groups_of_rows(linked, tmp_path, monkeypatch, size):
    whole = pq.read_table(predict_snapshots(linked.run, tmp_path / "a.parquet", steps="test", quiet=True)["out"])
    monkeypatch.setattr(run_module, "GROUP_BYTES", size)
    monkeypatch.setattr(answers, "CELLS", 100)
    done = predict_snapshots(linked.run, tmp_path / "b.parquet", steps="test", quiet=True)
    assert pq.ParquetFile(done["out"]).num_row_groups > 1
    assert done["rows"] == len(whole)
    cut = pq.read_table(done["out"])
    assert cut.drop(["top_score"]).equals(whole.drop(["top_score"]))


def test_other_nodes_may_be_predicted(linked, tmp_path):
    other = generated(tmp_path / "other", nodes=70, seed=5)
    done = predict_snapshots(linked.run, tmp_path / "a.parquet", snapshots=other, quiet=True)
    assert max(row["src"] for row in rows_of(done)) > 40


def test_times_go_on_where_they_are_equally_far_apart(make_config, tmp_path):
    lines = [f"{u},{v},{86_400 * day + 7}" for day in range(20) for u, v in ((0, 1), (1, 2), (2, 0), (day % 3, 3))]
    (tmp_path / "e.csv").write_text("src,dst,time\n" + "\n".join(lines))
    import_snapshots(tmp_path / "e.csv", tmp_path / "days", every="1d")
    config = make_config(data=tmp_path / "days", train__epochs=1)
    train_snapshots(config)
    rows = rows_of(predict_snapshots(config.run, tmp_path / "a.parquet", steps="19:21", quiet=True))
    assert {(row["step"], row["time"]) for row in rows} == {(19, 19 * 86_400), (20, 20 * 86_400)}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ConfigError, "targets of all 30 snapshots of .* are known.*--steps test"),
        (
            {"steps": "27:40"},
            ConfigError,
            "those of .* that can be predicted are 3 to 29, each from the 4 snapshots up to",
        ),
        ({"steps": "2"}, ConfigError, "that can be predicted are 3 to 29"),
        ({"steps": "9:9"}, ConfigError, "--steps 9:9: those of"),
        ({"steps": "tomorrow"}, ConfigError, "--steps 'tomorrow': give next, val, test, a step, or FIRST:STOP"),
        (
            {"steps": "test", "top_k": 3},
            ConfigError,
            "--top-k is for the likeliest destinations .*the run.s task is node regression",
        ),
        ({"steps": "test", "queries": "q.csv"}, ConfigError, "--queries .* node regression"),
        ({"steps": "test", "top_k": -1}, ConfigError, "top_k is -1"),
        ({"steps": "test", "out": "a.csv"}, ConfigError, "written as Parquet"),
        ({"steps": "test", "snapshots": "data"}, ConfigError, "--steps test is a part of the run's own data"),
        ({"steps": "9", "snapshots": "nowhere"}, StoreError, "nowhere is not a tgscale data directory"),
        ({"steps": "9", "data": "nowhere"}, RunError, "nowhere"),
    ],
)
def test_what_cannot_be_meant_is_refused(make_config, tmp_path, monkeypatch, options, error, words):
    monkeypatch.chdir(tmp_path)
    config = make_config(train__epochs=1)
    train_snapshots(config)
    with pytest.raises(error if error is not RunError else (RunError, StoreError), match=words):
        predict_snapshots(config.run, **{"out": "a.parquet", "quiet": True, **options})
    assert not (tmp_path / "a.parquet").exists()


def test_questions_that_cannot_be_answered_are_refused(classed, tmp_path):
    def ask(text=None, **options):
        if text is not None:
            (tmp_path / "q.csv").write_text(text)
            options["queries"] = tmp_path / "q.csv"
        predict_snapshots(classed.run, tmp_path / "a.parquet", quiet=True, **options)

    with pytest.raises(ConfigError, match="those of the next snapshot are not known yet: give --queries"):
        ask()
    with pytest.raises(ConfigError, match="has no column of destinations"):
        ask("who\np01\n")
    with pytest.raises(DataError, match=r"column 'whom': 1 row has an id that is no node .* such as 'p99' in row 2"):
        ask("who,whom\np01,p02\np01,p99\n")
    with pytest.raises(DataError, match="looks like src"):
        ask("a,b\n1,2\n")
    with pytest.raises(DataError, match="there are no rows"):
        ask("who,whom\n")
    with pytest.raises(DataError, match=r"none\.csv not found"):
        ask(queries=tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="--top-k is for the likeliest destinations"):
        ask(steps="test", top_k=3)
    with pytest.raises(ConfigError, match="--src is a column of --queries, and there are none"):
        ask(steps="test", src="who")
    with pytest.raises(ConfigError, match="is the file with the queries"):
        predict_snapshots(classed.run, tmp_path / "a.parquet", queries=tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_features_that_mean_another_thing_are_refused(make_config, tmp_path):
    np.savez(tmp_path / "e.npz", x=np.random.default_rng(0).random((40, 6), np.float32), adj=np.eye(6))
    for name, day in (("day", 24), ("half", 12)):
        import_array(tmp_path / "e.npz", tmp_path / name, steps_per_day=day)
    config = make_config(data=tmp_path / "day", train__epochs=1, groups_per_step=2)
    train_snapshots(config)
    with pytest.raises(ConfigError, match="--steps-per-day: 12, and the run was trained with 24"):
        predict_snapshots(config.run, tmp_path / "a.parquet", snapshots=tmp_path / "half", quiet=True)
    np.savez(tmp_path / "late.npz", x=np.random.default_rng(1).random((3, 6), np.float32), adj=np.eye(6))
    options = {"scale_as": tmp_path / "day", "steps_per_day": 24}
    with pytest.raises(ConfigError, match=r"--steps-per-day needs to know .* give --first-step N"):
        import_array(tmp_path / "late.npz", tmp_path / "late", horizon=1, **options)
    import_array(tmp_path / "late.npz", tmp_path / "late", horizon=1, first_step=40, **options)
    with pytest.raises(ConfigError, match="late has 3 snapshots, and the run predicts from groups of 4"):
        predict_snapshots(config.run, tmp_path / "a.parquet", snapshots=tmp_path / "late", quiet=True)


def test_the_latest_readings_alone_are_enough(make_config, tmp_path):
    series = np.random.default_rng(0).random((44, 6), np.float32)
    for name, part in (("old", slice(0, 40)), ("late", slice(40, 44))):
        np.savez(tmp_path / f"{name}.npz", x=series[part], adj=np.eye(6))
    np.savez(tmp_path / "both.npz", x=series, adj=np.eye(6))
    import_array(tmp_path / "old.npz", tmp_path / "old", horizon=6, zscore=True, steps_per_day=24)
    later = {"horizon": 6, "scale_as": tmp_path / "old", "steps_per_day": 24}
    import_array(tmp_path / "late.npz", tmp_path / "late", first_step=40, **later)
    import_array(tmp_path / "both.npz", tmp_path / "both", first_step=0, **later)
    config = make_config(data=tmp_path / "old", train__epochs=1, groups_per_step=2)
    train_snapshots(config)
    found = [
        rows_of(
            predict_snapshots(
                config.run, tmp_path / f"{name}.parquet", snapshots=tmp_path / name, steps=step, quiet=True
            )
        )
        for name, step in (("late", 3), ("both", 43))
    ]
    assert {(row["time"], row["target_time"], row["target"]) for row in found[0]} == {(43, 49, None)}
    for alone, whole in zip(*found, strict=True):
        assert alone | {"step": 43} == whole


def test_a_scaled_series_may_have_other_nodes(make_config, tmp_path):
    series = np.random.default_rng(0).random((40, 9), np.float32)
    for name, nodes in (("six", 6), ("nine", 9)):
        np.savez(tmp_path / f"{name}.npz", x=series[:, :nodes], adj=np.eye(nodes))
    import_array(tmp_path / "six.npz", tmp_path / "six", zscore=True)
    import_array(tmp_path / "nine.npz", tmp_path / "nine", scale_as=tmp_path / "six")
    import_array(tmp_path / "nine.npz", tmp_path / "own", zscore=True)
    config = make_config(data=tmp_path / "six", train__epochs=1, groups_per_step=2)
    train_snapshots(config)
    done = predict_snapshots(config.run, tmp_path / "a.parquet", snapshots=tmp_path / "nine", quiet=True)
    assert done["rows"] == 9
    with pytest.raises(ConfigError, match=r"scaled by another mean and deviation .* --scale-as"):
        predict_snapshots(config.run, tmp_path / "b.parquet", snapshots=tmp_path / "own", quiet=True)


def test_models_that_pick_nodes_need_enough_of_them(make_config, tmp_path):
    config = make_config(model="evolvegcn_h", train__epochs=1)
    train_snapshots(config)
    few = SnapshotSequence.from_arrays(
        [0, 1], [0, 1], [1, 0], num_nodes=2, num_steps=9, node_features=np.zeros((9, 2, 3)), target=np.zeros((8, 2))
    )
    save_snapshots(few, tmp_path / "few")
    with pytest.raises(ConfigError, match="evolvegcn_h picks as many nodes as there are features"):
        predict_snapshots(config.run, tmp_path / "a.parquet", snapshots=tmp_path / "few", quiet=True)


def test_runs_of_the_other_kind_are_named(linked, tmp_path):
    save_stream(generate_stream(events=300, nodes=30), tmp_path / "stream")
    config = default_config(tmp_path / "stream", tmp_path / "events")
    train_stream(stream_replace(config, train__epochs=1, model__dim=8, quiet=True, device="cpu"))
    with pytest.raises(ConfigError, match=r"is a run on an event stream: tgscale\.predict is for such"):
        predict_snapshots(tmp_path / "events", tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"is a run on snapshots: tgscale\.predict_snapshots is for such"):
        predict(linked.run, "new.csv", tmp_path / "a.parquet")


def test_snapshots_of_another_kind_are_refused(linked, tmp_path):
    other = generated(tmp_path / "other", features=2)
    with pytest.raises(ConfigError, match="node features: 2, and the run was trained with 3"):
        predict_snapshots(linked.run, tmp_path / "a.parquet", snapshots=other, quiet=True)
    empty = SnapshotSequence.from_arrays(
        [0, 1, 1], [0, 1, 2], [1, 2, 0], num_steps=20, node_features=np.zeros((20, 4, 3)), edge_weight=np.ones(3)
    )
    weighted = open_snapshots(load_config(linked.run).data).edge_weight is not None
    if not weighted:
        empty = empty.__class__(**(vars(empty) | {"edge_weight": None}))
    save_snapshots(empty, tmp_path / "empty")
    with pytest.raises(ConfigError, match="nothing to predict at --steps next: no snapshot before them has an edge"):
        predict_snapshots(linked.run, tmp_path / "a.parquet", snapshots=tmp_path / "empty", quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir() if "parquet" in path.name) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": "2d"}, "--every: 172800, and the run was trained with 86400"),
        ({"undirected": True}, "edges both ways: yes, and the run was trained with no"),
        ({"weight": ""}, "edge weights: no, and the run was trained with yes"),
        ({"weight": "count"}, "meaning of weights: count, and the run was trained with sum"),
        ({"bipartite": True}, "--bipartite: yes, and the run was trained with no"),
    ],
)
def test_snapshots_that_were_imported_otherwise_are_refused(make_config, tmp_path, options, words):
    generator = np.random.default_rng(0)
    rows = [f"{u},{v},{day * 86400},2" for day in range(24) for u, v in generator.integers(0, 9, (12, 2))]
    (tmp_path / "e.csv").write_text("src,dst,time,weight\n" + "\n".join(rows))
    same = {"every": "1d", "weight": "weight"}
    import_snapshots(tmp_path / "e.csv", tmp_path / "data", **same)
    import_snapshots(tmp_path / "e.csv", tmp_path / "other", **same | options)
    config = make_config(data=tmp_path / "data", task="link", train__epochs=1)
    train_snapshots(config)
    with pytest.raises(ConfigError, match=words):
        predict_snapshots(config.run, tmp_path / "a.parquet", snapshots=tmp_path / "other", quiet=True)
    assert not (tmp_path / "a.parquet").exists()


def test_targets_of_another_kind_are_refused(make_config, tmp_path):
    series = np.random.default_rng(0).random((40, 6), np.float32)
    np.savez(tmp_path / "e.npz", x=series, adj=np.eye(6))
    for horizon in (1, 2):
        import_array(tmp_path / "e.npz", tmp_path / f"ahead{horizon}", horizon=horizon)
    one = open_snapshots(tmp_path / "ahead1")
    save_snapshots(replace(one, target=np.repeat(one.target, 2, axis=2)), tmp_path / "two")
    config = make_config(data=tmp_path / "ahead1", train__epochs=1, groups_per_step=2)
    train_snapshots(config)
    for other, words in (
        ("ahead2", "steps until a target is known: 2, and .* 1"),
        ("two", "values to predict: 2, and .* 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            predict_snapshots(config.run, tmp_path / "a.parquet", snapshots=tmp_path / other, quiet=True)


def test_device_and_threads_are_those_that_are_asked_for(linked, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(run_module, "set_threads", asked.append)
    with pytest.raises(ConfigError, match="nowhere"):
        predict_snapshots(linked.run, tmp_path / "a.parquet", device="nowhere", threads=3, quiet=True)
    assert asked == [3]


def test_weights_of_other_data_are_refused(linked, tmp_path):
    generated(load_config(linked.run).data.with_name("again"), seed=1)
    with pytest.raises(RunError):
        predict_snapshots(
            linked.run, tmp_path / "a.parquet", data=load_config(linked.run).data.with_name("again"), quiet=True
        )


@pytest.mark.parametrize("pairs", [False, True])
def test_scores_that_are_not_numbers_are_refused(linked, tmp_path, monkeypatch, pairs):
    logits = LinkPrediction.logits
    monkeypatch.setattr(LinkPrediction, "logits", lambda *given: logits(*given) * float("nan"))
    (tmp_path / "q.csv").write_text("src,dst\n0,1\n")
    options = {"queries": tmp_path / "q.csv"} if pairs else {}
    with pytest.raises(DivergedError):
        predict_snapshots(linked.run, tmp_path / "a.parquet", quiet=True, **options)
    assert not (tmp_path / "a.parquet").exists()


def test_classes_that_are_not_numbers_are_refused(classed, tmp_path, monkeypatch):
    logits = EdgeClassification.logits
    monkeypatch.setattr(EdgeClassification, "logits", lambda *given: logits(*given) * float("nan"))
    with pytest.raises(DivergedError):
        predict_snapshots(classed.run, tmp_path / "a.parquet", steps="test", quiet=True)


def test_columns_of_queries_that_are_not_used_are_named(linked, tmp_path, capsys):
    (tmp_path / "q.csv").write_text("who,whom\n0,1\n")
    options = {"queries": tmp_path / "q.csv", "src": "who", "overwrite": True}
    done = predict_snapshots(linked.run, tmp_path / "a.parquet", **options)
    assert "top_dst" in rows_of(done)[0]
    assert "q.csv has whom beside sources (--dst is for destinations): unused." in capsys.readouterr().err
    done = predict_snapshots(linked.run, tmp_path / "a.parquet", dst="whom", **options)
    assert (rows_of(done)[0]["src"], rows_of(done)[0]["dst"]) == (0, 1)
    assert done["metrics"] is None
    assert "unused" not in capsys.readouterr().err


def test_what_is_there_is_replaced_on_request(linked, tmp_path):
    out = tmp_path / "a.parquet"
    predict_snapshots(linked.run, out, quiet=True)
    before = out.read_bytes()
    with pytest.raises(RunError, match="is there already"):
        predict_snapshots(linked.run, out, quiet=True)
    predict_snapshots(linked.run, out, quiet=True, overwrite=True)
    assert out.read_bytes() == before
