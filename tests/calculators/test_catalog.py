"""The catalog: the cost of each statistic, the order of a cold start, and affected jobs."""

import pytest
from redis.asyncio import Redis

from statsd.boards.executors import statistics_of
from statsd.calculators import Input
from statsd.calculators.activity import Activity
from statsd.calculators.belts import Belts
from statsd.calculators.catalog import COLD_START, STATISTICS, affected, calculator_of
from statsd.calculators.dojo_arrays import PARTS, Boards, Exports
from statsd.calculators.dojo_check import DojoCheck, RecordsCheck
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.emojis import Emojis
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job
from statsd.servers.database import Database

URL = "postgresql+asyncpg://nobody@127.0.0.1:1/none"  # nothing is connected

COSTS: dict[str, tuple[int, int, bool, float | None, float | None]] = {
    # kind: batch, part, whether it is large, cooldown after 0 s and after 0.3 s
    "boards": (40, 0, True, 0.5, 3.0),
    "belts": (1, 0, False, None, 3.0),
    "emojis": (1, 0, False, None, 3.0),
    "activity": (5000, 250, True, None, None),
    "dojo_stats": (100, 0, False, None, None),
}

# Jobs without values of their own; an export says itself how long it rests.
STEPS: dict[str, tuple[int, bool, float | None, float | None]] = {
    UserEntries.kind: (1000, False, None, None),
    Exports.kind: (20, True, None, None),
    DojoCheck.kind: (20, False, None, None),
    RecordsCheck.kind: (1, False, None, 3.0),
    **{part.job.kind: (100, False, None, None) for part in PARTS},
}

AFFECTED: dict[Input, list[Job]] = {
    Input.STRUCTURE: [DojoCheck(1), DojoStats(1), Emojis()],
    Input.SOLVES: [UserEntries(1, 2), Activity(2)],
    Input.USERS: [UserEntries(1, 2), Activity(2), Belts(), Emojis()],
    Input.BELTS: [Belts()],
    Input.EMOJIS: [Emojis()],
    Input.AWARDS: [Belts(), Emojis()],
    Input.BOARDS: [Boards(1), DojoStats(1)],
}


@pytest.mark.parametrize("kind", COSTS)
async def test_the_cost_of_a_statistic_decides_how_it_is_executed(kind: str) -> None:
    database = Database(URL, pool_size=1, statement_timeout=1, prepared_statements=False)
    executor = statistics_of(Redis(), database)[kind]
    cooldowns = executor.cooldown(0.0), executor.cooldown(0.3)
    found = executor.cost.batch, calculator_of(kind).cost.part, executor.is_large, *cooldowns
    assert found == COSTS[kind]


@pytest.mark.parametrize("kind", STEPS)
async def test_the_cost_of_a_job_without_values(kind: str) -> None:
    database = Database(URL, pool_size=1, statement_timeout=1, prepared_statements=False)
    executor = statistics_of(Redis(), database)[kind]
    cooldowns = executor.cooldown(0.0), executor.cooldown(0.3)
    assert (executor.cost.batch, executor.is_large, *cooldowns) == STEPS[kind]


def test_a_cold_start_begins_with_the_statistics_of_dojos_and_ends_with_whole_passes() -> None:
    kinds = [each.job.kind for each in COLD_START if each.job.kind in COSTS]
    assert kinds == ["dojo_stats", "belts", "emojis", "activity", "boards"]
    assert set(COLD_START) == set(STATISTICS)


@pytest.mark.parametrize("change", AFFECTED, ids=str)
def test_a_change_affects_the_jobs_that_depend_on_it(change: Input) -> None:
    jobs = {*affected(change, dojo_id=1, user_id=2)}
    assert {job for job in jobs if job.kind in {*COSTS, *STEPS}} == {*AFFECTED[change]}


@pytest.mark.parametrize("ids", [{}, {"dojo_id": 1}, {"user_id": 2}], ids=str)
def test_a_job_is_affected_if_all_of_its_ids_are_given(ids: dict[str, int]) -> None:
    jobs = affected(Input.SOLVES | Input.USERS, **ids)
    assert jobs
    assert all(set(job.__struct_fields__) <= ids.keys() for job in jobs)
