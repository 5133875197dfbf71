import pytest

from tgscale.memory.order import WriteOrder


def test_a_position_is_over_when_all_have_written_and_its_writes_come_by_member():
    order = WriteOrder(4)
    order.add(4, 1, "b", writers=2, reset=True)
    assert order.take() is None
    assert order.next == 4
    order.add(4, 0, "a", writers=2, reset=True)
    assert order.take() == (True, ["a", "b"])
    assert order.next == 5
    assert order.take() is None


def test_a_later_position_waits_for_an_earlier_one():
    order = WriteOrder()
    order.add(1, 1, "later", writers=1, reset=False)
    assert order.take() is None
    order.add(0, 0, "earlier", writers=1, reset=False)
    assert [order.take(), order.take(), order.take()] == [(False, ["earlier"]), (False, ["later"]), None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, "x", 2, False), "is over: 1 is the next"),
        ((1, 0, "x", 2, False), "writes twice"),
        ((1, 1, "x", 3, False), "3 writers, reset False; another member says: 2 writers, reset False"),
        ((1, 1, "x", 2, True), "2 writers, reset True; another member says: 2 writers, reset False"),
    ],
)
def test_a_broken_order_is_told(arguments, message):
    order = WriteOrder(1)
    order.add(1, 0, "x", writers=2, reset=False)
    with pytest.raises(RuntimeError, match=message):
        order.add(*arguments)


def test_no_restart_amid_writes():
    order = WriteOrder()
    order.add(3, 0, "x", writers=1, reset=False)
    with pytest.raises(RuntimeError, match="while position 3 is being written"):
        order.restart(7)
