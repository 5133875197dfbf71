"""What the guides on many trainers show is as the code has it: schedules, figures, tests, job scripts."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tgscale.cli.engines import USAGE
from tgscale.cli.train import read_config
from tgscale.report.schedule_figure import draw_schedule
from tgscale.stream.layout import Layout
from tgscale.stream.schedule import Schedule

DOCS = Path(__file__).parents[1] / "docs"
PARALLEL, MACHINES = DOCS / "parallel-training.md", DOCS / "many-machines.md"
DRAWN = {"3x1x1": (7, 2), "1x3x1": (5, 6), "1x1x3": (7, 3), "2x2x2": (8, 4)}  # layout -> batches, epochs


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def schedule_of(layout):
    batches, epochs = DRAWN[layout]
    return Schedule(Layout.parse(layout), batches * 10, 10, epochs)


@pytest.mark.parametrize("layout", DRAWN)
def test_the_tables_are_those_of_the_schedule(layout):
    tables = dict(re.findall(r"\(images/schedule-(\w+)\.svg\)\n\n```text\n(.*?)```", PARALLEL.read_text(), re.S))
    assert tables.keys() == DRAWN.keys()
    assert tables[layout].rstrip("\n") == schedule_of(layout).table()


@pytest.mark.parametrize("layout", DRAWN)
def test_the_figures_are_those_of_the_schedule(layout, tmp_path):
    draw_schedule(schedule_of(layout), tmp_path / "now.svg")
    words = [
        re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text())
        for file in (tmp_path / "now.svg", DOCS / "images" / f"schedule-{layout}.svg")
    ]
    assert words[0] == words[1]


def test_tests_that_are_named_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PARALLEL.read_text())
    assert len(named) >= 9
    for file, name in named:
        assert f"def {name}(" in (DOCS.parent / file).read_text(), name


def job_script():
    (script,) = (block for block in blocks(MACHINES, "bash") if "#SBATCH" in block)
    return script


def pods():
    """Kind of job -> what the pods of it run."""
    torch_job, train_job = map(yaml.safe_load, blocks(MACHINES, "yaml"))
    assert (torch_job["kind"], train_job["kind"]) == ("PyTorchJob", "TrainJob")
    worker = torch_job["spec"]["pytorchReplicaSpecs"]["Worker"]
    policy = torch_job["spec"]["elasticPolicy"]
    assert worker["replicas"] == policy["minReplicas"] == policy["maxReplicas"]
    pod = worker["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert all(isinstance(variable["value"], str) for variable in container["env"])
    return {"PyTorchJob": container["command"], "TrainJob": train_job["spec"]["trainer"]["command"]}


def scripts():
    found = [*blocks(MACHINES, "bash")]
    for shell, option, script in pods().values():
        assert (shell, option) == ("bash", "-c")
        found.append(script)
    return found


def test_scripts_are_bash():
    assert len(scripts()) >= 6
    for script in scripts():
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, f"{checked.stderr}\n{script}"
        assert not checked.stderr, checked.stderr


def test_job_scripts_restart_and_go_on():
    jobs = [job_script(), *(script for *_, script in pods().values())]
    for script in jobs:
        assert "--resume" in script
        assert 'config.yaml" ]' in script or "config.yaml ]" in script
    for script in blocks(MACHINES, "bash"):
        if "--max-restarts" in script:
            assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in script


def test_options_of_train_under_torchrun_are_there():
    """Of those that a script passes on in a variable, too; and never --run, which torchrun takes for its own."""
    lines = [line for script in scripts() for line in script.replace("\\\n", " ").splitlines()]
    passed = [line.partition("-m tgscale train")[2] for line in lines if "-m tgscale train" in line]
    passed += [found[1] for line in lines if (found := re.search(r'options=["(](--data.*?)[")]$', line))]
    assert len(passed) >= 8
    for words in passed:
        flags = re.findall(r"(--[a-z][\w.-]*)(?: ([^-\s$]\S*))?", words.replace('"$run"', "runs/mine").rstrip(" &"))
        assert "--run" not in dict(flags)
        if flags:
            config = read_config(None, [word for flag in flags for word in flag])
            assert Layout.parse(config.layout).world in (4, 8)


def test_workers_and_restarts_are_options_of_train():
    assert "--workers" in USAGE
    assert "--max-restarts" in USAGE
