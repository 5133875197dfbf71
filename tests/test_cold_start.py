"""The first run of an installation compiles its kernels; the next ones find them. Both are to be the same run."""

import pytest

from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.store import save_stream

from .runs import TGSCALE, Launch, differences_of_runs, lines_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STREAM = ["--model.dim", "100", "--train.batch-size", "300"]
"""At this width the compiler once ordered sums otherwise in what it had just made than in what it had kept."""
SNAPSHOTS = ["--task", "link", "--model", "gclstm"]


@pytest.mark.parametrize("options", [STREAM, SNAPSHOTS], ids=["stream", "snapshots"])
def test_kernels_from_the_cache_compute_what_new_ones_do(tmp_path, options):
    if options is STREAM:
        save_stream(generate_stream(events=3000, nodes=200), tmp_path / "data")
    else:
        save_snapshots(generate_snapshots(nodes=100, snapshots=40, edges=300, features=5), tmp_path / "data")
    words = ["--data", "data", *options, "--train.epochs", "1", "--device", "cpu"]
    for run in ("cold", "warm"):
        launch = Launch(tmp_path, *TGSCALE, "train", "--run", run, *words, NUMBA_CACHE_DIR=str(tmp_path / "kernels"))
        assert launch.end(600) == 0, launch.printed
    runs = (tmp_path / "cold", tmp_path / "warm")
    cold, warm = ([{key: line[key] for key in line if "seconds" not in key} for line in lines_of(run)] for run in runs)
    assert cold == warm
    if options is STREAM:
        assert not differences_of_runs(*runs)
