"""Large work waits under pressure, for a while; then it goes on, one batch at a time."""

import pytest

from statsd.jobs.load_shedder import BUSY, DEBOUNCE, LONGEST_WAIT, LoadShedder

MANY = int(BUSY * 10)


class Clock:
    """Time, which the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load_shedder(clock: Clock) -> LoadShedder:
    return LoadShedder(clock)


def test_in_quiet_times_all_may_be_large(load_shedder: LoadShedder) -> None:
    with load_shedder.permit() as first, load_shedder.permit() as second:
        assert first.is_valid
        assert second.is_valid


def test_under_pressure_none_is_until_it_has_lasted_and_then_one_at_a_time(
    load_shedder: LoadShedder, clock: Clock
) -> None:
    load_shedder.add_load(MANY)
    for _ in range(int(LONGEST_WAIT)):
        with load_shedder.permit() as early:
            assert not early.is_valid
        clock.now += 1
        load_shedder.add_load(MANY)
    with load_shedder.permit() as first, load_shedder.permit() as second:
        assert first.is_valid
        assert not second.is_valid
        first.give_back()
        with load_shedder.permit() as third:
            assert third.is_valid


def test_pressure_fades_and_what_waited_goes_on(load_shedder: LoadShedder, clock: Clock) -> None:
    load_shedder.add_load(MANY)
    clock.now += 2 * LONGEST_WAIT
    with load_shedder.permit() as delayed, load_shedder.permit() as another:
        assert delayed.is_valid
        assert another.is_valid
    load_shedder.add_load(MANY)  # anew: the wait begins again
    clock.now += 0.5
    with load_shedder.permit() as early:
        assert not early.is_valid


def test_a_dip_does_not_let_the_wait_begin_anew(load_shedder: LoadShedder, clock: Clock) -> None:
    refused = 0
    for _ in range(int(2 * LONGEST_WAIT / 0.4)):
        load_shedder.add_load(45)  # about 112 a second, with dips below what counts as busy
        with load_shedder.permit() as each:
            refused += not each.is_valid
        clock.now += 0.4
    assert refused < LONGEST_WAIT / 0.4 + 1


def test_who_does_nothing_large_takes_nobody_s_pass(
    load_shedder: LoadShedder, clock: Clock
) -> None:
    for _ in range(int(LONGEST_WAIT) + 1):
        load_shedder.add_load(MANY)
        clock.now += 1
    with load_shedder.permit(wanted=False) as small, load_shedder.permit() as large:
        assert not small.is_valid
        assert large.is_valid


def test_a_few_solves_are_no_pressure(load_shedder: LoadShedder, clock: Clock) -> None:
    for _ in range(1000):
        load_shedder.add_load(1)
        clock.now += 1 / (BUSY * 0.9)
        with load_shedder.permit() as each:
            assert each.is_valid


def test_a_cold_start_is_held_up_by_nothing(load_shedder: LoadShedder) -> None:
    load_shedder.add_load(MANY)
    load_shedder.is_filling = True
    with load_shedder.permit() as first, load_shedder.permit() as second:
        assert first.is_valid
        assert second.is_valid


def test_a_pass_is_given_back_once(load_shedder: LoadShedder) -> None:
    load_shedder.add_load(MANY)
    load_shedder.is_filling = True
    with load_shedder.permit() as first:
        first.give_back()
    load_shedder.is_filling = False
    with load_shedder.permit() as second:
        assert not second.is_valid


def test_what_changes_while_a_cold_start_goes_on_waits_for_its_end(
    load_shedder: LoadShedder,
) -> None:
    assert load_shedder.debounce == DEBOUNCE
    load_shedder.is_filling = True
    assert load_shedder.debounce == LONGEST_WAIT
    load_shedder.is_filling = False
    assert load_shedder.debounce == DEBOUNCE
