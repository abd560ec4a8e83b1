from typing import Any, ClassVar

import pytest
from hypothesis import given, strategies as st

from statsd.calculators.dojo_stats import DojoStats
from statsd.consistency.reconcile import Reconcile
from statsd.errors import DuplicateError
from statsd.job import Job, Priority, UnknownKindError, parse, register_kind
from statsd.jobs.pending import RECHECK_DELAY, PendingJob, now_and_again


class Pair(Job, frozen=True):
    """A job of two integers, less urgent than others."""

    kind: ClassVar[str] = "pair_of_this_test"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int
    user_id: int


register_kind(Pair)

dojo_ids = st.integers(-(2**31), 2**31 - 1)


@pytest.mark.parametrize(
    ("job", "name"),
    [
        (Reconcile(), "reconcile"),
        (DojoStats(-5), "dojo_stats:-5"),
        (Pair(-5, 7), "pair_of_this_test:-5:7"),
    ],
)
def test_a_job_is_named_by_its_kind_and_its_integers(job: Job, name: str) -> None:
    assert job.name == name
    assert parse(name) == job


@given(dojo_ids, dojo_ids)
def test_a_name_is_parsed_to_the_job_it_came_from(dojo_id: int, user_id: int) -> None:
    for job in (DojoStats(dojo_id), Pair(dojo_id, user_id)):
        parsed = parse(job.name)
        assert type(parsed) is type(job)
        assert parsed == job


def test_jobs_of_equal_names_are_one() -> None:
    assert {DojoStats(1), DojoStats(1), DojoStats(2)} == {DojoStats(1), DojoStats(2)}


def test_a_job_is_made_from_its_integers_in_the_order_of_its_fields() -> None:
    assert Pair.of(1, 2) == Pair(dojo_id=1, user_id=2)


@pytest.mark.parametrize("numbers", [(), (1,), (1, 2, 3)])
def test_a_job_is_not_made_from_too_few_or_too_many_integers(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="argument"):
        Pair.of(*numbers)


@pytest.mark.parametrize("name", ["teleport:1", "teleport", "", ":", "DOJO_STATS:1", "dojo_stats "])
def test_a_name_of_an_unknown_kind_raises_an_error_with_the_kind(name: str) -> None:
    with pytest.raises(UnknownKindError) as unknown:
        parse(name)
    assert repr(name.partition(":")[0]) in str(unknown.value)


def test_a_kind_is_registered_once() -> None:
    class Impostor(Job, frozen=True):
        kind: ClassVar[str] = Pair.kind
        other_id: int

    with pytest.raises(DuplicateError, match=Pair.kind):
        register_kind(Impostor)
    assert parse("pair_of_this_test:1:2") == Pair(1, 2)


def packed(name: str, priority: int, delay: int) -> dict[str, Any]:
    return {"name": name, "class": priority, "delay": delay}


def test_a_job_is_packed_as_name_class_and_microseconds() -> None:
    assert PendingJob(Pair(1, 2)).packed() == packed("pair_of_this_test:1:2", 3, 0)
    assert PendingJob(DojoStats(5), 2.5).packed() == packed("dojo_stats:5", 1, 2_500_000)


@pytest.mark.parametrize("priority", Priority)
def test_a_pending_job_may_have_another_class_than_its_kind(priority: Priority) -> None:
    found = PendingJob(Pair(1, 2), priority=priority).packed()
    assert found == packed("pair_of_this_test:1:2", int(priority), 0)
    assert all(type(part) in {str, int} for part in found.values())


def test_python_and_lua_have_the_same_classes() -> None:
    assert [(priority.name, int(priority)) for priority in Priority] == [
        ("MISSED", 0),
        ("INTERACTIVE", 1),
        ("ORDINARY", 2),
        ("EXPORT", 3),
        ("BACKGROUND", 4),
        ("IDLE", 5),
    ]


def test_jobs_of_an_uncommitted_change_are_enqueued_now_and_again_later() -> None:
    jobs = list(now_and_again([DojoStats(1), DojoStats(2)]))
    later = int(RECHECK_DELAY * 1_000_000)
    assert [job.packed() for job in jobs] == [
        packed("dojo_stats:1", 1, 0),
        packed("dojo_stats:1", 1, later),
        packed("dojo_stats:2", 1, 0),
        packed("dojo_stats:2", 1, later),
    ]
