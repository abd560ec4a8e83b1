"""The catalog: the cost of each statistic, the order of a cold start, and affected jobs."""

import pytest
from redis.asyncio import Redis

from statsd.boards.executors import statistics_of
from statsd.boards.live_boards import LiveBoards
from statsd.calculators import Input
from statsd.calculators.activity import Activity
from statsd.calculators.belts import Belts
from statsd.calculators.catalog import COLD_START, STATISTICS, affected, calculator_of
from statsd.calculators.challenge_solves import ChallengeSolves
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.emojis import Emojis
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.scores import Scores
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job
from statsd.servers.database import Database

URL = "postgresql+asyncpg://nobody@127.0.0.1:1/none"  # nothing is connected

COSTS: dict[str, tuple[int, int, bool, float | None, float | None]] = {
    # kind: batch, part, whether it is large, cooldown after 0 s and after 0.3 s
    "scoreboard": (100, 0, True, 0.5, 3.0),
    "challenge_solves": (100, 20, True, 0.5, 3.0),
    "scores": (50, 1, True, 0.5, 3.0),
    "belts": (1, 0, False, None, 3.0),
    "emojis": (1, 0, False, None, 3.0),
    "activity": (5000, 250, True, None, None),
    "dojo_stats": (100, 0, False, None, None),
    "crews": (50, 1, True, 0.5, 3.0),
}

AFFECTED: dict[Input, list[Job]] = {
    Input.STRUCTURE: [Scoreboard(1), DojoStats(1), ChallengeSolves(1), Scores(1), Emojis()],
    Input.SOLVES: [UserEntries(1, 2), ChallengeSolves(1), Scores(1), Activity(2)],
    Input.USERS: [
        UserEntries(1, 2),
        ChallengeSolves(1),
        Scores(1),
        Activity(2),
        Belts(),
        Emojis(),
    ],
    Input.BELTS: [Belts()],
    Input.EMOJIS: [Emojis()],
    Input.AWARDS: [Belts(), Emojis()],
}


@pytest.mark.parametrize("kind", COSTS)
async def test_the_cost_of_a_statistic_decides_how_it_is_executed(kind: str) -> None:
    database = Database(URL, pool_size=1, statement_timeout=1, prepared_statements=False)
    executor = statistics_of(LiveBoards(Redis(), database), database)[kind]
    cooldowns = executor.cooldown(0.0), executor.cooldown(0.3)
    found = executor.cost.batch, calculator_of(kind).cost.part, executor.is_large, *cooldowns
    assert found == COSTS[kind]


def test_a_cold_start_begins_with_the_boards_and_ends_with_their_follow_ups() -> None:
    kinds = [each.job.kind for each in COLD_START if each.job.kind in COSTS]
    assert kinds == [
        "scoreboard",
        "challenge_solves",
        "scores",
        "belts",
        "emojis",
        "activity",
        "dojo_stats",
        "crews",
    ]
    assert set(COLD_START) == set(STATISTICS)


@pytest.mark.parametrize("change", AFFECTED, ids=str)
def test_a_change_affects_the_jobs_that_depend_on_it(change: Input) -> None:
    jobs = {*affected(change, dojo_id=1, user_id=2)}
    assert {job for job in jobs if job.kind in {*COSTS, UserEntries.kind}} == {*AFFECTED[change]}


@pytest.mark.parametrize("ids", [{}, {"dojo_id": 1}, {"user_id": 2}], ids=str)
def test_a_job_is_affected_if_all_of_its_ids_are_given(ids: dict[str, int]) -> None:
    jobs = affected(Input.SOLVES | Input.USERS, **ids)
    assert jobs
    assert all(set(job.__struct_fields__) <= ids.keys() for job in jobs)
