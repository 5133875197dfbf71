"""The data directory: round trip, what it refuses, what a crash leaves."""

from dataclasses import fields

import numpy as np
import pytest

from tgscale.data import store
from tgscale.data.index import build_pair_index, build_tcsr
from tgscale.data.store import lookup_nodes, open_stream, save_stream, source_ids, writing
from tgscale.data.stream import EventStream, Split
from tgscale.errors import StoreError


def make_stream(**changes):
    rng = np.random.default_rng(0)
    given = {
        "src": rng.integers(0, 20, 200),
        "dst": rng.integers(0, 20, 200),
        "time": rng.integers(0, 50, 200),
        "num_nodes": 25,
        "edge_features": rng.normal(size=(200, 3)),
        "node_features": rng.normal(size=(25, 2)),
        "label": rng.integers(0, 2, 200),
        "name": "toy",
    }
    return EventStream.from_arrays(**(given | changes))


def assert_same(found, expected):
    for field in fields(EventStream):
        if field.name in ("path", "stored_tcsr", "stored_pairs"):
            continue
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def test_round_trip_of_everything(tmp_path):
    stream = make_stream()
    save_stream(stream, tmp_path / "toy")
    found = open_stream(tmp_path / "toy", verify=True)
    assert_same(found, stream)
    assert found.path == tmp_path / "toy"


def test_round_trip_of_the_least(tmp_path):
    stream = make_stream(edge_features=None, node_features=None, label=None)
    save_stream(stream, tmp_path / "toy")
    assert_same(open_stream(tmp_path / "toy"), stream)


def test_bipartite_sources_split_and_unit_are_kept(tmp_path):
    stream = EventStream(
        src=np.array([0, 1], np.int32),
        dst=np.array([2, 2], np.int32),
        time=np.array([5, 6]),
        num_nodes=3,
        num_sources=2,
        source_split=Split(1, 1, 2),
        time_unit="ms",
    )
    save_stream(stream, tmp_path / "toy")
    assert_same(open_stream(tmp_path / "toy"), stream)


def test_indices_in_the_store_are_those_of_the_builders(tmp_path):
    stream = make_stream()
    save_stream(stream, tmp_path / "toy")
    found = open_stream(tmp_path / "toy")
    for stored, built in (
        (found.stored_tcsr, build_tcsr(stream.src, stream.dst, 25)),
        (found.stored_pairs, build_pair_index(stream.src, stream.dst, 25)),
    ):
        for field in fields(built):
            np.testing.assert_array_equal(getattr(stored, field.name), getattr(built, field.name))
            assert getattr(stored, field.name).dtype == getattr(built, field.name).dtype


def test_columns_are_read_only_maps(tmp_path):
    save_stream(make_stream(), tmp_path / "toy")
    found = open_stream(tmp_path / "toy")
    assert isinstance(found.edge_features, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.src[0] = 1


def test_target_that_exists_is_refused_and_replaced_on_request(tmp_path):
    target = tmp_path / "toy"
    save_stream(make_stream(name="old"), target)
    with pytest.raises(StoreError, match=r"already exists.*--overwrite"):
        save_stream(make_stream(name="new"), target)
    assert open_stream(target).name == "old"
    save_stream(make_stream(name="new"), target, overwrite=True)
    assert open_stream(target).name == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_overwrite_does_not_replace_what_is_not_a_data_directory(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="not a tgscale data directory"):
        save_stream(make_stream(), tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious" / "thesis.tex").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="not a tgscale data directory"):
        save_stream(make_stream(), tmp_path / "file", overwrite=True)


@pytest.mark.parametrize("meta", ['{"title": "mine"}', '{"files": {"x.npy": 1}}', "no json", "[1]"])
def test_overwrite_does_not_replace_a_folder_of_another_program_with_a_meta_json(tmp_path, meta):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "meta.json").write_text(meta)
    np.save(tmp_path / "other" / "x.npy", np.arange(3))
    with pytest.raises(StoreError, match="not a tgscale data directory, or holds other files too"):
        save_stream(make_stream(), tmp_path / "other", overwrite=True)
    assert (tmp_path / "other" / "x.npy").exists()


def test_overwrite_keeps_what_somebody_put_into_a_data_directory(tmp_path):
    save_stream(make_stream(name="old"), tmp_path / "toy")
    (tmp_path / "toy" / "notes.txt").write_text("x")
    with pytest.raises(StoreError, match="holds other files too"):
        save_stream(make_stream(name="new"), tmp_path / "toy", overwrite=True)
    assert (tmp_path / "toy" / "notes.txt").exists()


def test_a_crash_between_the_two_renames_loses_nothing(tmp_path):
    save_stream(make_stream(name="old"), tmp_path / "toy")
    (tmp_path / "toy").rename(tmp_path / ".toy.old")
    assert open_stream(tmp_path / "toy").name == "old"
    assert not (tmp_path / ".toy.old").exists()


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise KeyError("boom")

    monkeypatch.setattr(store, "build_tcsr", fail)
    with pytest.raises(KeyError, match="boom"):
        save_stream(make_stream(), tmp_path / "toy")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed(tmp_path):
    stale = tmp_path / ".toy.tmp-999999"
    stale.mkdir()
    (stale / "src.npy").write_bytes(b"half")
    save_stream(make_stream(), tmp_path / "toy")
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_a_second_writer_is_refused_and_does_not_disturb_the_first(tmp_path):
    stream = make_stream()
    with writing(tmp_path / "toy") as first:
        with pytest.raises(StoreError, match="another process"):
            save_stream(stream, tmp_path / "toy")
        for name in ("src", "dst", "time"):
            first.create(name, np.int64, (200,))
            first.append(name, getattr(stream, name))
        first.write_indices(25)
        first.commit(name="first", num_nodes=25, time_unit="s", num_sources=None, source_split=None, source={})
    assert open_stream(tmp_path / "toy", verify=True).name == "first"


def test_a_target_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be made"):
        save_stream(make_stream(), tmp_path / "file" / "toy")


def test_ids_of_a_stream_whose_ids_were_dense(tmp_path):
    save_stream(make_stream(), tmp_path / "toy")
    assert lookup_nodes(tmp_path / "toy", [3, "4", "x", -1, 25]).tolist() == [3, 4, -1, -1, -1]


def test_ids_of_a_bipartite_stream_from_memory_are_its_nodes(tmp_path):
    """Its destinations stand after its sources already: nothing moves them once more."""
    stream = EventStream.from_arrays([0, 1, 0], [2, 3, 4], [0, 1, 2], num_nodes=5, num_sources=2)
    save_stream(stream, tmp_path / "toy")
    assert source_ids(tmp_path / "toy") is None
    for side in ("src", "dst"):
        nodes = np.unique(getattr(stream, side))
        assert lookup_nodes(tmp_path / "toy", nodes.tolist(), side).tolist() == nodes.tolist()
    assert lookup_nodes(tmp_path / "toy", [0, 1, 5, -1, "x"], "dst").tolist() == [-1] * 5
    assert lookup_nodes(tmp_path / "toy", [2, 4], "src").tolist() == [-1, -1]


def test_large_columns_are_read_a_page_at_a_time(tmp_path, monkeypatch):
    stream = make_stream(edge_features=np.ones((200, 50)))
    save_stream(stream, tmp_path / "data")
    advised = []
    monkeypatch.setattr(store, "expect_random_reads", lambda *columns: advised.extend(columns))
    open_stream(tmp_path / "data")
    assert advised == []
    monkeypatch.setattr(store, "LARGE_COLUMN", stream.edge_features.nbytes - 1)
    opened = open_stream(tmp_path / "data")
    assert len(advised) == 1
    assert advised[0] is opened.edge_features
