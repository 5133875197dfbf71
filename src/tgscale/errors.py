"""Errors that are meant for the person who made the mistake.

Each message says what was given, what was expected and what to do. The command line prints it without a
traceback and exits with the code of its class.
"""


class TgscaleError(Exception):
    """Base of every error that tgscale raises on purpose."""

    exit_code = 1


class ConfigError(TgscaleError):
    """An option, or a combination of options, that cannot be run."""

    exit_code = 2


class DataError(TgscaleError):
    """Source data that cannot be imported; names the file, the row and the column."""

    exit_code = 3


class StoreError(TgscaleError):
    """A tgscale data directory that is missing, damaged, or of another version."""

    exit_code = 4


class RunError(TgscaleError):
    """A run directory that is in use, incomplete, or does not fit the request."""

    exit_code = 5


class LostPeerError(RunError):
    """A trainer whose connection to another broke: what is said of that one tells why."""


class DivergedError(RunError):
    """A model whose loss or scores are not numbers any more."""
