"""Under load large jobs run one batch at a time, and have a bounded share of the time."""

import pytest

from statsd.jobs.load_shedder import BUSY, LoadShedder

MANY = int(BUSY * 10)
SHARE = 0.75


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
    return LoadShedder(SHARE, clock)


def test_without_load_all_workers_may_run_large_jobs(
    load_shedder: LoadShedder, clock: Clock
) -> None:
    with load_shedder.permit() as first, load_shedder.permit() as second:
        assert first.is_valid
        assert second.is_valid
        clock.now += 10
    with load_shedder.permit() as third:
        assert third.is_valid


def test_a_worker_without_large_jobs_takes_no_permit(load_shedder: LoadShedder) -> None:
    load_shedder.add_load(MANY)
    with load_shedder.permit(wanted=False) as small, load_shedder.permit() as large:
        assert not small.is_valid
        assert large.is_valid


def test_under_load_one_large_job_runs_at_a_time(load_shedder: LoadShedder) -> None:
    load_shedder.add_load(MANY)
    with load_shedder.permit() as first:
        assert first.is_valid
        with load_shedder.permit() as second:
            assert not second.is_valid
        first.release(used=False)
        with load_shedder.permit() as third:
            assert third.is_valid


def test_under_load_large_jobs_have_their_share_of_the_time(
    load_shedder: LoadShedder, clock: Clock
) -> None:
    """Steps of a hundredth of a second, for a minute; each large job takes a tenth."""
    began, worked = clock.now, 0.0
    while clock.now < began + 60:
        load_shedder.add_load(int(BUSY))
        with load_shedder.permit() as permit:
            if permit.is_valid:
                worked += 0.1
                clock.now += 0.1
                load_shedder.add_load(int(10 * BUSY))
            else:
                permit.release(used=False)
        clock.now += 0.01
    share = worked / (clock.now - began)
    assert 0.6 < share <= SHARE


def test_when_the_load_ends_large_jobs_do_not_rest(load_shedder: LoadShedder, clock: Clock) -> None:
    load_shedder.add_load(MANY)
    with load_shedder.permit():
        clock.now += 100
        load_shedder.add_load(MANY)
    with load_shedder.permit() as resting:
        assert not resting.is_valid
    clock.now += 5
    with load_shedder.permit() as free:
        assert free.is_valid


def test_a_cold_start_is_not_postponed(load_shedder: LoadShedder, clock: Clock) -> None:
    load_shedder.is_filling = True
    load_shedder.add_load(MANY)
    with load_shedder.permit():
        clock.now += 1
        with load_shedder.permit() as second:
            assert second.is_valid
