"""`statsd reconcile`, as an operator uses it."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson
import pytest
import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import embedded, keys
from statsd.calculators.activity import Activity
from statsd.calculators.dojo_stats import DojoStats
from statsd.database import Database
from statsd.refresh import Mark
from statsd.statistics import of_dojo
from tests.names import all_of_dojos, named, of_all
from tests.parts import Parts
from tests.support import daemon, environment, eventually
from tests.webapp import Dojo, User, WebApp, cached, publish, solves_of, webapp_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dojos(webapp: WebApp) -> list[Dojo]:
    return [webapp.create_dojo() for _ in range(3)]


@pytest.fixture
async def parts(async_cache: Redis, snapshots: Database, dojos: list[Dojo]) -> Parts:
    """A daemon's parts, which have filled the cache and do nothing by themselves."""
    assert dojos
    parts = Parts(async_cache, snapshots)
    await parts.start()
    return parts


@pytest.fixture
def variables(database: str, redis_server: embedded.Redis) -> dict[str, str]:
    return {"DATABASE_URL": database, "REDIS_URL": redis_server.url}


@pytest.fixture
def run(variables: dict[str, str]) -> Run:
    """Run the command; return its exit code, what it said, and what it complained of."""

    def run(*arguments: str, **others: str) -> tuple[int, str, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "statsd", "reconcile", *arguments],
            env=environment(variables | others),
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout, ended.stderr

    return run


def solve(webapp: WebApp, dojo: Dojo) -> User:
    user = webapp.create_user()
    webapp.solve(user, webapp.challenge_ids(dojo)[0])
    return user


def name_of(dojo: Dojo) -> str:
    return DojoStats(dojo.dojo_id).name


def compared(dojos: Iterable[Dojo], *solvers: User) -> str:
    """How many values of a site are compared, as it is said."""
    return f"{len(of_all(*dojos, solvers=solvers))} compared"


@pytest.mark.usefixtures("parts")
def test_where_all_is_right_it_says_so(run: Run, dojos: list[Dojo]) -> None:
    well = (0, f"{compared(dojos)}, 0 wrong\n")
    assert run("--dry-run")[:2] == well
    assert run()[:2] == well


async def test_what_differs_is_printed_and_marked(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo]
) -> None:
    first, *_ = dojos
    user = solve(webapp, first)
    challenge_id, *_ = webapp.challenge_ids(first)
    differences = [
        "differs",
        "recent_solves differs; solves is 0, should be 1; users is 0, should be 1",
        f"{challenge_id} differs",
        "ranks differs; solves differs",
        "missing",
    ]
    names = [each.name for each in (*of_dojo(first.dojo_id), Activity(user.id))]
    lines = (
        "".join(f"{name}  {what}\n" for name, what in zip(names, differences, strict=True))
        + f"{compared(dojos, user)}, 5 wrong"
    )
    assert run("--dry-run")[:2] == (1, lines + "\n")
    assert await parts.answer() == set()
    assert run()[:2] == (0, lines + ", now marked for a daemon to compute\n")
    assert await parts.answer() == set(names)
    assert run()[:2] == (0, f"{compared(dojos, user)}, 0 wrong\n")


@pytest.mark.usefixtures("parts")
def test_one_dojo_is_looked_at_alone(run: Run, webapp: WebApp, dojos: list[Dojo]) -> None:
    first, second, _ = dojos
    solve(webapp, first)
    number = len(all_of_dojos(first))
    for name in (second.reference_id, str(second.dojo_id)):
        assert run("--dry-run", "--dojo", name) == (0, f"{number} compared, 0 wrong\n", "")
    code, said, _ = run("--dry-run", "--dojo", first.reference_id)
    assert code == 1
    assert said.endswith(f"{number} compared, 4 wrong\n")


async def test_a_dojo_that_is_gone_is_found_by_its_key(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo], cache: "redis.Redis"
) -> None:
    first, *_ = dojos
    webapp.delete([first])
    code, said, _ = run("--dojo", first.reference_id)
    assert code == 0
    *lines, _summary = said.splitlines()
    names = all_of_dojos(first)
    assert sorted(lines) == sorted(f"{name}  should not be there" for name in names)
    await parts.answer()
    assert not cache.exists(keys.dojo_stats(first.reference_id))


@pytest.mark.usefixtures("parts")
def test_a_dojo_that_never_was_is_said_not_to_be(run: Run) -> None:
    for name, shown in (("no\x1bne", "no\\x1bne"), ("-7", "-7"), ("9" * 10, "9" * 10)):
        code, said, complaint = run("--dojo", name)
        assert (code, said) == (2, "")
        assert complaint.startswith(f"statsd: there is no dojo '{shown}'")


@pytest.mark.usefixtures("parts")
def test_what_is_missing_is_left_so_where_nothing_is_filled_at_the_start(
    run: Run, dojos: list[Dojo], cache: "redis.Redis"
) -> None:
    key = keys.dojo_stats(dojos[0].reference_id)
    cache.delete(key, keys.updated(key))
    assert run("--dry-run", SKIP_COLD_START="1")[:2] == (0, f"{compared(dojos)}, 0 wrong\n")
    code, said, _ = run("--dry-run")
    assert code == 1
    assert said.startswith(f"{name_of(dojos[0])}  missing\n")


async def test_what_nobody_computes_is_not_well_whether_owed_now_or_later(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo]
) -> None:
    """One run for both, as it waits for a while for what is owed."""
    now, later, _ = dojos
    names: set[str] = set()
    users: list[User] = []
    for dojo, delay in ((now, 0), (later, 60)):
        users.append(solve(webapp, dojo))
        owed = (*of_dojo(dojo.dojo_id), Activity(users[-1].id))
        await parts.marks.mark([Mark(refresh, delay=delay) for refresh in owed])
        names |= named(owed)
    code, said, _ = run("--dry-run")
    assert code == 1
    *lines, summary = said.splitlines()
    told = {line.split()[0] for line in lines if line.endswith(" (owed already)")}
    assert (told, len(lines)) == (names, 10)
    wait = "0 wrong; 10 not computed yet: does a daemon run?"
    assert summary == f"{compared(dojos, *users)}, {wait}"


@pytest.mark.usefixtures("parts")
def test_a_database_that_cannot_just_now_is_told_in_a_line(run: Run, webapp: WebApp) -> None:
    with webapp.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE dojos RENAME TO elsewhere"))
    code, said, complaint = run("--dry-run")
    assert (code, said) == (1, "")
    assert complaint.startswith("statsd: a server does not serve: ")
    assert len(complaint.splitlines()) == 1


@pytest.mark.usefixtures("parts")
def test_whatever_somebody_put_there_is_wrong_and_no_more(
    run: Run, dojos: list[Dojo], cache: "redis.Redis"
) -> None:
    first, second, third = (keys.dojo_stats(dojo.reference_id) for dojo in dojos)
    cache.set(first, b"\xff{no JSON")
    cache.set(keys.updated(first), b"1e999")
    cache.delete(second)
    cache.rpush(second, "a list")
    cache.set(third, "null")
    code, said, complaint = run("--dry-run")
    assert code == 1
    whats = ["is garbled", "missing", "is garbled"]
    lines = [f"{name_of(dojo)}  {what}" for dojo, what in zip(dojos, whats, strict=True)]
    assert sorted(said.splitlines()) == sorted([*lines, f"{compared(dojos)}, 3 wrong"])
    assert "Traceback" not in complaint


def test_a_living_daemon_puts_right_what_was_marked(
    run: Run,
    variables: dict[str, str],
    dojos: list[Dojo],
    cache: "redis.Redis",
    tmp_path: Path,
) -> None:
    """An event that is under way meanwhile is no difference."""
    first, second, _ = dojos
    webapp = webapp_of(variables["DATABASE_URL"])
    with daemon(tmp_path / "log", STATSD_AUDIT_INTERVAL="0", **variables):
        for dojo in dojos:
            cached(cache, dojo)
        eventually(lambda: not cache.keys(keys.mark("*")), "all is computed")
        key = keys.dojo_stats(first.reference_id)
        cache.set(key, orjson.dumps(orjson.loads(cache.get(key) or b"") | {"solves": 99}))
        solve(webapp, second)
        publish(cache, second)
        code, said, _ = run()
        assert code == 0
        assert f"{name_of(first)}  solves is 99, should be 0" in said
        assert name_of(second) not in said
        eventually(lambda: solves_of(cache, first)() == 0, "it is right again")
        assert solves_of(cache, second)() == 1
    webapp.engine.dispose()
