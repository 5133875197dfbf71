"""Predictions: the numbers of the evaluation, whatever interrupts them, and nothing of the future."""

import bz2
import dataclasses
import errno
import gzip
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tgscale
from tgscale.data.following import RowOptions, Rows, read_rows
from tgscale.data.generate import generate_stream
from tgscale.data.store import open_stream, save_stream
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError, DataError, RunError
from tgscale.models.config import ModelConfig
from tgscale.stream.config import default_config, disttgl_config, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.predict import parts as parts_module
from tgscale.stream.predict import predict
from tgscale.stream.predict import ranking as ranking_module
from tgscale.stream.predict import run as run_module
from tgscale.stream.predict import state as state_module
from tgscale.stream.predict import walk as walk_module
from tgscale.stream.predict.parts import Parts
from tgscale.stream.predict.request import Request, digest
from tgscale.stream.predict.start import grown
from tgscale.stream.trainer import load_config, restore_best, train_stream
from tgscale.train.run_start import load_best

FEATURES = RowOptions(edge_features=("f*",))
SIZE = 40


def stream_of(events=700, nodes=50) -> EventStream:
    return dataclasses.replace(generate_stream(events=events, nodes=nodes, edge_features=2, seed=3), num_sources=None)


def write_events(path, stream, part: slice, **columns):
    features = {f"f{i}": stream.edge_features[part, i] for i in range(stream.edge_dim)}
    table = {"src": stream.src[part], "dst": stream.dst[part], "time": stream.time[part], **features, **columns}
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A run on a stream, and its test part as a file."""
    folder = tmp_path_factory.mktemp("predict")
    stream = stream_of()
    save_stream(stream, folder / "data")
    config = replace(
        default_config(folder / "data", folder / "run"),
        **{"model__dim": 8, "train__epochs": 1, "train__batch_size": SIZE, "sampling__neighbors": 4},
        **{"device": "cpu", "quiet": True, "eval__exclude_own": True},
    )
    result = train_stream(config)
    split = stream.split()
    write_events(folder / "new.parquet", stream, slice(split.val, split.test))
    return folder, stream, split, result


def run_of(work, out, **options):
    folder = work[0]
    options = {"after": "val", "rows": FEATURES, "quiet": True, **options}
    done = predict(folder / "run", options.pop("events", folder / "new.parquet"), out, **options)
    return done, pq.read_table(out).to_pydict()


def test_the_test_part_as_new_events_gets_the_scores_of_the_evaluation(work, tmp_path):
    folder, stream, split, result = work
    done, table = run_of(work, tmp_path / "p.parquet", evaluate=True)
    assert done["mrr"] == pytest.approx(result["test"]["mrr"], rel=1e-14)
    engine = StreamEngine(load_config(folder / "run"), open_stream(folder / "data"), torch.device("cpu"), False)
    restore_best(engine, load_best(folder / "run"))
    engine.evaluate("val")
    scores = engine.evaluate("test")
    assert (1 / np.array(table["rank"])).tolist() == scores.reciprocal_rank.tolist()  # to the last bit
    assert table["score"] == scores.positive.tolist()
    assert table["row"] == list(range(split.test - split.val))
    for name in ("src", "dst", "time"):
        assert table[name] == getattr(stream, name)[split.val :].tolist()


def test_own_destinations_alone_get_the_same_scores(work, tmp_path):
    """Not bit for bit: products of fewer rows round differently."""
    with_negatives = run_of(work, tmp_path / "a.parquet", evaluate=True)[1]
    alone = run_of(work, tmp_path / "b.parquet")[1]
    assert "rank" not in alone
    np.testing.assert_allclose(alone["score"], with_negatives["score"], rtol=1e-4, atol=1e-5)


def test_given_candidates_are_ranked_as_the_evaluation_ranks_negatives(work, tmp_path):
    folder, _, split, _ = work
    engine = StreamEngine(load_config(folder / "run"), open_stream(folder / "data"), torch.device("cpu"), False)
    event = torch.arange(split.val, split.test)
    drawn = engine.negatives_of("test").draw(event).node
    rows = np.repeat(np.arange(len(event)), drawn.shape[1])
    shuffled = np.random.default_rng(0).permutation(len(event)).repeat(drawn.shape[1])  # the file's order of rows
    order = np.argsort(shuffled, kind="stable")
    table = pa.table({"row": rows[order], "dst": drawn.flatten().numpy()[order]})
    pq.write_table(table, tmp_path / "c.parquet")
    expected = run_of(work, tmp_path / "a.parquet", evaluate=True)[1]
    ranked = run_of(work, tmp_path / "b.parquet", candidates=tmp_path / "c.parquet", top_k=0)[1]
    assert ranked["rank"] == expected["rank"]
    assert ranked["score"] == expected["score"]
    for i in (0, 17, 104):
        assert sorted(ranked["top_dst"][i]) == sorted(drawn[i].tolist())
        assert ranked["top_score"][i] == sorted(ranked["top_score"][i], reverse=True)


@pytest.mark.parametrize("pairs", [1 << 14, 30, 7])  # all at once; few rows at once; a row's candidates in pieces
def test_the_best_of_all_destinations_seen_before(work, tmp_path, monkeypatch, pairs):
    _, stream, split, _ = work
    everything = run_of(work, tmp_path / "all.parquet", top_k=0)[1]
    monkeypatch.setattr(ranking_module, "PAIRS", pairs)
    table = run_of(work, tmp_path / "p.parquet", top_k=3)[1]
    for i in range(split.test - split.val):
        seen = set(stream.dst[: split.val + i // SIZE * SIZE].tolist())
        assert set(everything["top_dst"][i]) == seen
        np.testing.assert_allclose(table["top_score"][i], everything["top_score"][i][:3], rtol=1e-4, atol=1e-5)
        pairs = zip(everything["top_dst"][i], everything["top_score"][i], strict=True)
        others = [score for node, score in pairs if node != everything["dst"][i]]
        own = everything["score"][i]
        better = sum(score > own for score in others)
        assert everything["rank"][i] == 1 + better + sum(s == own for s in others) / 2


def test_lists_of_different_length(work, tmp_path):
    _, stream, split, _ = work
    events = write_events(tmp_path / "two.parquet", stream, slice(split.val, split.val + 3))
    pq.write_table(pa.table({"row": [2, 0, 2, 2, 1], "item": [49, 45, 46, 10**9, 44]}), tmp_path / "c.parquet")
    done, table = run_of(work, tmp_path / "p.parquet", events=events, candidates=tmp_path / "c.parquet")
    assert [sorted(nodes) for nodes in table["top_dst"]] == [[45], [44], [46, 49]]
    assert done["unknown_candidates"] == 1
    pq.write_table(pa.table({"row": [2, 0], "item": [49, 45]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="1 rows have no candidate that is a node, such as row 1"):
        run_of(work, tmp_path / "q.parquet", events=events, candidates=tmp_path / "c.parquet")


def test_queries_see_what_happened_before_them(work, tmp_path):
    """A query at an event's time and source gets the score that the event's own destination gets."""
    _, stream, split, _ = work
    part = slice(split.val, split.test)
    order = np.random.default_rng(1).permutation(split.test - split.val)
    distinct = np.append(True, np.diff(stream.time[part]) > 0) & np.append(np.diff(stream.time[part]) > 0, True)
    queries = {"who": stream.src[part][order], "when": stream.time[part][order]}
    pq.write_table(pa.table(queries), tmp_path / "q.parquet")
    everything = run_of(work, tmp_path / "e.parquet", top_k=0)[1]
    rows = dataclasses.replace(FEATURES)
    with pytest.raises(DataError, match="no column that looks like src"):
        run_of(work, tmp_path / "p.parquet", queries=tmp_path / "q.parquet")
    pq.write_table(pa.table({"src": queries["who"], "time": queries["when"]}), tmp_path / "q.parquet")
    answered = run_of(work, tmp_path / "p.parquet", queries=tmp_path / "q.parquet", rows=rows, top_k=0, overwrite=True)[
        1
    ]
    assert sorted(answered["row"]) == list(range(len(order)))
    checked = 0
    for i, row in enumerate(answered["row"]):
        event = order[row]
        assert answered["src"][i] == everything["src"][event]
        if distinct[event]:
            checked += 1
            ours = dict(zip(answered["top_dst"][i], answered["top_score"][i], strict=True))
            theirs = dict(zip(everything["top_dst"][event], everything["top_score"][event], strict=True))
            assert ours.keys() == theirs.keys()
            np.testing.assert_allclose(
                [ours[node] for node in sorted(ours)], [theirs[node] for node in sorted(ours)], rtol=1e-4, atol=1e-5
            )
    assert checked > 50


def test_queries_after_everything_need_no_events(work, tmp_path):
    folder, stream, _, _ = work
    later = int(stream.time[-1]) + 50
    pq.write_table(pa.table({"src": [3, 10**6], "time": [later, later]}), tmp_path / "q.parquet")
    options = {"queries": tmp_path / "q.parquet", "quiet": True, "top_k": 0}
    done = predict(folder / "run", None, tmp_path / "a.parquet", **options)
    assert done["fresh_nodes"] == 1
    assert done["events"] == 0
    alone = pq.read_table(tmp_path / "a.parquet").to_pydict()
    assert alone["src"] == [3, 10**6]
    # The same as after the test part as new events.
    done, after = run_of(work, tmp_path / "b.parquet", queries=tmp_path / "q.parquet", top_k=0)
    assert after["top_dst"] == alone["top_dst"]
    np.testing.assert_allclose(after["top_score"], alone["top_score"], rtol=1e-5, atol=1e-6)


def test_nothing_of_later_batches_moves_a_prediction(work, tmp_path):
    _, stream, split, _ = work
    part = slice(split.val, split.test)
    keep = 2 * SIZE
    rng = np.random.default_rng(5)
    dst, features = stream.dst[part].copy(), stream.edge_features[part].copy()
    dst[keep:] = rng.permutation(dst[keep:])
    features[keep:] = rng.normal(size=features[keep:].shape)
    table = {"src": stream.src[part], "dst": dst, "time": stream.time[part], "f0": features[:, 0], "f1": features[:, 1]}
    pq.write_table(pa.table(table), tmp_path / "altered.parquet")
    before = run_of(work, tmp_path / "a.parquet", top_k=5)[1]
    after = run_of(work, tmp_path / "b.parquet", top_k=5, events=tmp_path / "altered.parquet")[1]
    assert before["score"][:keep] == after["score"][:keep]
    assert before["top_dst"][:keep] == after["top_dst"][:keep]
    assert before["score"][keep:] != after["score"][keep:]


class _Stop(Exception):
    pass


@pytest.mark.parametrize("stop_at", ["rows", "stream", "walk", "part 0", "part 2", "save 2", "join"])
@pytest.mark.parametrize("kind", ["evaluate", "top_k"])
def test_interrupted_anywhere_gives_the_same_file(work, tmp_path, monkeypatch, stop_at, kind):
    options = {"evaluate": {"evaluate": True}, "top_k": {"top_k": 4}}[kind] | {"save_every": 30}
    run_of(work, tmp_path / "whole.parquet", **options)
    with monkeypatch.context() as patch:
        _fail_at(patch, stop_at)
        with pytest.raises(_Stop):
            run_of(work, tmp_path / "p.parquet", **options)
    assert not (tmp_path / "p.parquet").exists()
    assert (tmp_path / "p.parquet.state").is_dir()
    run_of(work, tmp_path / "p.parquet", **options)
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "p.parquet.state").exists()


def _fail_at(patch, stop_at):
    what, _, number = stop_at.partition(" ")
    owner, name = {
        "rows": (run_module, "read_rows"),
        "stream": (run_module, "joined_stream"),
        "walk": (run_module, "walk_to_end"),
        "part": (Parts, "write"),
        "save": (run_module._Predictions, "_save"),
        "join": (Parts, "join"),
    }[what]
    real, calls = getattr(owner, name), []

    def failing(*arguments, **options):
        if len(calls) == int(number or 0):
            raise _Stop
        calls.append(1)
        return real(*arguments, **options)

    patch.setattr(owner, name, failing)


def test_a_state_of_other_predictions_is_refused(work, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _fail_at(patch, "part 1")
        with pytest.raises(_Stop):
            run_of(work, tmp_path / "p.parquet", top_k=3, save_every=30)
    with pytest.raises(RunError, match="holds the state of other predictions"):
        run_of(work, tmp_path / "p.parquet", top_k=4, save_every=30)
    run_of(work, tmp_path / "p.parquet", top_k=4, save_every=30, overwrite=True)
    expected = run_of(work, tmp_path / "q.parquet", top_k=4, save_every=30)[1]
    assert pq.read_table(tmp_path / "p.parquet").to_pydict() == expected
    with pytest.raises(RunError, match="is there already"):
        run_of(work, tmp_path / "p.parquet", top_k=4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="holds something else"):
        run_of(work, tmp_path / "r.parquet", state=tmp_path / "mine")


def test_queries_are_saved_on_the_way_and_resumed(work, tmp_path, monkeypatch):
    """Queries after all events are many steps, too."""
    _, stream, _, _ = work
    monkeypatch.setattr(walk_module, "QUERIES", 16)
    queries = pa.table({"src": stream.src[:100], "time": np.full(100, stream.time[-1])})
    pq.write_table(queries, tmp_path / "q.parquet")
    options = {"events": None, "queries": tmp_path / "q.parquet", "after": "test", "top_k": 4, "save_every": 30}
    whole = run_of(work, tmp_path / "whole.parquet", **options)[1]
    assert whole["row"] == list(range(100))
    with monkeypatch.context() as patch:
        _fail_at(patch, "part 2")
        with pytest.raises(_Stop):
            run_of(work, tmp_path / "p.parquet", **options)
    saved = sorted((tmp_path / "p.parquet.state" / "parts").iterdir())
    assert [len(pq.read_table(part)) for part in saved] == [32, 32]
    run_of(work, tmp_path / "p.parquet", **options)
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    monkeypatch.setattr(walk_module, "QUERIES", 1 << 10)
    at_once = run_of(work, tmp_path / "o.parquet", **options)[1]
    np.testing.assert_allclose(at_once["top_score"], whole["top_score"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [1, 3, 4, 5, 100])
def test_steps_of_queries_are_cut_where_no_event_lies(monkeypatch, most):
    spans, time = [(5, 7), (7, 9)], np.array([0, 0, 0, 0, 0, 1, 2, 3, 4])
    row = np.array([1, 1, 1, 1, 3, 9, 9, 9, 9, 9])
    queries = Rows(row, None, row, row, None, 10)
    monkeypatch.setattr(walk_module, "QUERIES", 100)
    expected = walk_module.steps_of_queries(spans, time, queries)
    monkeypatch.setattr(walk_module, "QUERIES", most)
    steps = walk_module.steps_of_queries(spans, time, queries)
    assert all(step.high - step.low <= most for step in steps)
    assert [i for step in steps for i in range(step.low, step.high)] == list(range(10))
    assert [(s.start, s.stop) for s in steps if s.stop > s.start] == spans
    start_of = {row: step.start for step in expected for row in range(step.low, step.high)}
    assert all(step.start == start_of[row] for step in steps for row in range(step.low, step.high))


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_rows_keep_their_place_behind_lines_left_out(work, tmp_path, suffix):
    """Of several files, with a bad value (a row of the table) and bad lines (no rows) between the good ones."""
    _, stream, split, _ = work
    bad = {"a": {0: "1,2", 3: "1,2,x,0,0", 4: "1,2,3,4,5,6,7", 5: "1"}, "b": {}, "c": {2: "1,2"}}
    expected, place, event = [], 0, split.val
    for name, lines in bad.items():
        rows = ["src,dst,time,f0,f1"]
        for i in range(7):
            if i in lines:
                rows.append(lines[i])
            else:
                rows.append(f"{stream.src[event]},{stream.dst[event]},{stream.time[event]},0,0")
                expected.append(place)
                event += 1
            place += 1
        rows.insert(3, "")  # an empty line is no row
        content = "\n".join(rows).encode()
        pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[suffix]
        (tmp_path / f"{name}.csv{suffix}").write_bytes(pack(content))
    rows = dataclasses.replace(FEATURES, on_error="drop")
    files = [tmp_path / f"{name}.csv{suffix}" for name in bad]
    done, table = run_of(work, tmp_path / "p.parquet", events=files, rows=rows)
    assert table["row"] == expected
    assert done["dropped"] == {"line": 4, "time": 1}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["0,5", "1,6,7", "2,8"], r"--candidates .*c\.csv, row 2 has not the right number of values"),
        (["0,5", "1,6,7,8", "2"], r"c\.csv, row 2 .* 2 lines have such a fault"),
        (["0,5", "1,6", "x,8"], r"c\.csv, row 3: the value of column 'row' is no whole number"),
    ],
)
def test_bad_lines_of_candidates_are_named(work, tmp_path, lines, words):
    _, stream, split, _ = work
    events = write_events(tmp_path / "three.parquet", stream, slice(split.val, split.val + 3))
    (tmp_path / "c.csv").write_text("\n".join(["row,dst", *lines]) + "\n")
    with pytest.raises(DataError, match=words):
        run_of(work, tmp_path / "p.parquet", events=events, candidates=tmp_path / "c.csv")


def test_candidates_that_were_refused_can_be_corrected(work, tmp_path):
    rows = dataclasses.replace(FEATURES, unknown="stop")
    (tmp_path / "c.csv").write_text("dst\n45\n999999\n")
    with pytest.raises(DataError, match="1 ids are not nodes of the data"):
        run_of(work, tmp_path / "p.parquet", candidates=tmp_path / "c.csv", rows=rows)
    assert not (tmp_path / "p.parquet.state").exists()
    (tmp_path / "c.csv").write_text("dst\n45\n44\n")
    run_of(work, tmp_path / "p.parquet", candidates=tmp_path / "c.csv", rows=rows)


@pytest.mark.parametrize("what", ["write_table", "ParquetWriter"])
def test_a_full_disk_is_said_and_the_same_goes_on(work, tmp_path, monkeypatch, what):
    expected = run_of(work, tmp_path / "whole.parquet")[1]

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(parts_module.pq, what, full)
        with pytest.raises(RunError, match=r"cannot be written \(No space left on device\): make room"):
            run_of(work, tmp_path / "p.parquet")
    assert run_of(work, tmp_path / "p.parquet")[1] == expected


def test_times_are_in_the_unit_of_the_import(work, tmp_path):
    stream = stream_of()
    table = {"src": stream.src, "dst": stream.dst, "time": stream.time}
    names = ",".join(table)
    np.savetxt(tmp_path / "old.csv", np.stack(list(table.values()), 1), "%d", ",", header=names, comments="")
    tgscale.import_events(tmp_path / "old.csv", tmp_path / "data", time_unit="ms")
    later = int(stream.time[-1]) + 5
    (tmp_path / "new.csv").write_text(f"{names}\n1,2,{later}\n")
    for unit, milliseconds in ((None, 1000 * later), ("ms", later)):
        options = RowOptions(source_time_unit=unit)
        found = read_rows(tmp_path / "new.csv", tmp_path / "data", tmp_path / f"rows-{unit}", options, not_before=0)
        assert found.time.tolist() == [milliseconds]


def test_new_nodes_are_like_nodes_that_nothing_has_happened_to(work, tmp_path):
    """A run on the same events with two more nodes, of which none has an event, predicts the same, bit for bit."""
    folder, stream, split, _ = work
    part, N = slice(split.val, split.test), stream.num_nodes
    config = load_config(folder / "run")
    save_stream(dataclasses.replace(stream, num_nodes=N + 2, stored_tcsr=None, stored_pairs=None), tmp_path / "data")
    train_stream(dataclasses.replace(config, data=tmp_path / "data", run=tmp_path / "run"))
    rng = np.random.default_rng(2)
    src, dst = stream.src[part].copy(), stream.dst[part].copy()
    src[rng.random(len(src)) < 0.2] = N
    dst[rng.random(len(dst)) < 0.2] = N + 1
    table = {"src": src, "dst": dst, "time": stream.time[part]}
    features = {f"f{i}": stream.edge_features[part, i] for i in range(2)}
    pq.write_table(pa.table(table | features), tmp_path / "new.parquet")
    options = {"after": "val", "rows": FEATURES, "quiet": True, "top_k": 5}
    known = predict(tmp_path / "run", tmp_path / "new.parquet", tmp_path / "a.parquet", **options)
    fresh = predict(folder / "run", tmp_path / "new.parquet", tmp_path / "b.parquet", **options)
    assert (known["fresh_nodes"], fresh["fresh_nodes"]) == (0, 2)
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))
    dropped = predict(
        folder / "run",
        tmp_path / "new.parquet",
        tmp_path / "c.parquet",
        **{**options, "rows": dataclasses.replace(FEATURES, unknown="drop")},
    )
    assert dropped["dropped"] == {"src": int(((src == N) | (dst == N + 1)).sum())}
    with pytest.raises(DataError, match="2 ids are not nodes of the data"):
        predict(
            folder / "run",
            tmp_path / "new.parquet",
            tmp_path / "d.parquet",
            **{**options, "rows": dataclasses.replace(FEATURES, unknown="stop")},
        )


def test_grown_states():
    saved = {"table": torch.ones(2, 3), "weight": torch.ones(3, 3), "mail_event": torch.tensor([7, 8])}
    now = {"table": torch.full((4, 3), 5.0), "weight": torch.zeros(3, 3), "mail_event": torch.full((4,), -1)}
    as_now = grown(saved, now, zero=False)
    assert as_now["mail_event"].tolist() == [7, 8, -1, -1]
    zeros = grown(saved, now, zero=True)
    assert zeros["table"].sum(1).tolist() == [3, 3, 0, 0]
    assert torch.equal(zeros["weight"], torch.ones(3, 3))


@pytest.mark.parametrize("mode", ["pretrained", "cotrained", "features"])
def test_static_memory_of_new_nodes_is_zero(tmp_path, mode):
    stream = stream_of(300, 30)
    features = np.random.default_rng(0).normal(size=(stream.num_nodes, 4)).astype(np.float32)
    stream = dataclasses.replace(stream, node_features=features)
    save_stream(stream, tmp_path / "data")
    config = replace(
        disttgl_config(tmp_path / "data", tmp_path / "run"),
        **{"model__dim": 8, "train__epochs": 1, "train__batch_size": SIZE, "static__mode": mode, "static__epochs": 1},
        **{"static__cache": tmp_path / "cache", "device": "cpu", "quiet": True},
    )
    train_stream(config)
    last = int(stream.time[-1])
    table = {"src": [0, 99], "dst": [25, 98], "time": [last, last + 1], "f0": [0.0, 0.0], "f1": [0.0, 0.0]}
    pq.write_table(pa.table(table), tmp_path / "new.parquet")
    done = predict(tmp_path / "run", tmp_path / "new.parquet", tmp_path / "p.parquet", rows=FEATURES, quiet=True)
    assert done["fresh_nodes"] == 2
    assert np.isfinite(pq.read_table(tmp_path / "p.parquet").to_pydict()["score"]).all()


def test_ids_of_the_source_and_its_column_names(tmp_path):
    """Text ids on two sides, columns with names of their own, through CSV and SQL; answers in the source's ids."""
    stream = stream_of()
    lines = [
        f"u{u},i{v},{t},{f[0]:.6f},{f[1]:.6f}"
        for u, v, t, f in zip(stream.src, stream.dst, stream.time, stream.edge_features, strict=True)
    ]
    header = "user,item,when,a,b"
    (tmp_path / "old.csv").write_text("\n".join([header, *lines[:600]]))
    (tmp_path / "new.csv").write_text("\n".join([header, *lines[600:], f"u0,i999,{stream.time[-1]},0,0"]))
    names = {"src": "user", "dst": "item", "time": "when", "edge_features": "a,b", "bipartite": True}
    tgscale.import_events(tmp_path / "old.csv", tmp_path / "data", **names)
    config = replace(default_config(tmp_path / "data", tmp_path / "run"), model__dim=8, train__epochs=1, device="cpu")
    train_stream(replace(config, quiet=True))
    done = tgscale.predict(tmp_path / "run", tmp_path / "new.csv", tmp_path / "p.parquet", top_k=4, quiet=True)
    table = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert table["src"][:100] == [f"u{u}" for u in stream.src[600:]]
    assert table["dst"] == [*(f"i{v}" for v in stream.dst[600:]), "i999"]
    assert all(name.startswith("i") for top in table["top_dst"] for name in top)
    assert done["fresh_nodes"] >= 1
    query = "SELECT * FROM source WHERE item <> 'i999'"
    rows = RowOptions(query=query)
    tgscale.predict(tmp_path / "run", tmp_path / "new.csv", tmp_path / "q.parquet", rows=rows, quiet=True)
    assert len(pq.read_table(tmp_path / "q.parquet")) == 100
    (tmp_path / "c.csv").write_text("item\ni7\ni8\n")
    with pytest.raises(DataError, match="none of its ids"):
        tgscale.predict(tmp_path / "run", tmp_path / "new.csv", tmp_path / "r.parquet", candidates=tmp_path / "c.csv")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"events": None}, ConfigError, "nothing to predict"),
        ({"evaluate": True, "top_k": 3}, ConfigError, "--evaluate"),
        ({"after": "train"}, ConfigError, "--after train is neither a part"),
        ({"events": "nothing.parquet"}, DataError, "nothing.parquet not found"),
        ({"out": "p.csv"}, ConfigError, "ends in .parquet"),
        ({"after": "test"}, DataError, "earlier .* than the last event that the memory has seen"),
        ({"rows": RowOptions()}, DataError, "has 0 edge features, and the events of the run have 2"),
        ({"candidates": "c.parquet"}, DataError, "c.parquet not found"),
        ({"rows": RowOptions(classes=("kind",))}, ConfigError, "--classes: .* was trained for links"),
    ],
)
def test_mistakes_are_answered(work, tmp_path, monkeypatch, options, error, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        run_of(work, options.pop("out", tmp_path / "p.parquet"), **options)


def test_the_summary_is_in_the_file(work, tmp_path):
    run_of(work, tmp_path / "p.parquet")
    metadata = pq.read_schema(tmp_path / "p.parquet").metadata
    assert metadata[b"batch_size"] == str(SIZE).encode()


@pytest.mark.parametrize("name", ["jodie", "apan", "tgat"])
def test_other_models_get_the_scores_of_the_evaluation_too(tmp_path, name):
    stream = stream_of(400, 40)
    save_stream(stream, tmp_path / "data")
    config = replace(
        default_config(tmp_path / "data", tmp_path / "run"),
        **{"model": ModelConfig(name=name, dim=8), "train__epochs": 1, "train__batch_size": SIZE},
        **{"sampling__neighbors": 4, "device": "cpu", "quiet": True},
    )
    result = train_stream(config)
    write_events(tmp_path / "new.parquet", stream, slice(stream.split().val, None))
    options = {"after": "val", "rows": FEATURES, "quiet": True}
    done = predict(tmp_path / "run", tmp_path / "new.parquet", tmp_path / "p.parquet", evaluate=True, **options)
    assert done["mrr"] == pytest.approx(result["test"]["mrr"], rel=1e-14)
    done = predict(tmp_path / "run", tmp_path / "new.parquet", tmp_path / "q.parquet", top_k=3, **options)
    assert done["rows"] == 60


def test_day_after_day_gives_the_numbers_of_all_at_once(work, tmp_path):
    """Days of whole batches: the same scores, ranks and new nodes, to the last bit."""
    _, stream, split, _ = work
    N, borders = stream.num_nodes, [split.val, split.val + SIZE, split.val + 2 * SIZE, split.test]
    src, dst = stream.src.copy(), stream.dst.copy()
    src[borders[1]], src[borders[2]], dst[borders[2] + 1] = N, N + 3, N  # nodes that come with the second and third day
    renamed = dataclasses.replace(stream, src=src, dst=dst)
    options = {"top_k": 3, "state": None}
    whole = write_events(tmp_path / "whole.parquet", renamed, slice(split.val, split.test))
    done, expected = run_of(work, tmp_path / "w.parquet", events=whole, **options)
    found, fresh, after = {name: [] for name in expected}, 0, "val"
    for day in range(3):
        events = write_events(tmp_path / f"{day}.parquet", renamed, slice(*borders[day : day + 2]))
        out = tmp_path / f"d{day}.parquet"
        told, table = run_of(work, out, events=events, after=after, keep_state=True, **options)
        fresh += told["fresh_nodes"]
        for name in found:
            found[name] += [row + borders[day] - split.val for row in table[name]] if name == "row" else table[name]
        after = f"{out}.state"
    assert found == expected
    assert fresh == done["fresh_nodes"] == 2
    (tmp_path / "q.csv").write_text(f"src,time\n{N},{stream.time[-1] + 9}\n")
    asked = {"events": None, "queries": tmp_path / "q.csv", "top_k": 4}
    later = run_of(work, tmp_path / "q1.parquet", after=after, **asked)[1]
    at_once = run_of(work, tmp_path / "q2.parquet", **{**asked, "events": whole})[1]
    assert later == at_once


def test_ids_of_a_bipartite_import_last_from_day_to_day(tmp_path):
    """Both sides count from 0 there; the number that a node got is not its id, nor is that of one that came later."""
    rng = np.random.default_rng(0)
    user, item, time = rng.integers(0, 9, 300), rng.integers(0, 7, 300), np.arange(300)

    def write(name, part, **changes):
        table = {"user_id": user[part], "item_id": item[part], "timestamp": time[part], "state_label": 0 * user[part]}
        pq.write_table(pa.table({**table, **changes}), tmp_path / name)
        return tmp_path / name

    write("old.parquet", slice(0, 200))
    tgscale.import_events(tmp_path / "old.parquet", tmp_path / "data", bipartite=True)
    config = replace(
        default_config(tmp_path / "data", tmp_path / "run"),
        **{"model__dim": 8, "train__epochs": 1, "train__batch_size": SIZE, "device": "cpu", "quiet": True},
    )
    train_stream(config)
    user[290], item[291] = 30, 20
    one, two = write("1.parquet", slice(200, 280)), write("2.parquet", slice(280, 300))
    options = {"top_k": 2, "quiet": True}
    predict(tmp_path / "run", one, tmp_path / "a.parquet", keep_state=True, **options)
    predict(tmp_path / "run", two, tmp_path / "b.parquet", after=tmp_path / "a.parquet.state", **options)
    predict(tmp_path / "run", [one, two], tmp_path / "c.parquet", **options)
    days = [pq.read_table(tmp_path / f"{name}.parquet") for name in "ab"]
    assert (
        pa.concat_tables(days).drop("row").to_pydict() == pq.read_table(tmp_path / "c.parquet").drop("row").to_pydict()
    )


def test_what_cannot_be_followed_is_refused(work, tmp_path, monkeypatch):
    folder, stream, _, _ = work
    out, state = tmp_path / "p.parquet", tmp_path / "p.parquet.state"
    with pytest.raises(ConfigError, match=r"--after vla is neither a part of the run \(val, test\) nor the state"):
        run_of(work, out, after="vla")
    with monkeypatch.context() as patch:
        _fail_at(patch, "part 1")
        with pytest.raises(_Stop):
            run_of(work, out, save_every=30)
    with pytest.raises(RunError, match="are not done: ask for them again, with --keep-state"):
        run_of(work, tmp_path / "q.parquet", after=state)
    run_of(work, out, save_every=30, keep_state=True)
    with pytest.raises(ConfigError, match=r"at OUT.state. Did you mean .*p.parquet.state\?"):
        run_of(work, tmp_path / "q.parquet", after=out)
    with pytest.raises(ConfigError, match=r"--after and --state are both"):
        run_of(work, out, after=state, overwrite=True)
    with pytest.raises(DataError, match="rows are earlier"):
        run_of(work, tmp_path / "q.parquet", after=state)
    train_stream(replace(load_config(folder / "run"), run=tmp_path / "other", seed=5))
    with pytest.raises(RunError, match="made with other weights"):
        predict(tmp_path / "other", folder / "new.parquet", tmp_path / "q.parquet", after=state, rows=FEATURES)
    (tmp_path / "q.csv").write_text(f"src,time\n1,{stream.time[-1]}\n")
    asked = {"events": None, "queries": tmp_path / "q.csv", "keep_state": True, "after": "test"}
    run_of(work, tmp_path / "q.parquet", **asked)
    with pytest.raises(RunError, match="brought no events: name what they followed"):
        run_of(work, tmp_path / "r.parquet", **{**asked, "after": tmp_path / "q.parquet.state"})


@pytest.mark.parametrize("asked", ["events", "queries"])
def test_all_scores_of_a_part_are_no_more_than_it_may_hold(work, tmp_path, monkeypatch, asked):
    _, stream, _, _ = work
    queries = pa.table({"src": stream.src[-90:], "time": np.full(90, stream.time[-1])})
    pq.write_table(queries, tmp_path / "q.parquet")
    options = {"top_k": 0, **({} if asked == "events" else {"queries": tmp_path / "q.parquet"})}
    expected = run_of(work, tmp_path / "e.parquet", **options)[1]
    monkeypatch.setattr(run_module, "CELLS", 60)
    found = run_of(work, tmp_path / "p.parquet", **options)[1]
    parts = pq.ParquetFile(tmp_path / "p.parquet")
    lists = [parts.read_row_group(i)["top_dst"].to_pylist() for i in range(parts.num_row_groups)]
    assert len(lists) > 10
    assert all(sum(map(len, part)) <= 2 * 60 for part in lists)  # a part ends with the step that fills it
    for name in ("row", "dst", "rank"):
        assert found.get(name) == expected.get(name)
    assert [sorted(each) for each in found["top_dst"]] == [sorted(each) for each in expected["top_dst"]]
    for ours, theirs in zip(found["top_score"], expected["top_score"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_output_that_would_be_lost_or_replace_a_source_is_refused(work, tmp_path):
    new = shutil.copy(work[0] / "new.parquet", tmp_path / "mine.parquet")
    with pytest.raises(ConfigError, match="lies in the state"):
        run_of(work, tmp_path / "s" / "p.parquet", state=tmp_path / "s")
    with pytest.raises(ConfigError, match="is the file with the events: give another name"):
        run_of(work, new, events=new, overwrite=True)
    assert pq.read_table(new).equals(pq.read_table(work[0] / "new.parquet"))


def test_requests_whose_predictions_differ_are_told_apart(work, tmp_path):
    run, (a, b) = work[0], (tmp_path / "a.parquet", tmp_path / "b.parquet")
    for path in (a, b):
        shutil.copy(work[0] / "new.parquet", path)

    def asked(followed=None, **options):
        request = Request(run, tmp_path / "p.parquet", **options)
        return digest(request.describe({}, followed))

    one, two = (str(a),), (str(b),)
    both = {
        asked(events=one + two),
        asked(events=one, candidates=b),
        asked(events=one, queries=two),
        asked(queries=one + two),
        asked(queries=one, candidates=b),
        asked(events=one + two, after="val"),
        asked(events=one + two, after="x.state", followed="1"),
        asked(events=one + two, after="x.state", followed="2"),
    }
    assert len(both) == 8
    same = {"rows": RowOptions(memory_limit="9GB"), "after": str(tmp_path / "x.state")}  # the same state, more memory
    assert asked(events=one + two, followed="1", **same) in both


def test_a_state_whose_removal_was_interrupted_is_the_state_of_nothing(work, tmp_path, monkeypatch):
    out, state = tmp_path / "p.parquet", tmp_path / "p.parquet.state"

    real = shutil.rmtree

    def interrupted(folder, **options):
        if out.exists():
            raise KeyboardInterrupt
        real(folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_of(work, out)
    table = pq.read_table(out)
    assert not state_module.goes_on(state)
    with pytest.raises(ConfigError, match="neither a part of the run"):
        run_of(work, tmp_path / "q.parquet", after=state)
    with pytest.raises(RunError, match="holds the state of other predictions"):
        run_of(work, tmp_path / "q.parquet", state=state)
    run_of(work, out, overwrite=True)
    assert pq.read_table(out).equals(table)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    run_of(work, out, overwrite=True, state=tmp_path / "link")
    assert pq.read_table(out).equals(table)
    assert not (tmp_path / "elsewhere").exists()


def test_a_node_that_comes_with_the_first_rows_is_the_same_later_in_a_bipartite_stream(tmp_path):
    """Made here, its ids are node numbers on both sides: a new source is no destination."""
    stream = generate_stream(events=600, nodes=50, edge_features=2, seed=3)
    save_stream(stream, tmp_path / "data")
    config = replace(
        default_config(tmp_path / "data", tmp_path / "run"),
        **{"model__dim": 8, "train__epochs": 1, "train__batch_size": SIZE, "device": "cpu", "quiet": True},
    )
    train_stream(config)
    last, none = int(stream.time[-1]), {"f0": [0.0, 0.0], "f1": [0.0, 0.0]}
    options = {"rows": FEATURES, "quiet": True}
    for day in (1, 2):
        rows = {"src": [999, 1], "dst": [int(stream.dst[0])] * 2, "time": [last + day, last + day]}
        pq.write_table(pa.table(rows | none), tmp_path / f"{day}.parquet")
    (tmp_path / "q.csv").write_text(f"src,time\n999,{last + 9}\n")
    asked = {"queries": tmp_path / "q.csv", **options}
    done = predict(tmp_path / "run", tmp_path / "1.parquet", tmp_path / "a.parquet", keep_state=True, **asked)
    assert done["fresh_nodes"] == 1
    done = predict(
        tmp_path / "run", tmp_path / "2.parquet", tmp_path / "b.parquet", after=tmp_path / "a.parquet.state", **options
    )
    assert done["fresh_nodes"] == 0


def test_data_that_have_moved(work, tmp_path):
    expected = run_of(work, tmp_path / "a.parquet")[1]
    shutil.copytree(work[0] / "data", tmp_path / "data")
    shutil.copytree(work[0] / "run", tmp_path / "run")
    config = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(config.replace(str(work[0] / "data"), str(tmp_path / "gone")))
    options = {"after": "val", "rows": FEATURES, "quiet": True}
    with pytest.raises(RunError, match=r"the data of .* lay at .*gone: give --data NEW"):
        predict(tmp_path / "run", work[0] / "new.parquet", tmp_path / "b.parquet", **options)
    predict(tmp_path / "run", work[0] / "new.parquet", tmp_path / "b.parquet", data=tmp_path / "data", **options)
    assert pq.read_table(tmp_path / "b.parquet").to_pydict() == expected
