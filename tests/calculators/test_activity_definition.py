"""Activity against the definition in plain Python, over random small databases; and its plans."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st

from statsd import schema
from statsd.calculators import activity
from statsd.calculators.activity import FEW_USERS, Activity
from statsd.dev import embedded
from tests.oracles.naive import World
from tests.oracles.naive_awards import activity as naive_activity
from tests.oracles.worlds import NOW, insert, worlds

YEAR_AGO = NOW - timedelta(days=365)
TICK = timedelta(microseconds=1)
GONE = [Activity(user_id) for user_id in range(123_456, 123_456 + FEW_USERS)]
OLDEST = Path("/usr/lib/postgresql/15/bin/postgres")
"""The oldest PostgreSQL that the daemon supports, where the distribution's package is installed."""


def rows_of(connection: sa.Connection, parameters: Any) -> list[Any]:
    return [connection.execute(each, parameters).all() for each in activity.calculator.statements]


@given(
    world=worlds(),
    edges=st.lists(st.sampled_from([-TICK, timedelta(0), TICK]), max_size=5),
    gone=st.sampled_from([GONE[:1], GONE]),
    data=st.data(),
)
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_activity_equals_the_definition(
    engine: sa.Engine,
    world: World,
    edges: list[timedelta],
    gone: list[Activity],
    data: st.DataObject,
) -> None:
    """For few users, for many, and where the challenges of some of them are known."""
    for solve, step in zip(world.submissions, edges, strict=False):
        solve["date"] = YEAR_AGO + step
    wanted = [Activity(user["id"]) for user in world.users] + gone
    challenges = [each["id"] for each in world.challenges] * 2 + [654_321]
    some = data.draw(st.sets(st.sampled_from(wanted)))
    with engine.connect() as connection:
        insert(connection, world)
        parameters = activity.known_parameters(wanted, NOW, dict.fromkeys(some, challenges))
        results = rows_of(connection, parameters)
        found = activity.shape(results)
        every = connection.scalars(activity.calculator.every).all()
        connection.rollback()
    for job, kept in activity.record(results).items():
        solved = {
            solve["challenge_id"]
            for solve in world.submissions
            if solve["user_id"] == job.user_id and solve["type"] == "correct"
        }
        assert solved.issuperset(kept["known_solves"])
        assert bool(kept["known_solves"]) == bool(
            found[job][f"stats:activity:{job.user_id}"]["total_solves"]
        )
    assert found == {
        Activity(user["id"]): {
            f"stats:activity:{user['id']}": naive_activity(world, user, NOW),
        }
        for user in world.users
    }
    solvers = [
        solve["user_id"]
        for solve in world.submissions
        if solve["type"] == "correct" and solve["user_id"] is not None
    ]
    assert sorted(every) == sorted(set(solvers))
    counts = [solvers.count(user_id) for user_id in every]
    assert counts == sorted(counts, reverse=True)


# --- plans

USERS, SOLVED, SUBMISSIONS = 1_000, 1_000, 200_000  # the last are five for each solve
FILL = (
    f"INSERT INTO users (id) SELECT generate_series(1, {USERS})",
    f"INSERT INTO challenges (id) SELECT generate_series(1, {SOLVED})",
    f"""
    INSERT INTO submissions (challenge_id, user_id, date, type)
    SELECT 1 + i / 5 % {SOLVED}, 1 + (i / 5 * 7 + i / 5 / {SOLVED}) % {USERS},
      timestamp '{NOW}' - i * interval '1 minute',
      CASE i % 5 WHEN 0 THEN 'correct' ELSE 'incorrect' END
    FROM generate_series(1, {SUBMISSIONS}) i
    """,
)


@pytest.fixture(scope="module", params=["wheel", "oldest"])
def many_submissions(
    request: pytest.FixtureRequest, postgres: embedded.Postgres
) -> Iterator[sa.Engine]:
    """An engine of a database in which most submissions are no solves."""
    with ExitStack() as stack:
        server = postgres
        if request.param == "oldest":
            if not OLDEST.exists():
                if os.environ.get("CI"):
                    pytest.fail(f"{OLDEST} is not installed; .ci/run installs it")
                pytest.skip(f"{OLDEST} is not installed")
            server = stack.enter_context(embedded.postgres(binary=OLDEST))
        url = sa.make_url(server.url).set(drivername="postgresql+psycopg2")
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(sa.text("CREATE DATABASE many_submissions"))
        engine = sa.create_engine(url.set(database="many_submissions"))
        with engine.begin() as connection:
            schema.metadata.create_all(connection)
            for statement in FILL:
                connection.execute(sa.text(statement))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE"))
        yield engine
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(sa.text("DROP DATABASE many_submissions WITH (FORCE)"))
        admin.dispose()


def plan_of(connection: sa.Connection, parameters: Any) -> str:
    """The plan of the statement that reads solves, with the rows that its scans met."""
    compiled = activity.calculator.statements[1].compile(connection.engine)
    explained = connection.exec_driver_sql(
        f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {compiled}",
        compiled.construct_params(parameters),
    )
    return "\n".join(explained.scalars())


def scans_in(plan: str) -> list[str]:
    """The lines of a plan that say how submissions are read."""
    return [line.strip(" ->") for line in plan.splitlines() if " on submissions " in line]


@pytest.mark.parametrize("users", [1, 10, 100])
def test_activity_of_few_users_never_reads_all_submissions(
    many_submissions: sa.Engine, users: int
) -> None:
    jobs = [Activity(user_id) for user_id in range(1, users + 1)]
    with many_submissions.connect() as connection:
        parameters = activity.parameters(jobs, NOW)
        _, found = rows_of(connection, parameters)
        assert {len(each.dates) for each in found} <= {39, 40, 41}
        plan = plan_of(connection, parameters)
    scans = scans_in(plan)
    assert scans, plan
    by_index = ("Index Scan using", "Index Only Scan using")
    assert all(scan.startswith(by_index) for scan in scans), plan


def test_known_challenges_are_looked_up(many_submissions: sa.Engine) -> None:
    """No scan reads more than the solves of the user."""
    job = Activity(1)
    with many_submissions.connect() as connection:
        _, [full] = rows_of(connection, activity.parameters([job], NOW))
        known = {job: [*full.challenges, SOLVED + 1]}
        parameters = activity.known_parameters([job], NOW, known)
        _, [found] = rows_of(connection, parameters)
        plan = plan_of(connection, parameters)
    assert found == full
    executed = [scan for scan in scans_in(plan) if "never executed" not in scan]
    assert len(executed) == 1, plan
    assert f"loops={len(full.challenges) + 1})" in executed[0], plan


def test_activity_of_many_users_reads_the_solves_once(many_submissions: sa.Engine) -> None:
    """A cold start computes thousands of users at once."""
    jobs = [Activity(user_id) for user_id in range(1, USERS + 1)]
    with many_submissions.connect() as connection:
        plan = plan_of(connection, activity.parameters(jobs, NOW))
    executed = [scan for scan in scans_in(plan) if "loops=1)" in scan]
    assert len(executed) == 1, plan
