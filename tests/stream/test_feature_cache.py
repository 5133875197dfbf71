import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.stream.feature_cache import FeatureCache
from tgscale.stream.loop import TrainingLoop

TABLE = torch.arange(60, dtype=torch.float32).view(20, 3).sin()


@given(
    places=st.integers(1, 25),
    asked=st.lists(st.lists(st.integers(0, 19), unique=True, max_size=20), max_size=12),
)
def test_same_bits_as_the_table_and_hits_counted(places, asked):
    cache, owner, hits = FeatureCache(TABLE, places, "cpu"), {}, 0
    places = min(places, 20)
    for rows in asked:
        assert torch.equal(cache[torch.tensor(rows, dtype=torch.int64)], TABLE[rows])
        missing = [row for row in rows if owner.get(row % places) != row]
        hits += len(rows) - len(missing)
        by_place = {}
        for row in missing:
            by_place.setdefault(row % places, []).append(row)
        for place, wanting in by_place.items():  # any one of them, but the one whose bits are kept
            owner[place] = int(cache._owner[place])
            assert owner[place] in wanting
            assert torch.equal(cache._kept[place], TABLE[owner[place]])
    assert cache.hits == hits
    assert cache.lookups == sum(map(len, asked))


def test_the_latest_events_are_kept():
    cache = FeatureCache(TABLE, 8, "cpu")
    for start in range(0, 20, 4):
        cache[torch.arange(start, start + 4)]
    assert cache.hits == 0
    cache[torch.arange(12, 20)]
    assert cache.hits == 8
    assert cache.report() == {"rows": 8, "bytes": 8 * 3 * 4, "lookups": 28, "hit_rate": 8 / 28}


def test_what_comes_out_is_not_the_cache_itself():
    cache = FeatureCache(TABLE, 8, "cpu")
    rows = torch.arange(5)
    cache[rows].zero_()
    cache[rows].zero_()
    assert torch.equal(cache[rows], TABLE[:5])


def test_no_room_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        FeatureCache(TABLE, 0, "cpu")


@pytest.mark.parametrize("places", [1, 37, 1000])
@pytest.mark.parametrize("depth", [0, 2])
def test_training_and_evaluation_are_the_same_bit_for_bit(make_engine, places, depth):
    states = []
    for cached in (None, places):
        changes = {"pipeline__slice_features": True, "pipeline__feature_cache": cached} if cached else {}
        engine = make_engine(pipeline__depth=depth, **changes)
        loop = TrainingLoop.in_process(engine)
        loop.run(loop.schedule.iterations)
        engine.memory.load_state_dict(loop.memory_of(0))
        loop.close()
        scores = engine.evaluate("val").summary(engine.new_node_events("val"))
        states.append((engine.model.state_dict(), engine.memory.state_dict(), scores))
    torch.testing.assert_close(*states, rtol=0, atol=0)
    cache = engine.builder.edge_features
    assert isinstance(cache, FeatureCache)
    assert cache.lookups > 0
    assert (cache.hits > cache.lookups / 2) == (places == 1000)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, "slice-features"),
        ({"pipeline__slice_features": True, "pipeline__sample_on": "host"}, "sample_on host"),
        ({"pipeline__slice_features": True, "pipeline__feature_cache": 0}, "feature_cache"),
    ],
)
def test_where_it_cannot_be(make_config, change, named):
    with pytest.raises(ConfigError, match=named):
        make_config(**{"pipeline__feature_cache": 10, **change})


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_rows_on_a_gpu():
    cache = FeatureCache(TABLE, 8, "cuda")
    for start in range(16):
        rows = torch.arange(start, start + 4)
        assert torch.equal(cache[rows].cpu(), TABLE[rows])
    assert cache.hits == 15 * 3
