import json
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.stream import planner
from tgscale.stream.captured import captured_curve
from tgscale.stream.choice import copy_bytes
from tgscale.stream.config import TrainConfig
from tgscale.stream.planner import Request, auto_layout, parse_memory, plan
from tgscale.stream.throughput import DeviceProfile, options_that_matter
from tgscale.train.config_io import parse

PROFILE = DeviceProfile("cpu", {10: 500.0, 20: 900.0, 40: 1000.0}, machine={"memory_bytes": 10**9, "cores": 8})
NO_LIMITS = {"max_missing": 1.0, "max_missing_busy": 1.0}


def test_auto_layout_takes_the_configured_batch(make_stream, make_config, monkeypatch):
    stream = make_stream(events=3000, nodes=2000, edge_dim=0)
    config = make_config(train__batch_size=20)
    missing = captured_curve(stream, stream.split().train, [20, 40, 80])
    monkeypatch.setattr(planner, "MAX_MISSING", missing.missing[1])
    monkeypatch.setattr(planner, "MAX_MISSING_BUSY", 1.0)
    choice = auto_layout(stream, config, machines=2, trainers_per_machine=4)
    assert (str(choice.layout), choice.batch_size) == ("2x1x4", 20)
    # Room for no more than one copy: what k gives up, j takes.
    monkeypatch.setattr(planner, "machine_memory_bytes", lambda: 12 * copy_bytes(2000, config.model.dim))
    assert str(auto_layout(stream, config, machines=2, trainers_per_machine=4).layout) == "2x2x2"


def test_auto_layout_keeps_a_batch_that_loses_too_much_and_says_so(make_stream, make_config, monkeypatch):
    monkeypatch.setattr(planner, "MAX_MISSING", 0.01)
    choice = auto_layout(make_stream(), make_config(train__batch_size=100), machines=1, trainers_per_machine=4)
    assert (str(choice.layout), choice.batch_size) == ("1x1x4", 100)
    assert "one trainer per global batch" in choice.reasons["i"]
    assert "more than the 1 % and" in choice.reasons["i"]


def test_one_trainer_is_never_refused(make_stream, make_config, monkeypatch):
    monkeypatch.setattr(planner, "machine_memory_bytes", lambda: 10)
    assert auto_layout(make_stream(), make_config(), 1, 1).layout.world == 1
    with pytest.raises(ConfigError, match="more memory"):
        auto_layout(make_stream(), make_config(), 1, 2)


def test_a_plan_rests_on_the_data_and_the_profile(make_stream, make_config):
    stream = make_stream(events=3000, nodes=2000, edge_dim=0)
    missing = captured_curve(stream, 2100, [20, 40, 80]).missing
    request = Request(machines=2, trainers_per_machine=4, max_missing=missing[1], max_missing_busy=1.0)
    made = plan(stream, make_config(), request, PROFILE)
    assert (str(made.choice.layout), made.choice.batch_size) == ("2x1x4", 20)  # 20: 90 % of 1000 events/s
    assert made.axes() == {"i": 2, "j": 1, "k": 4}
    assert made.largest_batch == 40
    notes = {row["batch_size"]: row["note"] for row in made.rows() if row["note"]}
    assert notes == {20: "saturates, local batch", 40: "largest allowed, global batch"}
    rates = {row["batch_size"]: row["events_per_second"] for row in made.rows()}
    assert (rates[10], rates[20], rates[1600]) == (500.0, 900.0, None)
    assert {row["batch_size"] for row in made.rows() if row["allowed"]} >= {10, 20, 40}
    assert made.updates == 2 * 2100 // (8 * 20)


def test_a_plan_is_for_the_training_events_of_the_run(make_config):
    """Of few times, a split between times is another one than that at shares of the events."""
    stream = EventStream.from_arrays(np.arange(100) % 7, np.arange(100) % 5, np.repeat([0, 1, 2, 3], 25), num_nodes=7)
    config = make_config(eval__split="times")
    made = plan(stream, config, Request(machines=1, trainers_per_machine=1), PROFILE)
    assert made.training_events == config.eval.split_of(stream).train == 75


def test_a_plan_is_a_configuration_that_train_takes(make_stream, make_config, tmp_path):
    options = {"preset": "disttgl", "layout": "1x1x2", "emulate": None, "train": {"lr": 0.5, "batch_size": 7}}
    request = Request(machines=2, trainers_per_machine=4, **NO_LIMITS)
    made = plan(make_stream(events=3000), make_config(), request, PROFILE, options)
    text = made.to_yaml()
    assert yaml.safe_load(text) == made.to_config()
    assert made.to_config() == {
        "preset": "disttgl",
        "layout": str(made.choice.layout),
        "train": {"lr": 0.5, "batch_size": 20},
    }
    assert options["layout"] == "1x1x2"  # what was given is left as it was
    comment = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    for reason in made.reasons.values():
        assert reason in comment
    (tmp_path / "plan.yaml").write_text(text)
    config = parse(TrainConfig, ["--data=d", "--run=r"], yaml_path=tmp_path / "plan.yaml")
    assert (config.layout, config.train.batch_size, config.train.lr) == (str(made.choice.layout), 20, 0.5)


def test_a_plan_as_plain_values(make_stream, make_config):
    made = plan(make_stream(), make_config(), Request(trainers_per_machine=2), PROFILE)
    values = json.loads(json.dumps(made.to_dict()))
    assert values["layout"] == str(made.choice.layout)
    assert values["memory"]["bytes_per_copy"] == copy_bytes(30, 8)
    assert values["config"] == made.to_config()
    assert [row["batch_size"] for row in values["batch_sizes"]] == list(made.captured.batch_sizes)


def test_a_local_batch_that_the_data_reduce_is_noted(make_stream, make_config):
    stream = make_stream(events=3000, nodes=2000, edge_dim=0)
    missing = captured_curve(stream, 2100, [10]).missing[0]
    made = plan(stream, make_config(), Request(max_missing=missing, max_missing_busy=1.0), PROFILE)
    assert (made.choice.batch_size, made.choice.global_batch) == (10, 10)
    assert "reduced to 10" in made.reasons["i"]
    assert "500 events/s where 1,000 are possible" in made.choice.notes[0]


def test_limits_that_no_size_meets_take_the_smallest_and_say_so(make_stream, make_config):
    made = plan(make_stream(), make_config(), Request(trainers_per_machine=4, max_missing=0.0), PROFILE)
    assert made.largest_batch == made.choice.batch_size == 10
    assert "even in batches of 10" in made.reasons["i"]
    assert not any(row["allowed"] for row in made.rows())


@pytest.mark.parametrize(
    ("request_", "profile", "words"),
    [
        (Request(trainers_per_machine=4, max_missing=0.0), {}, "with --train.epochs 4"),
        (Request(trainers_per_machine=16, **NO_LIMITS), {"rates": {200: 1.0}}, "1 global batches"),
        (Request(trainers_per_machine=9), {}, "9 CPU threads per machine .* 8 cores"),
        (Request(**NO_LIMITS), {}, "about 21 updates of the weights are few"),
        (Request(), {"device": "cuda", "device_memory_bytes": 10}, "do not fit half of a GPU"),
        (Request(), {"measured_with": {"model.dim": 100}}, "other than model.dim 8"),
    ],
)
def test_notes(make_stream, make_config, request_, profile, words):
    made = plan(make_stream(), make_config(), request_, replace(PROFILE, **profile))
    assert [note for note in made.choice.notes if re.search(words, note)]


def test_nothing_to_note(make_stream, make_config):
    stream, config = make_stream(), make_config(train__epochs=100)
    profile = replace(PROFILE, measured_with=options_that_matter(config, stream))
    assert plan(stream, config, Request(**NO_LIMITS), profile).choice.notes == ()


def test_copies_on_gpus_or_in_main_memory(make_stream, make_config):
    gpu = replace(PROFILE, device="cuda", device_memory_bytes=10**9, machine={})
    request = Request(trainers_per_machine=4, memory_bytes=12 * copy_bytes(30, 8), **NO_LIMITS)
    made = plan(make_stream(), make_config(), request, gpu)
    assert made.on_gpu
    assert "memory_backend" not in made.to_config()
    made = plan(make_stream(), make_config(), request, replace(gpu, device_memory_bytes=10))
    assert made.choice.copies_per_machine == 1  # 80 % of 12, less two for each trainer
    assert made.to_config()["memory_backend"] == "shared"


def test_whose_memory_counts(monkeypatch):
    monkeypatch.setattr(planner, "machine_memory_bytes", lambda: 7)
    assert Request(memory_bytes=5).memory_of(PROFILE) == (5, "as given")
    assert Request().memory_of(PROFILE)[0] == 10**9
    assert Request().memory_of(replace(PROFILE, machine={}))[0] == 7


def test_streams_shorter_than_any_candidate(make_stream, make_config):
    made = plan(make_stream(events=10), make_config(), Request(), replace(PROFILE, rates={400: 10.0}))
    assert made.captured.batch_sizes == (7,)
    assert made.choice.batch_size == 7


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.floats(0, 1))
def test_what_every_plan_holds_to(make_stream, make_config, machines, trainers, missing, busy):
    made = plan(make_stream(), make_config(), Request(machines, trainers, missing, busy), PROFILE)
    layout, choice = made.choice.layout, made.choice
    assert layout.world == machines * trainers
    assert layout.memory % machines == 0
    assert choice.global_batch <= made.largest_batch
    rows = {row["batch_size"]: row for row in made.rows()}
    assert choice.global_batch in rows  # so its row of the table says what it loses
    if layout.minibatch > 1:
        assert rows[choice.global_batch]["allowed"]


@pytest.mark.parametrize(
    "wrong", [{"machines": 0}, {"trainers_per_machine": 0}, {"max_missing": 1.5}, {"max_missing_busy": -0.1}]
)
def test_requests_that_make_no_sense(wrong):
    with pytest.raises(ConfigError, match=r"[Gg]ive"):
        Request(**wrong)


def test_amounts_of_memory():
    assert parse_memory("64GB") == 64 * 10**9
    assert parse_memory(" 1.5 gib ") == int(1.5 * 2**30)
    for text in ("64", "much", "0GB", "-1GB"):
        with pytest.raises(ConfigError, match="such as 64GB"):
            parse_memory(text)
