"""Tables with one row per event: CSV and TSV, Parquet, JSON lines. Columns are found by their usual names."""

from __future__ import annotations

from pathlib import Path

from tgscale.data.formats.delimited import csv_relation, first_lines, plain, read_header
from tgscale.data.formats.source import FILE_COLUMN, Source, sql_list
from tgscale.errors import DataError

SUFFIXES = {
    "csv": (".csv", ".tsv", ".txt"),
    "parquet": (".parquet", ".pq"),
    "json": (".json", ".jsonl", ".ndjson"),
}
COMPRESSED = (".gz", ".zst", ".xz", ".bz2")


def kind_of(file: Path) -> str | None:
    """``"csv"``, ``"parquet"``, ``"json"`` or None, by the file's name."""
    suffix = Path(file.stem).suffix if file.suffix in COMPRESSED else file.suffix
    return next((kind for kind, suffixes in SUFFIXES.items() if suffix.lower() in suffixes), None)


def table_files(paths: list[Path], kind: str | None = None) -> list[Path]:
    """Files to read: a folder stands for the tables in it, in the order of their names."""
    files: list[Path] = []
    for path in paths:
        if path.is_file():
            files.append(path)
        else:
            files += [file for file in sorted(path.iterdir()) if kind_of(file) and kind in (None, kind_of(file))]
    return files


def is_csv(paths: list[Path]) -> bool:
    return _all_of("csv", paths)


def is_parquet(paths: list[Path]) -> bool:
    return _all_of("parquet", paths)


def is_json(paths: list[Path]) -> bool:
    return _all_of("json", paths)


def _all_of(kind: str, paths: list[Path]) -> bool:
    files = table_files(paths)
    return bool(files) and all(kind_of(file) == kind for file in files)


def read_csv(paths: list[Path], work: Path) -> Source:
    files = _some(table_files(paths, "csv"), paths)
    names, delimiter = read_header(files[0])
    for file in files[1:]:
        if read_header(file)[0] != names:
            raise DataError(f"{file} has columns {read_header(file)[0]}, {files[0]} has {names}: import them apart.")
    relation = csv_relation(plain(files, work), names, delimiter)
    return Source("csv", relation, files, text=True, note=f"CSV with columns {', '.join(names[:8])}")


def read_parquet(paths: list[Path], work: Path) -> Source:
    files = _some(table_files(paths, "parquet"), paths)
    return Source("parquet", f"read_parquet({sql_list(files)}, filename='{FILE_COLUMN}')", files, note="Parquet")


def read_json(paths: list[Path], work: Path) -> Source:
    files = _some(table_files(paths, "json"), paths)
    one_per_line = not any("".join(first_lines(file, 1)).lstrip().startswith("[") for file in files)
    # With ignore_errors a line that is no JSON becomes a row of NULLs, which the importer finds and names.
    layout = "format='newline_delimited', ignore_errors=true" if one_per_line else "format='array'"
    # The whole file is looked at for types: a type guessed from the first rows fails at the first exception.
    relation = f"read_json({sql_list(plain(files, work))}, {layout}, sample_size=-1, filename='{FILE_COLUMN}')"
    return Source("json", relation, files, note="JSON, one object per line" if one_per_line else "a JSON array")


def _some(files: list[Path], paths: list[Path]) -> list[Path]:
    for file in files:
        if file.stat().st_size == 0:
            raise DataError(f"{file} is empty: expected a row per event.")
    if not files:
        raise DataError(f"no file to read in {', '.join(map(str, paths))}: name the files, or say their --format.")
    return files
