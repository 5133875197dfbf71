import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError, RunError
from tgscale.graph.history import History
from tgscale.graph.sampling import NeighborSampler
from tgscale.stream import batch_cache
from tgscale.stream.batch import Batch, BatchBuilder
from tgscale.stream.batch_cache import BatchCache
from tgscale.stream.negatives import NegativeSampler

KEY = {"data": "0123", "neighbors": 4, "batch_size": 20}


@pytest.fixture
def make_batch(make_stream):
    """Function (batch, set) -> batch of 20 events, as a run would make it."""
    stream = make_stream()
    sampler, history = NeighborSampler(stream, 4, strategy="uniform"), History(stream)

    def make(batch_index: int, set_index: int, pairs=True, slice_features=False) -> Batch:
        past = history if pairs else None
        builder = BatchBuilder(stream, sampler, NegativeSampler(stream), past, 9, slice_features=slice_features)
        builder.sampler.seed = set_index
        return builder.range(batch_index * 20, (batch_index + 1) * 20, 1, seed=set_index)

    return make


def assert_same(one: Batch | None, other: Batch) -> None:
    assert one is not None
    a, b = one.tensors(), other.tensors()
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape)
        assert torch.equal(a[name], b[name]), name


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 14), st.integers(0, 31), st.booleans(), st.booleans())
def test_a_kept_batch_equals_a_fresh_one(tmp_path, make_batch, batch_index, set_index, pairs, slice_features):
    cache = BatchCache(tmp_path, {**KEY, "options": [pairs, slice_features]}, sets=32)
    fresh = make_batch(batch_index, set_index, pairs, slice_features)
    cache.put(batch_index, set_index, fresh)
    assert_same(cache.get(batch_index, set_index), fresh)
    assert_same(make_batch(batch_index, set_index, pairs, slice_features), fresh)


def test_what_was_not_put_is_not_there(tmp_path, make_batch):
    cache = BatchCache(tmp_path, KEY, sets=3)
    cache.put(1, 2, make_batch(1, 2))
    assert cache.get(1, 1) is None
    assert cache.get(2, 2) is None
    for batch_index, set_index in ((-1, 0), (0, 3), (0, -1)):
        with pytest.raises(ValueError, match="there are 3 sets"):
            cache.get(batch_index, set_index)


def test_other_options_have_another_folder(tmp_path, make_batch):
    cache = BatchCache(tmp_path, KEY, sets=1)
    cache.put(0, 0, make_batch(0, 0))
    for other in ({**KEY, "neighbors": 5}, {**KEY, "data": "0124"}, {"data": "0123"}):
        assert BatchCache(tmp_path, other, sets=1).get(0, 0) is None
    assert_same(BatchCache(tmp_path, dict(reversed(KEY.items())), sets=4).get(0, 0), make_batch(0, 0))
    assert json.loads((cache.path / "key.json").read_text())["key"] == KEY


def test_another_version_of_the_code_has_another_folder(tmp_path, monkeypatch):
    path = BatchCache(tmp_path, KEY, sets=1).path
    monkeypatch.setattr(batch_cache, "CACHE_VERSION", batch_cache.CACHE_VERSION + 1)
    assert BatchCache(tmp_path, KEY, sets=1).path != path


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-8],
    "one bit of the last tensor": lambda content: flip(content, len(content) - 3),
    "one bit of the header": lambda content: flip(content, content.index(b"block.slot")),
    "zeros in the middle": lambda content: content[:3000] + bytes(2000) + content[5000:],
    "something else": lambda content: b"not a batch at all, but long enough to hold a header " * 9,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_batch_is_made_again_with_a_warning(tmp_path, make_batch, caplog, how):
    cache = BatchCache(tmp_path, KEY, sets=1)
    cache.put(7, 0, make_batch(7, 0))
    (file,) = cache.path.glob("*.safetensors")
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert_same(cache.get_or_make(7, 0, make_batch), make_batch(7, 0))
    assert f"{file} is damaged" in caplog.text
    assert_same(cache.get(7, 0), make_batch(7, 0))
    assert (cache.hits, cache.misses, cache.damaged) == (1, 1, 1)


def test_a_batch_can_be_written_into_and_the_file_stays(tmp_path, make_batch):
    cache = BatchCache(tmp_path, KEY, sets=1)
    cache.put(3, 0, make_batch(3, 0))
    batch = cache.get(3, 0)
    batch.block.event.fill_(5)
    assert_same(cache.get(3, 0), make_batch(3, 0))


def test_a_batch_outlives_its_file(tmp_path, make_batch):
    cache = BatchCache(tmp_path, KEY, sets=1)
    cache.put(3, 0, make_batch(3, 0))
    batch = cache.get(3, 0)
    next(cache.path.glob("*.safetensors")).write_bytes(b"")  # in place: a mapped file would be gone
    assert_same(batch, make_batch(3, 0))


def test_a_failed_write_leaves_what_was_there(tmp_path, make_batch, monkeypatch):
    cache = BatchCache(tmp_path, KEY, sets=1)
    cache.put(3, 0, make_batch(3, 0))
    before = sorted(cache.path.iterdir())

    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batch_cache, "save_file", fail)
    with pytest.raises(RunError, match=r"No space left on device.*Make room"):
        cache.put(3, 0, make_batch(4, 0))
    assert sorted(cache.path.iterdir()) == before
    assert_same(cache.get(3, 0), make_batch(3, 0))


def test_several_fill_one_folder_at_once(tmp_path, make_batch):
    fresh = {(b, s): make_batch(b, s) for b in range(5) for s in range(3)}

    def fill(_) -> BatchCache:
        cache = BatchCache(tmp_path, KEY, sets=3)
        for _ in range(3):
            for place, batch in fresh.items():
                found = cache.get(*place)
                if found is not None:
                    assert_same(found, batch)
                cache.put(*place, batch)
        return cache

    with ThreadPoolExecutor(4) as pool:
        caches = list(pool.map(fill, range(4)))
    assert sum(cache.damaged for cache in caches) == 0
    assert len(list(caches[0].path.iterdir())) == len(fresh) + 1  # no half-written ones; the key
    for place, batch in fresh.items():
        assert_same(caches[0].get(*place), batch)


def test_prepared_beforehand_and_counted(tmp_path, make_batch):
    cache, made, events = BatchCache(tmp_path, KEY, sets=3), [], []

    def make(batch_index, set_index):
        made.append((batch_index, set_index))
        return make_batch(batch_index, set_index)

    cache.put(1, 0, make_batch(1, 0))
    seconds = cache.prepare(make, range(3), sets=range(2), progress=events.append)
    assert made == [(0, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert events == [20] * 6
    files = list(cache.path.glob("*.safetensors"))
    assert len(files) == 6
    report = cache.report()
    assert (report["hits"], report["misses"], report["damaged"], report["sets"]) == (0, 0, 0, 3)
    assert report["bytes_written"] == sum(file.stat().st_size for file in files)
    assert report["seconds_preparing"] == seconds > 0
    assert report["seconds_writing"] > 0
    json.dumps(report)

    again = BatchCache(tmp_path, KEY, sets=3)
    again.prepare(make, range(3))
    assert made[5:] == [(0, 2), (1, 2), (2, 2)]
    for batch_index in range(3):
        assert_same(again.get_or_make(batch_index, 2, make), make_batch(batch_index, 2))
    assert len(made) == 8
    assert (again.hits, again.misses) == (3, 0)
    read = sum(file.stat().st_size for file in files)
    assert again.bytes_read == read + sum(file.stat().st_size for file in again.path.glob("set-0002-*"))


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="give another folder"):
        BatchCache(tmp_path / "file", KEY, sets=1)
    with pytest.raises(ValueError, match="sets is 0"):
        BatchCache(tmp_path, KEY, sets=0)
