"""Does it learn? Bands of test MRR, on generated and on real events. "It ran" proves nothing."""

import pytest

from tgscale.data.generate import generate_stream
from tgscale.data.ingest import import_events
from tgscale.data.store import save_stream
from tgscale.stream.config import PRESETS, replace
from tgscale.stream.trainer import train_stream


def result_of(preset, data, tmp_path, **changes):
    config = PRESETS[preset](data, tmp_path / preset)
    return train_stream(replace(config, quiet=True, device="cpu", static__cache=tmp_path / "cache", **changes))


@pytest.mark.slow
def test_generated_events(tmp_path):
    save_stream(generate_stream(events=30_000, nodes=2_000), tmp_path / "data")
    result = result_of("default", tmp_path / "data", tmp_path, train__epochs=4)
    rules = {name: scores["mrr"] for name, scores in result["baselines"].items()}
    assert 0.66 < result["test"]["mrr"] < 0.72
    assert result["test"]["mrr"] > rules["edgebank"] + 0.1
    assert result["test"]["mrr"] > rules["recency"] - 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "changes", "low", "high"),
    [
        ("default", {"train__epochs": 2}, 0.897, 0.915),
        ("disttgl", {"train__epochs": 4, "static__mode": "none"}, 0.80, 0.88),
    ],
)
@pytest.mark.timeout(900)
def test_wikipedia(shared_data, tmp_path, preset, changes, low, high):
    query = f"SELECT src, dst, t FROM '{shared_data('wikipedia/events.parquet')}'"
    import_events(None, tmp_path / "data", query=query)
    result = result_of(preset, tmp_path / "data", tmp_path, **changes)
    assert result["baselines"]["edgebank"]["mrr"] == pytest.approx(0.825, abs=0.003)
    assert result["baselines"]["recency"]["mrr"] == pytest.approx(0.895, abs=0.003)
    assert low < result["test"]["mrr"] < high
