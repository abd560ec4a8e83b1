"""`statsd verify`, as an operator uses it."""

from collections.abc import Iterable

import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.calculators.activity import Activity
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.dojo_stats import DojoStats
from statsd.consistency.compare import Verdict
from statsd.consistency.verify import (
    Discrepancy,
    UnknownDojoError,
    Verification,
    VerifyReport,
)
from statsd.jobs.pending import PendingJob
from tests.support.commands import Run
from tests.support.daemon_parts import Parts
from tests.support.job_names import (
    all_of_dojos,
    jobs_of_dojo,
    listed,
    named,
    not_listed,
    of_all,
)
from tests.support.webapp import Dojo, User, WebApp

BREAKS = """
ALTER TABLE dojos RENAME TO whole;
CREATE VIEW dojos AS SELECT *, 1 / CAST(dojo_id <> {dojo_id} AS int) AS fault FROM whole;
CREATE VIEW broken AS SELECT dojo_id, CASE WHEN fault = 1 THEN id END AS id, name, official,
  password, data FROM dojos;
ALTER VIEW dojos RENAME TO halves;
ALTER VIEW broken RENAME TO dojos
"""


def solve(webapp: WebApp, dojo: Dojo) -> User:
    user = webapp.create_user()
    webapp.solve(user, webapp.challenge_ids(dojo)[0])
    return user


def name_of(dojo: Dojo) -> str:
    return DojoStats(dojo.dojo_id).name


def compared(dojos: Iterable[Dojo], *solvers: User) -> str:
    """Return the count of a site's compared values, in the words of the command."""
    return f"{len(of_all(*dojos, solvers=solvers))} compared"


async def test_right_values_are_reported_as_right(
    parts: Parts, run: Run, dojos: list[Dojo]
) -> None:
    assert run("verify") == (0, f"{compared(dojos)}, 0 wrong\n", "")
    assert await parts.answer() == set()


async def test_differences_are_printed_and_nothing_is_changed(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo]
) -> None:
    first, *_ = dojos
    user = solve(webapp, first)
    challenge_id, *_ = webapp.challenge_ids(first)
    differences = {
        DojoStats(
            first.dojo_id
        ): "recent_solves differs; solves is 0, should be 1; users is 0, should be 1",
        Activity(user.id): "missing",
        Boards(first.dojo_id): f"challenge solves: {challenge_id} differs; "
        "scoreboard (6 keys): differs; scores (2 keys): ranks differs; "
        "scores (2 keys): solves differs",
    }
    code, output, _ = run("verify")
    *lines, summary = output.splitlines()
    assert listed(lines) == [f"{job.name}  {text}" for job, text in differences.items()]
    assert (code, summary) == (1, f"{compared(dojos, user)}, {len(lines)} wrong")
    assert await parts.answer() == set()


async def test_one_dojo_can_be_verified_alone(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo]
) -> None:
    first, second, _ = dojos
    solve(webapp, first)
    names = all_of_dojos(second)
    right = f"{len(names)} compared, 0 wrong\n"
    assert run("verify", "--dojo", second.reference_id) == (0, right, "")
    verification = Verification(parts.cache, parts.database, refill=True)
    assert named(await verification.statistics(str(second.dojo_id))) == names


async def test_an_unknown_dojo_is_an_error(parts: Parts, run: Run) -> None:
    code, output, errors = run("verify", "--dojo", "no\x1bne")
    assert (code, output) == (2, "")
    assert errors.startswith("statsd: there is no dojo 'no\\x1bne'")
    verification = Verification(parts.cache, parts.database, refill=True)
    for name in ("-7", "9" * 10):
        with pytest.raises(UnknownDojoError, match=f"there is no dojo '{name}'"):
            await verification.statistics(name)


@pytest.mark.usefixtures("parts")
def test_foreign_values_are_wrong_and_hide_no_others(
    run: Run, dojos: list[Dojo], cache: "redis.Redis"
) -> None:
    """Without a cold start, a missing value is no difference."""
    first, second, third = (keys.dojo_stats(dojo.reference_id) for dojo in dojos)
    cache.delete(second, keys.updated(second))
    assert run("verify", SKIP_COLD_START="1") == (0, f"{compared(dojos)}, 0 wrong\n", "")
    cache.set(first, b"\xff{no JSON")
    cache.set(keys.updated(first), b"1e999")
    cache.rpush(second, "a list")
    cache.set(third, "null")
    code, output, errors = run("verify")
    descriptions = ["is garbled", "missing", "is garbled"]
    lines = [
        f"{name_of(dojo)}  {description}"
        for dojo, description in zip(dojos, descriptions, strict=True)
    ]
    assert sorted(output.splitlines()) == sorted([*lines, f"{compared(dojos)}, 3 wrong"])
    assert (code, errors) == (1, "")


@pytest.mark.usefixtures("parts")
def test_a_value_that_cannot_be_computed_fails_the_command(
    run: Run, webapp: WebApp, dojos: list[Dojo]
) -> None:
    first, *_ = dojos
    with webapp.engine.begin() as connection:
        connection.execute(sa.text(BREAKS.format(dojo_id=first.dojo_id)))
    code, output, _ = run("verify")
    assert code == 1
    assert f"{name_of(first)}  could not be computed: DivisionByZeroError\n" in output
    assert "0 wrong; " in output
    assert output.endswith(" could not be computed: see `statsd dead list`\n")


async def test_pending_and_delayed_jobs_that_no_daemon_executes_fail_the_command(
    parts: Parts, webapp: WebApp, dojos: list[Dojo]
) -> None:
    now, delayed, _ = dojos
    names: set[str] = set()
    users: list[User] = []
    for dojo, delay in ((now, 0), (delayed, 60)):
        users.append(solve(webapp, dojo))
        pending = (*jobs_of_dojo(dojo.dojo_id), Activity(users[-1].id))
        further = not_listed(users[-1], dojo)
        await parts.queue.enqueue([PendingJob(job, delay=delay) for job in (*pending, *further)])
        names |= named(pending)
    verification = Verification(parts.cache, parts.database, refill=True, timeout=0.1)
    jobs = await verification.statistics()
    _ = [number async for number in verification.compare(jobs)]
    report = VerifyReport(len(jobs), await verification.discrepancies())
    *lines, summary = report.lines(enqueued=False)
    assert not report.is_well
    assert all(line.endswith(" (pending already)") for line in lines)
    assert sorted(line.split()[0] for line in listed(lines)) == sorted(names)
    assert report.pending == len(lines)
    wait = f"0 wrong; {len(lines)} not computed yet: does a daemon run?"
    assert summary == f"{compared(dojos, *users)}, {wait}"


def test_values_written_meanwhile_are_not_printed() -> None:
    report = VerifyReport(1, [Discrepancy(DojoStats(5), Verdict.WRITTEN, ["solves differs"])])
    assert report.is_well
    assert list(report.lines(enqueued=False)) == ["1 compared, 0 wrong"]


@pytest.mark.usefixtures("parts")
def test_an_unavailable_database_is_reported_in_one_line(run: Run, webapp: WebApp) -> None:
    with webapp.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE dojos RENAME TO elsewhere"))
    code, output, errors = run("verify")
    assert (code, output) == (1, "")
    assert errors.startswith("statsd: PostgreSQL (DATABASE_URL) does not serve: ")
    assert len(errors.splitlines()) == 1
