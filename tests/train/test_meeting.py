"""Ranks are threads here, each with a connection of its own to one store."""

import datetime
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from tgscale.errors import RunError
from tgscale.train.meeting import meet

PATIENCE = datetime.timedelta(seconds=30)


@pytest.fixture
def server():
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def client(server) -> dist.Store:
    return dist.TCPStore("127.0.0.1", server.port, is_master=False)


def meet_all(server, world, delays=None) -> list[dist.Store]:
    """One start: what each rank gets, when they come at different times."""

    def come(rank):
        time.sleep((delays or {}).get(rank, 0))
        return meet(client(server), rank, world, PATIENCE)

    with ThreadPoolExecutor(world) as threads:
        return list(threads.map(come, range(world)))


def test_all_ranks_of_a_start_meet_in_one_place(server):
    stores = meet_all(server, 3)
    stores[1].set("address", "here")
    assert [store.get("address") for store in stores] == [b"here"] * 3


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_later_start_finds_nothing_of_an_earlier_one(server, late):
    before = meet_all(server, 3)
    before[2].set("address", "gone")
    after = meet_all(server, 3, delays={late: 0.3})  # the others see what was left, and must wait for the one
    assert not after[0].check(["address"])
    after[2].set("address", "here")
    assert [store.get("address") for store in after] == [b"here"] * 3
    assert before[0].get("address") == b"gone"


def test_a_start_that_was_broken_off_does_not_matter(server):
    meet_all(server, 2)
    with pytest.raises(RunError):
        meet(client(server), 1, 2, PATIENCE / 100)  # its rank 0 has died
    stores = meet_all(server, 2)
    stores[0].set("address", "here")
    assert stores[1].get("address") == b"here"


def test_who_waits_in_vain_says_so(server):
    with pytest.raises(RunError, match=r"rank 1 has waited 0:00:00\.200000 for the other ranks, in vain: start all 2"):
        meet(client(server), 1, 2, datetime.timedelta(seconds=0.2))
