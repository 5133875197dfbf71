"""Engines and streams, as in the tests of the stream engine."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def streams():
    """The module that makes them."""
    path = Path(__file__).parents[1] / "stream" / "conftest.py"
    spec = importlib.util.spec_from_file_location("stream_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
