"""Where a benchmark keeps the large files that it makes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """The folder that was asked for, made and kept; else a temporary one, gone at the end."""
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
