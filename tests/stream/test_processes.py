"""Real trainers, each a process, against the emulator."""

import json
import os
import subprocess
import sys
import time
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch

from tgscale.stream.layout import Layout
from tgscale.stream.loop import TrainingLoop

ITERATIONS = 50
FAST = ["2x1x1", "1x2x1", "1x1x2", "2x2x1", "2x2x2"]
MORE = [*FAST, "3x1x1", "1x3x2"]


def case(layout, what="shared", double=True, preset="default", iterations=ITERATIONS, label="", **changes):
    name = f"{label}{layout}-{what}-{'double' if double else 'single'}"
    backend = what if what in ("shared", "replicated") else "auto"
    # In float32, and with 8 trainers, at a small rate: at 5e-3, scaled to 8 trainers, training itself grows 1e-7 of a
    # gradient to 1e-2 of the loss within 50 iterations and, in float64, 1e-16 to 3e-8 of the memory. Processes and
    # emulator sum in different orders.
    world = Layout.parse(layout).world
    rate = 5e-3 if double and world < 8 else 3e-4
    changes = {"preset": preset, "memory_backend": backend, "train__epochs": 400, "train__lr": rate, **changes}
    return {
        "name": name,
        "layout": layout,
        "world": world,
        "double": double,
        "iterations": iterations,
        "changes": changes,
    }


SOME = [*(case(layout) for layout in FAST[:-1]), case("2x2x1", "replicated"), case("2x2x1", double=False)]
REST = [
    *(
        case(layout, backend, double)
        for layout, backend, double in product(MORE, ["shared", "replicated"], [True, False])
    ),
    case("2x1x2", "cotrained", preset="disttgl", static__mode="cotrained", train__negatives=2),
    case("4x1x1", "few-batches", train__epochs=8, train__batch_size=150),
    case("2x2x1", "ahead", pipeline__depth=2),
]
OTHER_MODELS = [
    case(layout, backend, model__name=name, iterations=12, label=f"{name}-")
    for name, layout, backend in [
        ("jodie", "2x1x1", "shared"),
        ("jodie", "1x1x2", "apart"),
        ("dyrep", "2x1x1", "replicated"),
        ("dyrep", "1x1x2", "apart"),
        ("apan", "2x1x1", "shared"),
        ("apan", "2x1x1", "replicated"),
        ("apan", "1x1x2", "apart"),
        ("tgat", "2x1x1", "shared"),
        ("graphmixer", "1x1x2", "apart"),
    ]
]
CASES = [pytest.param("some", each["name"], id=each["name"]) for each in SOME]
CASES += [
    pytest.param("rest", each["name"], id=f"{each['name']}-again", marks=[pytest.mark.slow, pytest.mark.timeout(900)])
    for each in REST
]
CASES += [pytest.param("models", each["name"], id=each["name"]) for each in OTHER_MODELS]
KINDS = {"some": SOME, "rest": REST, "models": OTHER_MODELS}
SETS = {kind: {each["name"]: each for each in cases} for kind, cases in KINDS.items()}


@pytest.fixture(scope="module")
def run_set(tmp_path_factory):
    """Runs all cases of a set in one start of as many processes as the largest needs; the folder of what came out."""
    return cache(lambda name: start_processes(tmp_path_factory.mktemp(name), SETS[name].values()))


def start_processes(folder, cases):
    (folder / "cases.json").write_text(json.dumps(list(cases)))
    script = Path(__file__).with_name("trainer_process.py")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    world = max(each["world"] for each in cases)
    processes = [
        subprocess.Popen([sys.executable, script, str(rank), folder], env=env, stderr=subprocess.PIPE, text=True)
        for rank in range(world)
    ]
    try:
        while any(process.poll() is None for process in processes) and not any(process.poll() for process in processes):
            time.sleep(0.1)
        failed = [process.communicate()[1] for process in processes if process.poll()]
    finally:
        for process in processes:
            process.kill()
    assert not failed, failed[0]
    return folder


@pytest.mark.parametrize(("cases", "name"), CASES)
def test_processes_equal_the_emulator(make_engine, run_set, cases, name):
    outcomes, case = run_set(cases), SETS[cases][name]
    changes = {**case["changes"], "memory_backend": "auto", "pipeline__depth": 0}
    engine = make_engine(double=case["double"], emulate=case["layout"], **changes)
    loop, losses = TrainingLoop.in_process(engine), []
    for t in range(min(case["iterations"], loop.schedule.iterations)):
        loop.run(t + 1)
        losses.append(loop.mean_loss())
    found = torch.load(outcomes / f"{name}.pt", weights_only=True)
    near = {"rtol": 1e-9, "atol": 1e-9} if case["double"] else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(torch.tensor(found["losses"]), torch.tensor(losses), **near)
    for group in range(engine.config.run_layout.memory):
        state = torch.load(outcomes / f"{name}-memory-{group}.pt", weights_only=True)
        for column, expected in loop.memory_of(group).items():
            torch.testing.assert_close(state[column], expected, **near)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("layout", [layout for layout in MORE if Layout.parse(layout).group_size > 1])
@pytest.mark.parametrize("kind", ["double", "single"])
def test_memory_backends_give_the_same_bits(run_set, layout, kind):
    folder = run_set("rest")
    for name in ["", *(f"-memory-{group}" for group in range(Layout.parse(layout).memory))]:
        shared, replicated = (
            torch.load(folder / f"{layout}-{backend}-{kind}{name}.pt", weights_only=True)
            for backend in ("shared", "replicated")
        )
        assert shared.pop("losses", None) == replicated.pop("losses", None)
        shared, replicated = shared.get("model", shared), replicated.get("model", replicated)
        assert all(torch.equal(shared[key], replicated[key]) for key in shared)
