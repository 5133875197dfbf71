"""A public data set by name: fetched, checked, unpacked, imported."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tgscale.data.datasets.fetch import Fetched, Progress, fetch
from tgscale.data.datasets.registry import Dataset, File, find_dataset
from tgscale.data.directory import check_target
from tgscale.data.ingest import ImportReport, import_events
from tgscale.errors import ConfigError, DataError, StoreError

FILE_BAR = Callable[[str], Progress]
"""Makes a progress function for the file of this name."""

MODULES = {"py-tgb": "tgb"}
"""How the packages that an import may need are called in Python."""


@dataclass(frozen=True)
class GetReport:
    """What was done.

    Attributes:
        dataset: the data set.
        files: its files, checked.
        folder: where they lie.
        imported: what the import did; None without one.
        hints: what looks odd.
    """

    dataset: Dataset
    files: list[Fetched]
    folder: Path
    imported: ImportReport | None
    hints: list[str] = field(default_factory=list)


def downloads_folder() -> Path:
    """Where files go unless said otherwise: ``$TGSCALE_DOWNLOADS``, or ``tgscale`` in the user's cache."""
    if folder := os.environ.get("TGSCALE_DOWNLOADS"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tgscale"


def get_dataset(
    name: str,
    out: str | Path | None = None,
    *,
    downloads: str | Path | None = None,
    mirror: str | None = None,
    sha256: str | None = None,
    import_it: bool = True,
    overwrite: bool = False,
    memory_limit: str = "2GB",
    bar: FILE_BAR = lambda name: lambda done, total: None,
    progress: Callable[[str], None] = lambda step: None,
) -> GetReport:
    """Fetch a public data set and import it into a data directory.

    Args:
        name: a name of :data:`tgscale.data.datasets.registry.DATASETS`.
        out: the data directory to make; ``data/NAME`` unless given.
        downloads: folder for the files, below it one per data set; see :func:`downloads_folder`.
        mirror: address of a folder, or a folder, that holds the files under their names; in place of their own address.
        sha256: what the file must have; ``FILE=HEX,FILE=HEX`` for a data set of several files.
        import_it: import it; else only fetch.
        overwrite: replace a data directory that is already there.
        memory_limit: see :func:`tgscale.data.ingest.import_events`.
        bar: makes a progress function for each file.
        progress: is called with a few words at each step of the import, and when a fetch is tried again.

    Raises:
        ConfigError: no such data set, a digest that is none, or an import that needs what is not installed.
        DataError: a file cannot be had, is not what was expected, or cannot be imported.
        StoreError: the target exists, or the disk is full.
    """
    dataset = find_dataset(name)
    out = Path(out) if out is not None else Path("data") / name
    if import_it:
        check_target(out.absolute(), overwrite)  # before the work, not after it
        _refuse_missing(dataset)
    given = parse_digests(sha256, dataset)
    folder = Path(downloads) if downloads is not None else downloads_folder()
    folder = folder / name
    files = [
        fetch(
            _address(file, mirror), folder / file.name,
            sha256=file.sha256, sha1=file.sha1, given=given.get(file.name), progress=bar(file.name), note=progress,
        )
        for file in dataset.files
    ]  # fmt: skip
    if not import_it:
        return GetReport(dataset, files, folder, None)
    source = _source(dataset, folder, files)
    digests = {file.path.name: file.sha256 for file in files}
    about = {"dataset": {"name": name, "urls": [file.url for file in dataset.files], "sha256": digests}}
    report = import_events(
        source, out, name=name, overwrite=overwrite, memory_limit=memory_limit, about=about, progress=progress,
        **dataset.options,
    )  # fmt: skip
    hints = []
    if dataset.events is not None and report.events != dataset.events:
        hints.append(f"{report.events:,} events were imported, {dataset.events:,} is what the source states")
    return GetReport(dataset, files, folder, report, hints)


def parse_digests(text: str | None, dataset: Dataset) -> dict[str, str]:
    """Digests by file name, from ``HEX`` or ``FILE=HEX,FILE=HEX``.

    Raises:
        ConfigError: a digest that is none, or of a file that the data set does not have.
    """
    if text is None:
        return {}
    names = [file.name for file in dataset.files]
    digests = {}
    for part in text.split(","):
        name, _, digest = part.strip().rpartition("=")
        name = name or (names[0] if len(names) == 1 else "")
        if name not in names:
            raise ConfigError(f"--sha256 {part.strip()}: say of which file, {' or '.join(names)}, as FILE=HEX.")
        if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
            raise ConfigError(f"--sha256 {digest!r} is no SHA-256: give its 64 hexadecimal digits.")
        digests[name] = digest.lower()
    return digests


def _refuse_missing(dataset: Dataset) -> None:
    if dataset.needs is not None and find_spec(MODULES[dataset.needs]) is None:
        raise ConfigError(
            f"{dataset.name} is imported by {dataset.needs}, which is not installed: pip install {dataset.needs}, or "
            "fetch the files alone, with --fetch-only."
        )


def _address(file: File, mirror: str | None) -> str:
    if mirror is None:
        return file.url
    if "://" not in mirror:
        mirror = Path(mirror).absolute().as_uri()
    if not mirror.startswith(("http://", "https://", "file://")):
        raise ConfigError(
            f"--mirror {mirror}: give an address that begins with http://, https:// or file://, or a folder."
        )
    return file.from_mirror(mirror)


def _source(dataset: Dataset, folder: Path, files: list[Fetched]) -> Path:
    """What to import: the file, the folder of the files, or what an archive holds."""
    if len(files) > 1 or dataset.format == "tgl":
        return folder
    path = files[0].path
    if path.suffix != ".zip":
        return path
    unpacked = _unpacked(path, files[0].sha256)
    lists = sorted(unpacked.rglob("*_edgelist*.csv"))
    if not lists:
        raise DataError(f"{path} holds no edge list (*_edgelist*.csv): it is not the data set that was expected.")
    return lists[0].parent


def _unpacked(archive: Path, digest: str) -> Path:
    """The folder with the archive's files; unpacked once for each digest."""
    target = archive.with_name(f"{archive.stem}-{digest[:12]}")
    if target.exists():
        return target
    work = archive.with_name(f".{archive.stem}.tmp-{os.getpid()}")
    try:
        with zipfile.ZipFile(archive) as files:
            for entry in files.infolist():
                # extract() keeps every entry below the folder, whatever its name.
                files.extract(entry, work)
        os.replace(work, target)
    except OSError as error:
        if not target.exists():  # else another process was faster
            raise StoreError(f"{archive} cannot be unpacked: {error}.") from error
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{archive} is not a zip archive ({error}): remove it and run the same command again."
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
