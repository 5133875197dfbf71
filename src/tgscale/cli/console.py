"""Where commands print tables and words."""

from __future__ import annotations

from typing import Any

from rich.console import Console


class Output(Console):
    """Prints names of files and data as they are, brackets included, and ends quietly where nobody reads any more."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, **options)

    def on_broken_pipe(self) -> None:
        """Leave it to the command's entry point, as `print` does (``tgscale data info DIR | head``)."""
        raise
