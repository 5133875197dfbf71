"""The folder in which a page's blocks run, with small files under the names that pages use."""

import gzip
import json
import lzma
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np

from .pages import ROOT

EVENTS = ["--events", "2000", "--nodes", "120", "--edge-features", "4", "--seed", "1"]
SNAPSHOTS = ["--nodes", "60", "--snapshots", "24", "--edges", "60"]
SNAPSHOT_DATA = ("data/slides", "data/mail", "data/daily", "data/snapshots")
SECONDS = 600  # far more than any block takes: for machines that do much else


def environment(folder: Path) -> dict[str, str]:
    """Environment of the blocks: the commands of this Python, one thread, and no home but the folder."""
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = {**os.environ, "PATH": commands, "COLUMNS": "120", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    found |= {"XDG_CACHE_HOME": str(folder / ".cache"), "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT / "src")}
    return {name: value for name, value in found.items() if name not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}


def tgscale(folder: Path, *words: str) -> None:
    """Run the command in a folder; it must succeed."""
    command = [sys.executable, "-m", "tgscale", *words]
    run = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == 0, f"{' '.join(words)}: {run.stderr}"


def raw_files(folder: Path) -> None:
    """Sources as a user has them; all of them lie there for every page."""
    generator = np.random.default_rng(0)
    with duckdb.connect() as database:
        database.execute("SELECT setseed(0.5)")
        database.execute(
            """
            CREATE TABLE event AS SELECT
                'u' || CAST(floor(60 * random() * random()) AS INT) AS user,
                'i' || CAST(floor(40 * random() * random()) AS INT) AS item,
                TIMESTAMP '2024-01-01' + INTERVAL 41 MINUTE * range AS "when",
                CAST(10 * random() AS DECIMAL(5, 2)) AS f0,
                CAST(range % 2 AS INT) AS f1,
                CAST(range % 9 = 0 AS INT) AS label
            FROM range(2000)"""
        )
        for file, query in {
            "events.csv": "SELECT * EXCLUDE label FROM event",
            "contacts.csv": """
                SELECT "user" AS src, item AS dst, epoch("when")::BIGINT AS time, f1 + label AS kind FROM event""",
            "mail.parquet": """
                SELECT "user" AS sender, item AS receiver, "when" AS time, month("when") AS month FROM event""",
            "log.csv": """
                SELECT "user" || '@example.org' AS sender, upper(item) AS receiver, "when" AS sent FROM event""",
            "x.parquet": 'SELECT "user" AS a, item AS b, epoch("when")::BIGINT AS t, f1::INT * 3 AS kind FROM event',
            "links.csv": 'SELECT DISTINCT "user" AS src, item AS dst, f1::INT AS first, f1::INT + 3 AS last FROM event',
            "wikipedia.csv": """
                SELECT substr("user", 2) AS user_id, substr(item, 2) AS item_id, epoch("when")::BIGINT AS timestamp,
                    label AS state_label, f0, f1
                FROM event""",
        }.items():
            kind = "PARQUET" if file.endswith("parquet") else "CSV"
            database.execute(f"COPY ({query}) TO '{folder / file}' (FORMAT {kind})")
        # What happens after the events of events.csv, and whom is asked about.
        database.execute(
            """
            CREATE TABLE later AS SELECT
                'u' || CAST(floor(60 * random() * random()) AS INT) AS user,
                'i' || CAST(floor(40 * random() * random()) AS INT) AS item,
                TIMESTAMP '2024-01-01' + INTERVAL 41 MINUTE * range AS "when",
                CAST(10 * random() AS DECIMAL(5, 2)) AS f0,
                CAST(range % 2 AS INT) AS f1
            FROM range(2000, 2200)"""
        )
        database.execute(f"COPY later TO '{folder / 'new.csv'}'")
        for file, rows in {"monday.csv": "LIMIT 120", "tuesday.csv": "OFFSET 120"}.items():
            database.execute(f"COPY (FROM later {rows}) TO '{folder / file}'")
        asked = """SELECT DISTINCT "user", TIMESTAMP '2024-03-10' AS "when" FROM later"""
        database.execute(f"COPY ({asked}) TO '{folder / 'who-when.csv'}'")
    databases(folder)
    mirror(folder)
    steps, nodes = 240, 12
    adjacency = (generator.random((nodes, nodes)) < 0.3).astype(np.float32)
    np.savez(folder / "metr_la.npz", speed=generator.random((steps, nodes), np.float32), adj=adjacency)
    series = np.cumsum(generator.normal(size=(30, 4)), axis=0).round(3)
    edges = [[0, 1], [1, 2], [2, 3], [3, 0]]
    (folder / "chickenpox.json").write_text(json.dumps({"edges": edges, "node_ids": {}, "FX": series.tolist()}))
    changing = {str(step): edges for step in range(30)}
    weights = {str(step): [1.0, 2.0, 3.0, 4.0] for step in range(30)}
    mapping = {"edge_index": changing, "edge_weight": weights}
    covid = {"edge_mapping": mapping, "time_periods": 30, "y": series.tolist()}
    (folder / "england_covid.json.xz").write_bytes(lzma.compress(json.dumps(covid).encode()))


def databases(folder: Path) -> None:
    """A shop's sales, as SQLite and, with a second table, as DuckDB."""
    sales = [(f"b{i % 20}", f"s{i % 7}", 1_700_000_000 + 60 * i) for i in range(500)]
    for file, connect in {"shop.sqlite": sqlite3.connect, "shop.duckdb": duckdb.connect}.items():
        database = connect(str(folder / file))
        database.execute("CREATE TABLE sales (buyer VARCHAR, shop VARCHAR, moment BIGINT)")
        database.executemany("INSERT INTO sales VALUES (?, ?, ?)", sales)
        if file == "shop.duckdb":
            database.execute("CREATE TABLE shops AS SELECT DISTINCT shop, 'city of ' || shop AS city FROM sales")
        database.commit()
        database.close()


def mirror(folder: Path) -> None:
    """A folder with the files of public data sets."""
    (folder / "usb").mkdir()
    for name in ("wikipedia.csv", "mooc.csv"):
        shutil.copy(folder / "wikipedia.csv", folder / "usb" / name)
    rows = "".join(f"{i % 50} {i % 37 + 50} {60 * i}\n" for i in range(2000))
    (folder / "usb" / "CollegeMsg.txt.gz").write_bytes(gzip.compress(rows.encode()))


def make(folder: Path, name: str) -> None:
    """Make what a page calls for: a data directory, a run, or a file that a command writes."""
    kind = name.partition("/")[0]
    if name in SNAPSHOT_DATA:
        tgscale(folder, "data", "generate", "snapshots", "--out", name, *SNAPSHOTS)
    elif kind == "data":
        tgscale(folder, "data", "generate", "stream", "--out", name, *EVENTS)
    elif kind == "runs":
        tgscale(folder, "train", "--data", "data/mine", "--run", name, "--train.epochs", "2", "--quiet")
    else:
        raise AssertionError(f"`given` knows data/NAME and runs/NAME (of data/mine), and not {name!r}")


class Shelf:
    """Makes each thing that pages call for once, and copies it to their folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw = folder / "raw"

    def lay_out(self, desk: Path) -> None:
        """Fill an empty folder with what every page finds."""
        if not self.raw.exists():
            self.raw.mkdir()
            raw_files(self.raw)
        shutil.copytree(self.raw, desk, dirs_exist_ok=True)
        for name in ("benchmarks", "examples", "constraints.txt"):
            if (ROOT / name).exists():
                (desk / name).symlink_to(ROOT / name)

    def give(self, desk: Path, name: str) -> None:
        """Lay one thing into a folder, unless it is there."""
        if name.startswith("runs/"):
            self.give(desk, "data/mine")
        if (desk / name).exists():
            return
        made = self.folder / "made"
        if not (made / name).exists():
            made.mkdir(exist_ok=True)
            if name.startswith("runs/") and not (made / "data/mine").exists():
                make(made, "data/mine")
            make(made, name)
        shutil.copytree(made / name, desk / name)
        if name.startswith("runs/"):  # whose options name the data by their whole path
            options = desk / name / "config.yaml"
            options.write_text(options.read_text().replace(str(made), str(desk)))


DRIVER = """
import json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    file, first, code = json.loads(line)
    try:
        exec(compile("\\n" * first + code, file, "exec"), names)
        failed = ""
    except BaseException:
        failed = traceback.format_exc()
    sys.stdout.flush()
    print("\\0" + json.dumps(failed), flush=True)
"""


class Desk:
    """A reader's folder, shell and Python, as they go through a page.

    Args:
        folder: empty; it is where everything runs.
        shelf: where what is given comes from.
    """

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self.folder, self.shelf = folder, shelf
        folder.mkdir(parents=True)
        shelf.lay_out(folder)
        self._exported = folder.parent / f"{folder.name}.environment"
        self._python: subprocess.Popen[str] | None = None

    def bash(self, script: str, exit_code: int = 0) -> str:
        """Run a block in a shell that stops at the first error; what it exports is there for the next.

        Returns:
            All that it printed.

        Raises:
            AssertionError: it ended otherwise than with the exit code.
        """
        kept = f"trap 'export -p > {self._exported}' EXIT\n"
        if self._exported.exists():
            kept = f"source {self._exported}\n{kept}"
        run = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", kept + script],
            cwd=self.folder,
            env=environment(self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=SECONDS,
        )
        assert run.returncode == exit_code, f"ended with {run.returncode}, not {exit_code}:\n{run.stdout[-4000:]}"
        return run.stdout

    def python(self, code: str, file: str, line: int) -> str:
        """Run a block in the one Python of the page: names of earlier blocks are there.

        Raises:
            AssertionError: it raised something.
        """
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", DRIVER],
                cwd=self.folder,
                env=environment(self.folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        process = self._python
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([file, line, code]) + "\n")
        process.stdin.flush()
        printed = []
        for printed_line in process.stdout:
            if printed_line.startswith("\0"):
                failed = json.loads(printed_line[1:])
                assert not failed, f"raised:\n{failed}\nand printed:\n{''.join(printed)[-2000:]}"
                return "".join(printed)
            printed.append(printed_line)
        raise AssertionError(f"Python ended:\n{''.join(printed)[-4000:]}")

    def close(self) -> None:
        """End Python and remove the folder."""
        if self._python is not None:
            self._python.kill()
            self._python.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
