"""Processes that the tests of this folder share."""

import pytest

from .team import Team


def _team(world, factory):
    team = Team(world, factory.mktemp(f"team{world}"))
    yield team
    team.close()


@pytest.fixture(scope="session")
def two(tmp_path_factory):
    yield from _team(2, tmp_path_factory)


@pytest.fixture(scope="session")
def three(tmp_path_factory):
    yield from _team(3, tmp_path_factory)


@pytest.fixture(params=["two", "three"])
def team(request):
    """Two processes, and three."""
    return request.getfixturevalue(request.param)
