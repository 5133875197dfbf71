import json

import numpy as np
import pytest
import torch

from tgscale.data.generate import generate_stream
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.stream import throughput
from tgscale.stream.throughput import (
    DeviceProfile,
    last_events,
    load_or_measure,
    measure,
    read_profile,
    write_profile,
)

CPU = torch.device("cpu")
PROFILE = DeviceProfile("cpu", {100: 90.0, 200: 100.0}, None, {"cpu": "Z80", "memory_bytes": 65536}, {"model.dim": 8})


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(throughput, "STEPS", 1)


def test_measures_real_steps_up_to_the_training_events(make_stream, make_config):
    told: list[str] = []
    profile = measure(make_config(), make_stream(events=400), CPU, told.append)
    assert list(profile.rates) == [25, 50, 100, 200]  # of 280 training events
    assert all(rate > 0 for rate in profile.rates.values())
    assert told == [f"training steps of 25 to 200 events on cpu, round {n} of 3" for n in (1, 2, 3)]
    assert (profile.device, profile.device_memory_bytes) == ("cpu", None)
    assert profile.machine["memory_bytes"] > 0
    assert profile.measured_with["model.dim"] == 8
    assert profile.measured_with["edge features"] == 3


def test_too_few_events_to_measure_on(make_stream, make_config):
    with pytest.raises(ConfigError, match=r"14 training events: 25 are needed"):
        measure(make_config(), make_stream(events=20), CPU)


def test_a_static_table_is_not_pretrained_for_it(make_stream, make_config, monkeypatch):
    seen = []
    monkeypatch.setattr(throughput._TrainingSteps, "rate", lambda self, size: seen.append(self.engine.config) or 1.0)
    measure(make_config("disttgl", layout="2x1x1"), make_stream(), CPU)
    assert seen[0].static.mode == "none"
    assert seen[0].layout == "1x1x1"


def test_a_run_of_another_task_is_measured_as_link_prediction(make_stream, make_config, monkeypatch):
    """A slice of the stream has no labels; and what a step costs is much the same."""
    assert measure(make_config(task__name="edge-class"), make_stream(events=60), CPU).rates.keys() == {25}


def rates_of(monkeypatch, make_config, rate, events=100_000):
    monkeypatch.setattr(throughput._TrainingSteps, "__init__", lambda self, config, stream, device: None)
    monkeypatch.setattr(throughput._TrainingSteps, "rate", lambda self, size: rate(size))
    return measure(make_config(), generate_stream(events=events, edge_features=0), CPU).rates


def test_goes_on_only_as_long_as_it_gets_faster(monkeypatch, make_config):
    sizes = list(rates_of(monkeypatch, make_config, lambda size: min(size, 200)))
    assert sizes[-1] == 3200
    sizes = list(rates_of(monkeypatch, make_config, lambda size: min(size, 6400)))
    assert sizes[-1] == 12_800  # which was no faster than 6400
    assert list(rates_of(monkeypatch, make_config, float))[-1] == 51_200


def test_the_best_round_counts(monkeypatch, make_config):
    rounds = {25: [5.0, 9.0, 7.0], 50: [8.0, 1.0, 2.0]}
    assert rates_of(monkeypatch, make_config, lambda size: rounds[size].pop(0), events=100) == {25: 9.0, 50: 8.0}


def test_ends_where_the_device_is_full(monkeypatch, make_config):
    def rate(size, limit=100):
        if size > limit:
            raise torch.OutOfMemoryError
        return 1.0

    assert list(rates_of(monkeypatch, make_config, rate, events=3000)) == [25, 50, 100]
    with pytest.raises(torch.OutOfMemoryError):
        rates_of(monkeypatch, make_config, lambda size: rate(size, 0), events=3000)


def test_saturates_at_nine_tenths_of_the_best():
    assert DeviceProfile("cpu", {10: 50.0, 20: 89.0, 40: 90.0, 80: 100.0, 160: 95.0}).saturating_batch == 40
    assert DeviceProfile("cpu", {10: 50.0}).saturating_batch == 10


def test_names_of_devices():
    assert PROFILE.name == "cpu (Z80)"
    assert DeviceProfile("cuda", {1: 1.0}, machine={"gpus": ["H200"], "cpu": "Z80"}).name == "cuda (H200)"
    assert DeviceProfile("cuda", {1: 1.0}).name == "cuda (unknown)"


def test_the_last_events_are_a_stream_of_their_own_nodes():
    stream = generate_stream(events=500, nodes=100, edge_features=3)
    stream = EventStream(**{**vars(stream), "node_features": np.random.default_rng(0).random((100, 2), np.float32)})
    part = last_events(stream, 400, 50)
    old = np.unique(np.concatenate([stream.src[350:400], stream.dst[350:400]]))
    assert (old[part.src] == stream.src[350:400]).all()
    assert (old[part.dst] == stream.dst[350:400]).all()
    assert (part.time == stream.time[350:400]).all()
    assert (part.edge_features == stream.edge_features[350:400]).all()
    assert (part.node_features == stream.node_features[old]).all()
    assert part.num_nodes == len(old)
    assert part.src.max() < part.num_sources <= part.dst.min()
    assert last_events(stream, 20, 50).num_events == 20


def test_a_profile_survives_its_file(tmp_path):
    write_profile(tmp_path / "p.json", PROFILE)
    assert read_profile(tmp_path / "p.json") == PROFILE
    (tmp_path / "least.json").write_text('{"device": "cuda", "rates": {"800": 2, "400": 1.5}}')
    profile = read_profile(tmp_path / "least.json")
    assert list(profile.rates.items()) == [(400, 1.5), (800, 2.0)]
    assert profile.machine == {}


def test_a_file_is_read_when_there_is_one_and_written_when_not(tmp_path, make_stream, make_config):
    file = tmp_path / "p.json"
    measured = load_or_measure(file, make_config(), make_stream(), lambda: CPU)
    assert json.loads(file.read_text())["rates"].keys() == {"25", "50", "100", "200"}
    assert load_or_measure(file, make_config(), make_stream(), lambda: pytest.fail("measured again")) == measured
    assert load_or_measure(None, make_config(), make_stream(), lambda: CPU).rates.keys() == measured.rates.keys()


def test_a_profile_that_cannot_be_written_is_refused_before_the_work(tmp_path, make_stream, make_config):
    with pytest.raises(ConfigError, match="is not a directory"):
        load_or_measure(tmp_path / "no" / "p.json", make_config(), make_stream(), lambda: pytest.fail("measured"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds list"),
        ('{"rates": {"1": 1}}', "no 'device'"),
        ('{"device": "cpu"}', "no 'rates'"),
        ('{"device": "tpu", "rates": {"1": 1}}', 'device is "tpu"; expected "cpu" or "cuda"'),
        ('{"device": "cpu", "rates": {}}', "rates is {}; expected a mapping of batch sizes"),
        ('{"device": "cpu", "rates": {"many": 1}}', 'rates holds {"many": 1}'),
        ('{"device": "cpu", "rates": {"0": 1}}', 'rates holds {"0": 1}'),
        ('{"device": "cpu", "rates": {"10": -1}}', 'rates holds {"10": -1}'),
        ('{"device": "cpu", "rates": {"10": true}}', 'rates holds {"10": true}'),
        ('{"device": "cpu", "rates": {"10": NaN}}', "rates holds"),
        ('{"device": "cuda", "rates": {"1": 1}, "device_memory_bytes": "80GB"}', 'device_memory_bytes is "80GB"'),
        ('{"device": "cpu", "rates": {"1": 1}, "machine": 3}', "machine is 3; expected a mapping"),
        ('{"device": "cpu", "rates": {"1": 1}, "machine": {"memory_bytes": 0}}', "memory_bytes is 0"),
    ],
)
def test_files_that_hold_no_profile(tmp_path, text, words):
    file = tmp_path / "p.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_profile(file)
    assert words in str(caught.value)
    assert "p.json" in str(caught.value)


def test_a_folder_is_no_profile(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_profile(tmp_path)
