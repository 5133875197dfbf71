"""What is asked for, and whether a state directory was begun for the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tgscale
from tgscale.data.following import RowOptions
from tgscale.data.reading import find_files
from tgscale.errors import ConfigError
from tgscale.train.options import at_least

TOP_K = 10
PARTS = ("val", "test")


@dataclass(frozen=True)
class Request:
    """What :func:`tgscale.stream.predict.run.predict` is asked for; its arguments say what each is."""

    run: Path
    out: Path
    events: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    candidates: Path | None = None
    top_k: int | None = None
    evaluate: bool = False
    after: str = "test"
    data: Path | None = None
    rows: RowOptions = field(default_factory=RowOptions)
    device: str | None = None
    threads: int | None = None
    save_every: int = 100_000
    state: Path | None = None
    keep_state: bool = False
    overwrite: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        at_least("top_k", self.top_k, 0)
        at_least("save_every", self.save_every, 1)
        if not self.events and not self.queries and self.rows.query is None:
            raise ConfigError(
                "nothing to predict: give --events FILE, or --queries FILE with a source and a time a row."
            )
        if self.rows.query is not None and self.queries:
            raise ConfigError("--query selects events, and --queries is a table of its own: give one of them.")
        if self.evaluate and (self.queries or self.candidates or self.top_k is not None):
            raise ConfigError(
                "--evaluate ranks each event's destination among the run's own negatives, so it does not go with "
                "--queries, --candidates or --top-k: leave them out, or leave it out."
            )
        if self.out.suffix not in (".parquet", ".pq"):
            raise ConfigError(
                f"--out {self.out}: predictions are written as Parquet: give a name that ends in .parquet."
            )

    @property
    def ranks_candidates(self) -> bool:
        """Whether destinations are ranked, beside the one that each event has."""
        return bool(self.queries) or self.candidates is not None or self.top_k is not None

    @property
    def kept(self) -> int | None:
        """How many of the best destinations are written; None for all of them."""
        return TOP_K if self.top_k is None else (self.top_k or None)

    @property
    def folder(self) -> Path:
        """Where the state lies while predictions are made."""
        return self.state or state_beside(self.out)

    @property
    def followed(self) -> Path | None:
        """The kept state of the predictions that these follow; None where they follow a part of the run."""
        return None if self.after in PARTS else Path(self.after)

    @property
    def has_events(self) -> bool:
        return bool(self.events) or self.rows.query is not None

    @property
    def sources(self) -> dict[str, list[Path]]:
        """The files of each kind of rows."""
        given = {"events": self.events, "queries": self.queries, "candidates": self.candidates}
        return {
            name: find_files(source if isinstance(source, Path) else list(source), None)
            for name, source in given.items()
            if source
        }

    def check_places(self) -> None:
        """Refuse sources that are not there, and an output that would be lost or replace one of them.

        Raises:
            TgscaleError: as said.
        """
        out, folder = self.out.resolve(), self.folder.resolve()
        if out == folder or folder in out.parents:
            raise ConfigError(
                f"--out {self.out} lies in the state {self.folder}, which goes when all is done: move it."
            )
        for name, files in self.sources.items():
            if out in [file.resolve() for file in files]:
                raise ConfigError(f"--out {self.out} is the file with the {name}: give another name.")
        if self.followed is not None and self.followed.resolve() == folder:
            raise ConfigError(f"--after and --state are both {self.folder}: give the new state a place of its own.")

    def describe(self, weights: dict[str, Any], followed: str | None) -> dict[str, Any]:
        """All that the predictions depend on: equal for two requests whose predictions are the same.

        Args:
            weights: what tells the run's weights and data from others.
            followed: the digest of the request that these predictions follow.
        """
        rows = dataclasses.asdict(self.rows)
        del rows["memory_limit"]  # more of it may be what an interrupted request needs
        return {
            "tgscale": tgscale.__version__,
            **weights,
            "sources": {
                name: [[str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
                for name, paths in self.sources.items()
            },
            "rows": rows,
            "after": followed or self.after,
            **{name: getattr(self, name) for name in ("top_k", "evaluate", "device", "threads", "save_every")},
        }


def state_beside(out: Path) -> Path:
    """Where the state of predictions lies that are written to ``out``, unless another place was named."""
    return out.with_name(f"{out.name}.state")


def digest(description: dict[str, Any]) -> str:
    """A hash of what :meth:`Request.describe` gave."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
