"""`statsd reconcile`, as an operator uses it. The tests of `statsd verify` cover its output."""

from pathlib import Path

import orjson
import pytest
import redis

from statsd import keys
from statsd.calculators.dojo_stats import DojoStats
from tests.support.commands import Run
from tests.support.daemon_parts import Parts
from tests.support.job_names import all_of_dojos, listed, of_all, of_dojos
from tests.support.processes import daemon, eventually
from tests.support.webapp import Dojo, WebApp, cached, publish, solves_of, webapp_of


@pytest.mark.usefixtures("parts")
def test_nothing_is_enqueued_if_all_values_are_right(
    run: Run, dojos: list[Dojo], cache: "redis.Redis"
) -> None:
    assert run("reconcile")[:2] == (0, f"{len(of_all(*dojos))} compared, 0 wrong\n")
    assert not cache.keys(keys.job("*"))


async def test_only_wrong_values_are_enqueued(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo]
) -> None:
    first, *_ = dojos
    webapp.solve(webapp.create_user(), webapp.challenge_ids(first)[0])
    code, output, _ = run("reconcile", "--dojo", first.reference_id)
    assert code == 0
    number = len(all_of_dojos(first))
    *lines, summary = output.splitlines()
    wrong = [line.split()[0] for line in lines]
    assert sorted(listed(wrong)) == sorted(of_dojos(first))
    end = "now enqueued for a daemon to compute"
    assert summary == f"{number} compared, {len(wrong)} wrong, {end}"
    assert await parts.answer() == set(wrong)
    unchanged = (0, f"{number} compared, 0 wrong\n")
    assert run("reconcile", "--dojo", first.reference_id)[:2] == unchanged


async def test_a_deleted_dojo_is_found_by_its_key(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo], cache: "redis.Redis"
) -> None:
    first, *_ = dojos
    webapp.delete([first])
    code, output, _ = run("reconcile", "--dojo", first.reference_id)
    assert code == 0
    *lines, _summary = output.splitlines()
    names = all_of_dojos(first)
    assert sorted(lines) == sorted(f"{name}  should not be there" for name in names)
    await parts.answer()
    assert not cache.exists(keys.dojo_stats(first.reference_id))


def test_there_is_no_dry_run(run: Run) -> None:
    code, output, errors = run("reconcile", "--dry-run")
    assert (code, output) == (2, "")
    assert "No such option" in errors


def test_a_running_daemon_corrects_enqueued_values(
    run: Run,
    variables: dict[str, str],
    dojos: list[Dojo],
    cache: "redis.Redis",
    tmp_path: Path,
) -> None:
    """A value with a pending event is not reported as wrong."""
    first, second, _ = dojos
    name_of_first, name_of_second = (DojoStats(each.dojo_id).name for each in (first, second))
    webapp = webapp_of(variables["DATABASE_URL"])
    with daemon(tmp_path / "log", STATSD_AUDIT_INTERVAL="0", **variables):
        for dojo in dojos:
            cached(cache, dojo)
        eventually(lambda: not cache.keys(keys.job("*")), "all values are computed")
        key = keys.dojo_stats(first.reference_id)
        cache.set(key, orjson.dumps(orjson.loads(cache.get(key) or b"") | {"solves": 99}))
        webapp.solve(webapp.create_user(), webapp.challenge_ids(second)[0])
        publish(cache, second)
        code, output, _ = run("reconcile")
        assert code == 0
        assert f"{name_of_first}  solves is 99, should be 0" in output
        assert name_of_second not in output
        eventually(lambda: solves_of(cache, first)() == 0, "the value is right again")
        assert solves_of(cache, second)() == 1
    webapp.engine.dispose()
