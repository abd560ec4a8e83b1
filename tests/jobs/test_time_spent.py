"""The duration of each job when answers come in parts."""

import pytest

from statsd.jobs.parts import TimeSpent


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_the_time_of_a_single_part_is_shared_by_all_jobs() -> None:
    clock = Clock()
    spent = TimeSpent(4, clock)
    clock.seconds += 2
    assert spent.on(4) == pytest.approx(0.5)


def test_a_later_part_costs_its_share_of_the_first_and_its_own_time() -> None:
    clock = Clock()
    spent = TimeSpent(4, clock)
    clock.seconds += 2
    assert spent.on(1) == pytest.approx(0.5)
    clock.seconds += 10  # while the answer is written
    spent.go_on()
    clock.seconds += 1
    assert spent.on(1) == pytest.approx(1.5)
    spent.go_on()
    clock.seconds += 1
    assert spent.on(2) == pytest.approx(1.0)
