import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.stream.choice import amount, choose_layout, copies_that_fit, copy_bytes, divisors, percent


def test_the_papers_example():
    choice = choose_layout(
        machines=4, trainers_per_machine=8, largest_batch=3200, saturating_batch=1600, copies_per_machine=2
    )
    assert str(choice.layout) == "2x2x8"
    assert (choice.batch_size, choice.global_batch, choice.copies_per_machine) == (1600, 3200, 2)
    assert choice.events_per_iteration == 32 * 1600
    assert "3,200" in choice.reasons["i"]
    assert "4 machines" in choice.reasons["k"]
    assert "32 / (2 x 8)" in choice.reasons["j"]


@pytest.mark.parametrize(
    ("machines", "trainers", "largest", "saturating", "copies", "layout", "batch", "axis", "words"),
    [
        (1, 1, 9999, 10, 5, "1x1x1", 10, "i", "which has 1 trainer"),
        (1, 8, 3200, 1600, 99, "2x1x4", 1600, "k", "as many as its trainers can use (8 / 2)"),
        (1, 8, 3200, 1600, 3, "2x2x2", 1600, "k", "the largest number up to the 3"),
        (1, 8, 3200, 900, 8, "2x1x4", 900, "i", "2 is the largest number up to 3 that divides the 8 trainers"),
        (1, 7, 3200, 1600, 3, "1x7x1", 1600, "i", "1 is the largest number up to 2 that divides the 7 trainers"),
        (1, 7, 99999, 100, 3, "7x1x1", 100, "j", "what remains of 7 trainers: 7 / (7 x 1)"),
        (3, 5, 1600, 1600, 5, "1x1x15", 1600, "i", "once the 1,600"),
        (2, 4, 400, 1600, 4, "1x1x8", 400, "i", "the local batch is reduced to 400"),
        (6, 1, 3200, 1600, 1, "1x1x6", 1600, "k", "each of 6 machines holds 1 copy"),
    ],
)
def test_choices(machines, trainers, largest, saturating, copies, layout, batch, axis, words):
    choice = choose_layout(machines, trainers, largest, saturating, copies)
    assert (str(choice.layout), choice.batch_size) == (layout, batch)
    assert words in choice.reasons[axis]


SMALL = st.integers(1, 40)


@given(SMALL, SMALL, st.integers(1, 10**5), st.integers(1, 10**5), st.integers(1, 50))
def test_what_every_choice_holds_to(machines, trainers, largest, saturating, copies):
    choice = choose_layout(machines, trainers, largest, saturating, copies)
    layout = choice.layout
    assert layout.world == machines * trainers
    assert layout.memory % machines == 0  # each machine has its own copies,
    assert trainers % layout.group_size == 0  # and a group of trainers stays on one
    assert choice.copies_per_machine <= copies
    assert choice.global_batch <= largest
    assert choice.batch_size == min(saturating, largest)
    assert set(choice.reasons) == {"i", "j", "k"}
    # Nothing better was left aside: i before k, k before j.
    for d in divisors(trainers):
        if d > layout.minibatch:
            assert d * choice.batch_size > largest
    for d in divisors(trainers // layout.minibatch):
        if d > choice.copies_per_machine:
            assert d > copies


@pytest.mark.parametrize("numbers", [(0, 1, 1, 1, 1), (1, 0, 1, 1, 1), (1, 1, 0, 1, 1), (1, 1, 1, 0, 1)])
def test_numbers_below_one_are_refused(numbers):
    with pytest.raises(ConfigError, match="1 or more"):
        choose_layout(*numbers)


def test_memory_that_fits_no_copy_says_what_to_change():
    with pytest.raises(ConfigError, match=r"more memory, or a lower model\.dim"):
        choose_layout(2, 4, 100, 100, 0)
    assert copy_bytes(1000, 100) == 1000 * (300 * 4 + 16)
    # Four fifths of the memory, less two copies of each trainer's own.
    assert copies_that_fit(100, trainers=4, memory_bytes=1249) == 1
    assert copies_that_fit(100, trainers=4, memory_bytes=1250) == 2
    with pytest.raises(ConfigError, match=r"takes 3\.00 GB, .* 1 trainer needs 3 .* 3\.20 GB .*80 % of its 4\.00 GB"):
        copies_that_fit(3 * 10**9, trainers=1, memory_bytes=4 * 10**9)


def test_gpus_that_hold_their_copies_leave_main_memory_alone():
    assert copies_that_fit(100, trainers=8, memory_bytes=10, gpu_memory_bytes=400) == 8
    assert copies_that_fit(100, trainers=8, memory_bytes=2375, gpu_memory_bytes=399) == 3


@given(st.integers(1, 3000))
def test_divisors_are_all_there(number):
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]


def test_figures_for_people():
    assert (percent(0.5), percent(0.876)) == ("50 %", "87.6 %")
    assert (amount(11_216_000), amount(64e9)) == ("11.22 MB", "64.00 GB")
