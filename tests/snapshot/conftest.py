from pathlib import Path

import pytest

from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.snapshot.config import SnapshotConfig, replace


@pytest.fixture(scope="session")
def slides(tmp_path_factory) -> Path:
    """A small data directory of changing snapshots with a target that neighbors help to predict."""
    path = tmp_path_factory.mktemp("slides") / "data"
    save_snapshots(generate_snapshots(nodes=40, snapshots=30, edges=80, change=10, skew=1.0, seed=0, features=3), path)
    return path


@pytest.fixture
def make_config(slides, tmp_path):
    """Options of a quick run; a dotted option is written with two underscores."""

    def make(**changes) -> SnapshotConfig:
        quick = {
            "window": 4,
            "groups_per_step": 5,
            "executor": "serial",
            "costs": "sizes",
            "quiet": True,
            "device": "cpu",
            "net__hidden": 8,
            "train__epochs": 2,
            "train__edges_per_step": 30,
            "eval__edges_per_step": 30,
            "eval__negatives": 9,
        }
        return replace(SnapshotConfig(slides, tmp_path / "run"), **{**quick, **changes})

    return make
