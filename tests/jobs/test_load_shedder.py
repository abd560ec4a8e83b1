"""Large jobs wait under load, for up to a minute; then they run one batch at a time."""

import pytest

from statsd.jobs.load_shedder import BUSY, DEBOUNCE, LONGEST_WAIT, LoadShedder

MANY = int(BUSY * 10)


class Clock:
    """A clock that the test moves."""

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


def test_without_load_all_workers_may_run_large_jobs(load_shedder: LoadShedder) -> None:
    with load_shedder.permit() as first, load_shedder.permit() as second:
        assert first.is_valid
        assert second.is_valid


def test_under_load_large_jobs_wait_and_then_run_one_at_a_time(
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
        first.release()
        with load_shedder.permit() as third:
            assert third.is_valid


def test_when_the_load_ends_large_jobs_run_again(load_shedder: LoadShedder, clock: Clock) -> None:
    load_shedder.add_load(MANY)
    clock.now += 2 * LONGEST_WAIT
    with load_shedder.permit() as delayed, load_shedder.permit() as another:
        assert delayed.is_valid
        assert another.is_valid
    load_shedder.add_load(MANY)  # load again: a new wait begins
    clock.now += 0.5
    with load_shedder.permit() as early:
        assert not early.is_valid


def test_a_dip_in_the_load_does_not_restart_the_wait(
    load_shedder: LoadShedder, clock: Clock
) -> None:
    refused = 0
    for _ in range(int(2 * LONGEST_WAIT / 0.4)):
        load_shedder.add_load(45)  # about 112 a second, with dips below BUSY
        with load_shedder.permit() as each:
            refused += not each.is_valid
        clock.now += 0.4
    assert refused < LONGEST_WAIT / 0.4 + 1


def test_a_worker_without_large_jobs_uses_no_permit(
    load_shedder: LoadShedder, clock: Clock
) -> None:
    for _ in range(int(LONGEST_WAIT) + 1):
        load_shedder.add_load(MANY)
        clock.now += 1
    with load_shedder.permit(wanted=False) as small, load_shedder.permit() as large:
        assert not small.is_valid
        assert large.is_valid


def test_a_few_solves_are_no_load(load_shedder: LoadShedder, clock: Clock) -> None:
    for _ in range(1000):
        load_shedder.add_load(1)
        clock.now += 1 / (BUSY * 0.9)
        with load_shedder.permit() as each:
            assert each.is_valid


def test_load_does_not_delay_a_cold_start(load_shedder: LoadShedder) -> None:
    load_shedder.add_load(MANY)
    load_shedder.is_filling = True
    with load_shedder.permit() as first, load_shedder.permit() as second:
        assert first.is_valid
        assert second.is_valid


def test_a_permit_is_returned_once(load_shedder: LoadShedder) -> None:
    load_shedder.add_load(MANY)
    load_shedder.is_filling = True
    with load_shedder.permit() as first:
        first.release()
    load_shedder.is_filling = False
    with load_shedder.permit() as second:
        assert not second.is_valid


def test_changes_during_a_cold_start_wait_for_its_end(
    load_shedder: LoadShedder,
) -> None:
    assert load_shedder.debounce == DEBOUNCE
    load_shedder.is_filling = True
    assert load_shedder.debounce == LONGEST_WAIT
    load_shedder.is_filling = False
    assert load_shedder.debounce == DEBOUNCE
