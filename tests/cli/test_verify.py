"""`statsd verify`, as an operator uses it."""

from collections.abc import Iterable

import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.calculators.activity import Activity
from statsd.calculators.catalog import of_dojo
from statsd.calculators.challenge_solves import ChallengeSolves
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.scores import Scores
from statsd.consistency.compare import Verdict
from statsd.consistency.inspection import Discrepancy, Inspection, UnknownDojoError
from statsd.consistency.verify import VerifyReport
from statsd.jobs.pending import PendingJob
from tests.support.commands import Run
from tests.support.daemon_parts import Parts
from tests.support.job_names import all_of_dojos, named, of_all
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
    """How many values of a site are compared, as it is said."""
    return f"{len(of_all(*dojos, solvers=solvers))} compared"


async def test_where_all_is_right_it_says_so(parts: Parts, run: Run, dojos: list[Dojo]) -> None:
    assert run("verify") == (0, f"{compared(dojos)}, 0 wrong\n", "")
    assert await parts.answer() == set()


async def test_what_differs_is_printed_and_left_as_it_is(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo]
) -> None:
    first, *_ = dojos
    user = solve(webapp, first)
    challenge_id, *_ = webapp.challenge_ids(first)
    differences = {
        Scoreboard(first.dojo_id): "differs",
        ChallengeSolves(first.dojo_id): f"{challenge_id} differs",
        Scores(first.dojo_id): "ranks differs; solves differs",
        Activity(user.id): "missing",
        DojoStats(
            first.dojo_id
        ): "recent_solves differs; solves is 0, should be 1; users is 0, should be 1",
    }
    lines = "".join(f"{job.name}  {what}\n" for job, what in differences.items())
    assert run("verify")[:2] == (1, f"{lines}{compared(dojos, user)}, 5 wrong\n")
    assert await parts.answer() == set()


async def test_one_dojo_is_looked_at_alone(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo]
) -> None:
    first, second, _ = dojos
    solve(webapp, first)
    names = all_of_dojos(second)
    right = f"{len(names)} compared, 0 wrong\n"
    assert run("verify", "--dojo", second.reference_id) == (0, right, "")
    inspection = Inspection(parts.cache, parts.database, refill=True)
    assert named(await inspection.statistics(str(second.dojo_id))) == names


async def test_a_dojo_that_never_was_is_said_not_to_be(parts: Parts, run: Run) -> None:
    code, said, complaint = run("verify", "--dojo", "no\x1bne")
    assert (code, said) == (2, "")
    assert complaint.startswith("statsd: there is no dojo 'no\\x1bne'")
    inspection = Inspection(parts.cache, parts.database, refill=True)
    for name in ("-7", "9" * 10):
        with pytest.raises(UnknownDojoError, match=f"there is no dojo '{name}'"):
            await inspection.statistics(name)


@pytest.mark.usefixtures("parts")
def test_whatever_somebody_put_there_is_wrong_and_no_more(
    run: Run, dojos: list[Dojo], cache: "redis.Redis"
) -> None:
    """What is missing is not, where nothing is filled at the start."""
    first, second, third = (keys.dojo_stats(dojo.reference_id) for dojo in dojos)
    cache.delete(second, keys.updated(second))
    assert run("verify", SKIP_COLD_START="1") == (0, f"{compared(dojos)}, 0 wrong\n", "")
    cache.set(first, b"\xff{no JSON")
    cache.set(keys.updated(first), b"1e999")
    cache.rpush(second, "a list")
    cache.set(third, "null")
    code, said, complaint = run("verify")
    whats = ["is garbled", "missing", "is garbled"]
    lines = [f"{name_of(dojo)}  {what}" for dojo, what in zip(dojos, whats, strict=True)]
    assert sorted(said.splitlines()) == sorted([*lines, f"{compared(dojos)}, 3 wrong"])
    assert (code, complaint) == (1, "")


@pytest.mark.usefixtures("parts")
def test_what_cannot_be_computed_is_not_well(run: Run, webapp: WebApp, dojos: list[Dojo]) -> None:
    first, *_ = dojos
    with webapp.engine.begin() as connection:
        connection.execute(sa.text(BREAKS.format(dojo_id=first.dojo_id)))
    code, said, _ = run("verify")
    assert code == 1
    assert f"{name_of(first)}  could not be computed: DivisionByZeroError\n" in said
    assert "0 wrong; " in said
    assert said.endswith(" could not be computed: see `statsd dead list`\n")


async def test_what_nobody_computes_is_not_well_whether_pending_now_or_later(
    parts: Parts, webapp: WebApp, dojos: list[Dojo]
) -> None:
    now, delayed, _ = dojos
    names: set[str] = set()
    users: list[User] = []
    for dojo, delay in ((now, 0), (delayed, 60)):
        users.append(solve(webapp, dojo))
        pending = (*of_dojo(dojo.dojo_id), Activity(users[-1].id))
        await parts.queue.enqueue([PendingJob(job, delay=delay) for job in pending])
        names |= named(pending)
    inspection = Inspection(parts.cache, parts.database, refill=True, patience=0.1)
    jobs = await inspection.statistics()
    _ = [number async for number in inspection.compare(jobs)]
    report = VerifyReport(len(jobs), await inspection.findings())
    *lines, summary = report.lines(enqueued=False)
    assert not report.is_well
    told = {line.split()[0] for line in lines if line.endswith(" (owed already)")}
    assert (told, len(lines), report.pending) == (names, 10, 10)
    wait = "0 wrong; 10 not computed yet: does a daemon run?"
    assert summary == f"{compared(dojos, *users)}, {wait}"


def test_what_was_written_meanwhile_is_nothing_to_print() -> None:
    report = VerifyReport(1, [Discrepancy(DojoStats(5), Verdict.WRITTEN, ["solves differs"])])
    assert report.is_well
    assert list(report.lines(enqueued=False)) == ["1 compared, 0 wrong"]


@pytest.mark.usefixtures("parts")
def test_a_database_that_cannot_just_now_is_told_in_a_line(run: Run, webapp: WebApp) -> None:
    with webapp.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE dojos RENAME TO elsewhere"))
    code, said, complaint = run("verify")
    assert (code, said) == (1, "")
    assert complaint.startswith("statsd: PostgreSQL (DATABASE_URL) does not serve: ")
    assert len(complaint.splitlines()) == 1
