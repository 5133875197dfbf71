"""The table of public data sets: addresses, digests, and how each is imported.

A digest stands here where a copy of the very file could be looked at: its rows are those that others publish, and its
gzip header has the time at which SNAP packed it (bitcoin-otc also has the SHA-1 that DGL's loader pins). For the other
files the first fetch is trusted: see :mod:`tgscale.data.datasets.fetch`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tgscale.errors import ConfigError

JODIE = "http://snap.stanford.edu/jodie"
SNAP = "https://snap.stanford.edu/data"
TGL = "https://s3.us-west-2.amazonaws.com/dgl-data/dataset/tgl"
TGB = "https://object-arbutus.alliancecan.ca/swift/v1/14c95234f6cd4a21a47deafe20cce2a7/tgb"


@dataclass(frozen=True)
class File:
    """A file of a data set.

    Attributes:
        url: where it lies.
        sha256, sha1: digests, in hex; None where none is known.
    """

    url: str
    sha256: str | None = None
    sha1: str | None = None

    @property
    def name(self) -> str:
        """Its name on disk: the last part of the address."""
        return PurePosixPath(urlsplit(self.url).path).name

    def from_mirror(self, mirror: str) -> str:
        """Its address in a folder elsewhere that holds it under the same name."""
        return f"{mirror.rstrip('/')}/{self.name}"


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: how it is called here.
        about: what its events are.
        files: all are needed.
        home: a page that describes it, and its licence.
        events: number of events as its source states it; None where that is not clear.
        options: of :func:`tgscale.data.ingest.import_events`.
        needs: another package that the import needs, or None.
    """

    name: str
    about: str
    files: tuple[File, ...]
    home: str
    events: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None

    @property
    def format(self) -> str:
        """Its format."""
        return str(self.options["format"])


def _jodie(name: str, about: str, events: int, time_unit: str = "s") -> Dataset:
    home = "https://snap.stanford.edu/jodie/"
    return Dataset(
        name, about, (File(f"{JODIE}/{name}.csv"),), home, events, {"format": "jodie", "time_unit": time_unit}
    )


def _snap(name: str, file: str, about: str, events: int, page: str | None = None, **options: Any) -> Dataset:
    home = f"{SNAP}/{page or file.split('.')[0]}.html"
    digests = {kind: options.pop(kind, None) for kind in ("sha256", "sha1")}
    return Dataset(name, about, (File(f"{SNAP}/{file}", **digests),), home, events, {"format": "snap"} | options)


def _tgl(name: str, about: str, files: tuple[str, ...], events: int | None = None, **options: Any) -> Dataset:
    folder = name.removeprefix("tgl-").upper()
    home = "https://github.com/amazon-science/tgl"
    found = tuple(File(f"{TGL}/{folder}/{file}") for file in files)
    return Dataset(name, about, found, home, events, {"format": "tgl"} | options)


def _tgb(name: str, about: str, version: str = "") -> Dataset:
    file = File(f"{TGB}/{name}{version}.zip")
    return Dataset(name, about, (file,), "https://tgb.complexdatalab.com/", None, {"format": "tgb"}, needs="py-tgb")


ALL = ("edges.csv", "edge_features.pt", "labels.csv")
DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        _jodie("wikipedia", "edits of Wikipedia pages, 172 features; label: user banned", 157_474),
        _jodie("reddit", "posts in subreddits, 172 features; label: user banned", 672_447, "ms"),
        _jodie("mooc", "actions of students in a course, 4 features; label: drops out", 411_749),
        _jodie("lastfm", "songs that users listen to", 1_293_103),
        _snap(
            "collegemsg", "CollegeMsg.txt.gz", "messages in a student network", 59_835,
            sha256="50ae2d98ed3bad9ddb18dbd495a89e5e10cfb8f7e86932827db29fc41b41f9fa",
        ),
        _snap(
            "email-eu", "email-Eu-core-temporal.txt.gz", "mails in a research institution", 332_334,
            sha256="f6cc93249978e59d1aba111b55ea10ec553917419a3be1210012b5db3580efa6",
        ),
        _snap(
            "mathoverflow", "sx-mathoverflow.txt.gz", "answers and comments on MathOverflow", 506_550,
            sha256="cdc635fda76dab06ab02ca242563fa333bb83d096571342ef0326d85ff0c04da",
        ),
        _snap("askubuntu", "sx-askubuntu.txt.gz", "answers and comments on Ask Ubuntu", 964_437),
        _snap("superuser", "sx-superuser.txt.gz", "answers and comments on Super User", 1_443_339),
        _snap("stackoverflow", "sx-stackoverflow.txt.gz", "answers and comments on Stack Overflow", 63_497_050),
        _snap("wiki-talk", "wiki-talk-temporal.txt.gz", "edits of Wikipedia's talk pages", 7_833_140),
        _snap(
            "bitcoin-otc", "soc-sign-bitcoinotc.csv.gz", "ratings of trust, -10 to 10, as the edge feature", 35_592,
            "soc-sign-bitcoin-otc", time_unit="us",
            sha256="6424ac981dad3a019f697fc1b9fcd85c19d8d9f039797758e9ffb6fea100c373",
            sha1="c14281f9e252de0bd0b5f1c6e2bae03123938641",
        ),
        _snap(
            "bitcoin-alpha", "soc-sign-bitcoinalpha.csv.gz", "ratings of trust, -10 to 10, as the edge feature", 24_186,
            "soc-sign-bitcoin-alpha", time_unit="us",
        ),
        _tgl("tgl-wiki", "wikipedia as TGL splits it", ALL, 157_474),
        _tgl("tgl-reddit", "reddit as TGL splits it", ALL, 672_447, time_unit="ms"),
        _tgl("tgl-mooc", "mooc as TGL splits it", ("edges.csv",), 411_749),
        _tgl("tgl-lastfm", "lastfm as TGL splits it", ("edges.csv",), 1_293_103),
        _tgl("tgl-gdelt", "world events from news; very large", ("edges.csv", "edge_features.pt", "node_features.pt")),
        _tgl("tgl-mag", "citations; very large", ("edges.csv", "node_features.pt")),
        _tgb("tgbl-wiki", "edits of Wikipedia pages, with TGB's split and negatives", "-v2"),
        _tgb("tgbl-uci", "messages in a student network"),
        _tgb("tgbl-enron", "mails of a company"),
        _tgb("tgbl-lastfm", "songs that users listen to"),
        _tgb("tgbl-subreddit", "posts in subreddits"),
        _tgb("tgbl-review", "reviews of products", "-v2"),
        _tgb("tgbl-coin", "transfers of stable coins", "-v2"),
        _tgb("tgbl-comment", "replies on Reddit"),
        _tgb("tgbl-flight", "flights between airports", "-v2"),
        _tgb("thgl-software", "actions on GitHub; the label is the type of the edge"),
        _tgb("thgl-forum", "posts and replies on Reddit; the label is the type of the edge"),
        _tgb("thgl-myket", "installations and updates of apps; the label is the type of the edge"),
        _tgb("thgl-github", "actions on GitHub; the label is the type of the edge"),
    )
}  # fmt: skip


def find_dataset(name: str) -> Dataset:
    """The data set of this name.

    Raises:
        ConfigError: none has it; the message gives the nearest.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no data set is called {name!r}.{hint} `tgscale data list` prints them all.")
    return DATASETS[name]
