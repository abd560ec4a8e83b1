"""Large work waits under pressure, for a while; then it goes on, one batch at a time."""

import pytest

from statsd.jobs.load_shedder import BUSY, HELD, LULL, Gate

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
def gate(clock: Clock) -> Gate:
    return Gate(clock)


def test_in_quiet_times_all_may_be_large(gate: Gate) -> None:
    with gate.passing() as first, gate.passing() as second:
        assert first.is_valid
        assert second.is_valid


def test_under_pressure_none_is_until_it_has_lasted_and_then_one_at_a_time(
    gate: Gate, clock: Clock
) -> None:
    gate.press(MANY)
    for _ in range(int(HELD)):
        with gate.passing() as early:
            assert not early.is_valid
        clock.now += 1
        gate.press(MANY)
    with gate.passing() as first, gate.passing() as second:
        assert first.is_valid
        assert not second.is_valid
        first.give_back()
        with gate.passing() as third:
            assert third.is_valid


def test_pressure_fades_and_what_waited_goes_on(gate: Gate, clock: Clock) -> None:
    gate.press(MANY)
    clock.now += 2 * HELD
    with gate.passing() as later, gate.passing() as another:
        assert later.is_valid
        assert another.is_valid
    gate.press(MANY)  # anew: the wait begins again
    clock.now += 0.5
    with gate.passing() as early:
        assert not early.is_valid


def test_a_dip_does_not_let_the_wait_begin_anew(gate: Gate, clock: Clock) -> None:
    refused = 0
    for _ in range(int(2 * HELD / 0.4)):
        gate.press(45)  # about 112 a second, with dips below what counts as busy
        with gate.passing() as each:
            refused += not each.is_valid
        clock.now += 0.4
    assert refused < HELD / 0.4 + 1


def test_who_does_nothing_large_takes_nobody_s_pass(gate: Gate, clock: Clock) -> None:
    for _ in range(int(HELD) + 1):
        gate.press(MANY)
        clock.now += 1
    with gate.passing(wanted=False) as small, gate.passing() as large:
        assert not small.is_valid
        assert large.is_valid


def test_a_few_solves_are_no_pressure(gate: Gate, clock: Clock) -> None:
    for _ in range(1000):
        gate.press(1)
        clock.now += 1 / (BUSY * 0.9)
        with gate.passing() as each:
            assert each.is_valid


def test_a_cold_start_is_held_up_by_nothing(gate: Gate) -> None:
    gate.press(MANY)
    gate.is_filling = True
    with gate.passing() as first, gate.passing() as second:
        assert first.is_valid
        assert second.is_valid


def test_a_pass_is_given_back_once(gate: Gate) -> None:
    gate.press(MANY)
    gate.is_filling = True
    with gate.passing() as first:
        first.give_back()
    gate.is_filling = False
    with gate.passing() as second:
        assert not second.is_valid


def test_what_changes_while_a_cold_start_goes_on_waits_for_its_end(gate: Gate) -> None:
    assert gate.lull == LULL
    gate.is_filling = True
    assert gate.lull == HELD
    gate.is_filling = False
    assert gate.lull == LULL
