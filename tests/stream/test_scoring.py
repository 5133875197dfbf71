"""Evaluation by several threads gives the scores of one, bit for bit; and a mistake in one of them comes out."""

import numba
import pytest
import torch

from tgscale.stream import engine as engine_module
from tgscale.stream.scoring import ScoreThreads, score_threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


PROTOCOLS = [
    {},
    {"protocol": "ap-tgl"},
    {"protocol": "ap-dyglib", "negatives": "historical"},
    {"protocol": "tgb", "negatives_per_event": 12},
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.get("protocol", "mrr49"))
@pytest.mark.parametrize("preset", ["default", "disttgl"])
def test_threads_give_the_same_scores_and_memory(make_engine, monkeypatch, one_thread, preset, protocol):
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(engine_module, "score_threads", lambda device, threads=threads: threads)
        options = {f"eval__{name}": value for name, value in protocol.items()}
        engine = make_engine(preset=preset, train__batch_size=7, **options)
        torch.set_num_threads(1)
        engine.advance(0, engine.split.train)
        scores = [engine.evaluate(part) for part in ("val", "test")]
        columns = [(s.reciprocal_rank, s.positive, s.negative) for s in scores]
        assert [s.summary() for s in scores]
        results.append([*columns, engine.memory.state_dict().values()])
    for one, several in zip(*results, strict=True):
        for a, b in zip(one, several, strict=True):
            assert torch.equal(a, b)


def test_results_are_taken_in_order_and_a_few_batches_are_held(make_engine):
    engine, taken, built = make_engine(), [], []
    with ScoreThreads(engine.builder, 2, lambda start, logits: taken.append((start, float(logits)))) as threads:
        spans = [(i, i + 1) for i in range(20)]
        for span, batch in threads.batches(spans, lambda builder, span: built.append(span) or span):
            assert batch == span
            assert len(built) <= span[0] + 4
            threads.score(span[0], lambda span=span: torch.tensor(float(span[1])))
            assert len(taken) >= span[0] - 3
    assert taken == [(i, i + 1.0) for i in range(20)]


def test_an_error_in_a_thread_is_raised_here(make_engine):
    def fail() -> torch.Tensor:
        raise RuntimeError("a batch is wrong")

    with (
        pytest.raises(RuntimeError, match="a batch is wrong"),
        ScoreThreads(make_engine().builder, 2, lambda *_: None) as threads,
    ):
        threads.score(0, fail)


def test_one_thread_where_kernels_cannot_be_entered_twice(two_threads, monkeypatch):
    monkeypatch.setattr(numba, "threading_layer", lambda: "workqueue")
    assert score_threads(torch.device("cpu")) == 1
    monkeypatch.setattr(numba, "threading_layer", lambda: "omp")
    assert score_threads(torch.device("cpu")) == 2
    assert score_threads(torch.device("cuda")) == 1
