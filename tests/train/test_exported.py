"""Exported models are what the run had, and need no trainer."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tgscale
from tgscale import cli
from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import open_snapshots, save_snapshots
from tgscale.data.store import open_stream, save_stream
from tgscale.errors import RunError
from tgscale.models.config import ModelConfig
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.trainer import train_snapshots
from tgscale.stream.config import default_config, disttgl_config, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.export import export_stream
from tgscale.stream.trainer import load_config, restore_best, train_stream
from tgscale.train.exported import load_model
from tgscale.train.run_start import load_best

STREAMS = {
    "default": {},
    "pretrained": {"static__mode": "pretrained", "static__epochs": 1, "static__dim": 6, "static__gate": 0.5},
    "features": {"static__mode": "features"},
    "cotrained": {"static__mode": "cotrained"},
    "jodie": {"static__mode": "none", "model": ModelConfig(name="jodie", dim=8)},
    "apan": {"static__mode": "none", "model": ModelConfig(name="apan", dim=8)},
    "tgat": {"static__mode": "none", "model": ModelConfig(name="tgat", dim=8)},
}


def trained(folder, kind):
    stream = generate_stream(events=400, nodes=40, edge_features=2)
    features = np.random.default_rng(0).normal(size=(stream.num_nodes, 3)).astype(np.float32)
    save_stream(tgscale.EventStream(**{**vars(stream), "node_features": features}), folder / "data")
    preset = disttgl_config if kind != "default" else default_config
    changes = {"model__dim": 8, "train__epochs": 1, "train__batch_size": 30, "device": "cpu", "quiet": True}
    changes |= {"static__cache": folder / "cache", **STREAMS[kind]}
    if "model" in changes:
        del changes["model__dim"]
    train_stream(replace(preset(folder / "data", folder / "run"), **changes))
    return folder / "run"


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_model_scores_as_in_the_run(tmp_path, kind):
    run = trained(tmp_path, kind)
    export_stream(run, tmp_path / "out", quiet=True)
    shutil.rmtree(run)  # nothing of it is needed any more
    loaded = load_model(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["data"]["nodes"] == 40
    assert config["result"]["test"]["mrr"] > 0
    assert not loaded.model.training
    assert not loaded.rest
    # By hand: the engine's own walk, with the weights and the memory of the export.
    stream = open_stream(tmp_path / "data")
    options = tgscale.replace(default_config(tmp_path / "data", tmp_path / "new"), model=loaded.model.config)
    engine = StreamEngine(replace(options, device="cpu", train__batch_size=30), stream, torch.device("cpu"), False)
    engine.model = loaded.model
    engine.memory.load_state_dict(loaded.memory)
    later = torch.full((3,), int(stream.time[-1]) + 1)
    batch = engine.builder.queries(torch.tensor([0, 1, 2]), torch.arange(32, 40).repeat(3, 1), later)
    scores = engine.logits(engine.memory.read(batch.block.nodes), batch)
    assert scores.shape == (3, 8)
    assert torch.isfinite(scores).all()


def test_weights_and_memory_are_those_at_the_end_of_the_run(tmp_path):
    run = trained(tmp_path, "default")
    export_stream(run, tmp_path / "out", quiet=True)
    best = load_best(run)
    loaded = load_model(tmp_path / "out")
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, best["model"][name]), name
    engine = StreamEngine(load_config(run), open_stream(tmp_path / "data"), torch.device("cpu"), False)
    restore_best(engine, best)
    engine.evaluate("val")
    engine.evaluate("test")
    for name, tensor in engine.memory.state_dict().items():
        assert torch.equal(tensor, loaded.memory[name]), name


@pytest.mark.parametrize("task", ["regression", "link"])
@pytest.mark.parametrize("model", ["tgcn", "evolvegcn_o", "mpnn_lstm"])
def test_a_snapshot_model_is_the_runs(tmp_path, monkeypatch, model, task):
    save_snapshots(generate_snapshots(nodes=60, snapshots=16, edges=80, features=2), tmp_path / "data")
    config = SnapshotConfig(
        tmp_path / "data", tmp_path / "run", model=model, window=3, task=task, device="cpu", quiet=True
    )
    config.net.hidden, config.train.epochs = 4, 1
    train_snapshots(config)
    monkeypatch.setattr(
        sys, "argv", ["tgscale", "export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--quiet"]
    )
    cli.main()
    loaded = tgscale.load_model(tmp_path / "out")
    engine = SnapshotEngine(config, open_snapshots(tmp_path / "data"))
    engine.modules.load_state_dict(load_best(tmp_path / "run")["modules"])
    assert loaded.model.state_dict().keys() == engine.modules.state_dict().keys()
    before = engine.evaluate("test")
    engine.modules.load_state_dict(loaded.model.state_dict())
    assert engine.evaluate("test") == before
    assert loaded.memory is None


def test_what_is_refused(tmp_path):
    run = trained(tmp_path, "default")
    out = tmp_path / "out"
    export_stream(run, out, quiet=True)
    with pytest.raises(RunError, match="is there already"):
        export_stream(run, out, quiet=True)
    export_stream(run, out, overwrite=True, quiet=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="is no exported model"):
        export_stream(run, tmp_path / "mine", overwrite=True, quiet=True)
    (tmp_path / "mine" / "config.json").write_text('{"model_type": "bert"}')  # of another program
    with pytest.raises(RunError, match="is no exported model"):
        export_stream(run, tmp_path / "mine", overwrite=True, quiet=True)
    (tmp_path / "mine" / "thesis.tex").unlink()
    with pytest.raises(RunError, match="is no exported model"):
        export_stream(run, tmp_path / "mine", overwrite=True, quiet=True)
    (tmp_path / "mine" / "config.json").unlink()
    (out / "notes.txt").write_text("")
    with pytest.raises(RunError, match="holds other files too"):
        export_stream(run, out, overwrite=True, quiet=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is no exported model"):
        export_stream(run, tmp_path / "file", overwrite=True, quiet=True)
    with pytest.raises(RunError, match="is no exported model"):
        load_model(tmp_path / "mine")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(RunError, match="of format 99"):
        load_model(out)
    (out / "config.json").write_text(json.dumps({**config, "model": {**config["model"], "dim": 10}}))
    with pytest.raises(RunError, match=r"are not those of its config\.json"):
        load_model(out)
    (out / "model.safetensors").write_bytes(b"0" * 50)
    with pytest.raises(RunError, match="is damaged"):
        load_model(out)


def test_other_programs_read_it(tmp_path):
    """safetensors and JSON alone, in a process that knows nothing of tgscale."""
    run = trained(tmp_path, "default")
    export_stream(run, tmp_path / "out", quiet=True)
    code = (
        "import sys, safetensors.torch as s; m = s.load_file(sys.argv[1] + '/memory.safetensors'); "
        "assert 'tgscale' not in sys.modules; print(len(m['memory']))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "40"
    assert load_file(tmp_path / "out" / "model.safetensors")
