"""Installs the systems that tgscale is compared with into an environment of their own, and says which do not install.

    python benchmarks/peers.py --out build/peers [--again] [--write]

What was found is kept in ``OUT/peers.json``; a later call repeats nothing unless ``--again`` is given.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from tables import DOCS, markdown, publish

TORCH = f"torch=={metadata.version('torch').partition('+')[0]}"  # the same for all
LIMIT = 600  # seconds for one of them


@dataclass(frozen=True)
class Peer:
    """A system, and how it gets there.

    Attributes:
        name: as people call it.
        install: argument lists of ``pip install``, one after another.
        check: statements that fail where it does not run.
        note: what is to be known beyond whether it installs.
    """

    name: str
    install: Sequence[Sequence[str]]
    check: str
    note: str = ""


# PyGT needs one type of torch-sparse; both sides of snapshot_peers.py do with a stand-in for it.
STAND_IN = "import sys, types; s = sys.modules['torch_sparse'] = types.ModuleType('torch_sparse'); s.SparseTensor = int"
PEERS = [
    Peer("PyG", [[TORCH, "torch-geometric==2.8.1", "numpy", "pandas"]], "import torch_geometric.nn"),
    Peer("TGM", [["tgm-lib==0.1.0b1"]], "import tgm.nn"),
    Peer(
        "PyTorch Geometric Temporal",
        [["--no-deps", "torch-geometric-temporal==0.56.2"]],
        f"import torch_geometric.nn; {STAND_IN}; import torch_geometric_temporal.nn",
        "without its dependencies, and with a stand-in for torch-sparse, which would have to be compiled",
    ),
    Peer(
        "TGLite",
        [["setuptools", "wheel", "ninja"], ["--no-deps", "--no-build-isolation", "tglite==0.0.2"]],
        "import tglite",
    ),
    Peer(
        "DGL, for TGL",
        [["packaging", "scipy", "requests", "tqdm", "psutil", "setuptools<70"], ["--no-deps", "dgl==1.1.3"]],
        "import dgl",
        "TGL and DistTGL themselves are not packaged, so they are not run here",
    ),
]


@dataclass
class Found:
    """What became of a peer: whether it runs, the version of its package, and else the reason."""

    runs: bool
    package: str
    reason: str = ""


def interpreter(out: Path) -> Path:
    """The interpreter of the environment that the peers live in."""
    return (out / "env" / "bin" / "python").absolute()


def why(printed: str) -> str:
    """The line of a log that says what went wrong: the first error of a compiler, else the last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    said = [line.split("error: ", 1)[1] for line in lines if "error: " in line and "subprocess" not in line]
    return (said or lines or ["no reason given"])[0 if said else -1].removeprefix("#error ")


def attempt(python: Path, peer: Peer) -> Found:
    """Install a peer and see whether it runs."""
    package = peer.install[-1][-1] if len(peer.install) > 1 else peer.install[0][1 if TORCH in peer.install[0] else -1]
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    commands = [*([*pip, *arguments] for arguments in peer.install), [str(python), "-c", peer.check]]
    for command in commands:
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return Found(False, package, f"not ready after {LIMIT} s")
        if done.returncode:
            return Found(False, package, why(done.stdout))
    return Found(True, package)


def install(out: Path, again: bool = False) -> dict[str, Found]:
    """Make the environment and install all peers, unless that was done before."""
    kept = out / "peers.json"
    if kept.exists() and not again:
        return {name: Found(**found) for name, found in json.loads(kept.read_text()).items()}
    if not interpreter(out).exists():
        subprocess.run([sys.executable, "-m", "venv", str(out / "env")], check=True)
    found = {}
    for peer in PEERS:
        print(f"{peer.name} ...", file=sys.stderr, flush=True)
        found[peer.name] = attempt(interpreter(out), peer)
    kept.write_text(json.dumps({name: asdict(one) for name, one in found.items()}, indent=1))
    return found


def table(found: dict[str, Found]) -> str:
    """A line for each peer."""
    notes = {peer.name: peer.note for peer in PEERS}
    rows = [
        [name, one.package, "yes" if one.runs else f"no: {one.reason}", notes.get(name, "")]
        for name, one in found.items()
    ]
    return markdown(["peer", "package", "installs and imports", "note"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--again", action="store_true", help="try all of them again")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    publish(DOCS / "benchmarks.md", "peers", table(install(options.out, options.again)), options.write)


if __name__ == "__main__":
    main()
