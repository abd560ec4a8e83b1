"""The short run of the benchmarks fails if a value is wrong, and never for a slow time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from benchmarks import exact, stage
from benchmarks.__main__ import MEASURES, Measured
from benchmarks.samples import Sample
from statsd import keys

pytestmark = pytest.mark.timeout(1800)
SMALL = Sample("S")
MEASURED = {  # each has results
    "cold-start",
    "idle",
    "cost",
    "burst",
    "rate",
    "pressure",
    "awards",
    "reads",
    "daemons",
    "memory",
    "nothing",
}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def filled() -> Iterator[stage.Stage]:
    with stage.at(SMALL, stage.QUICK) as own:
        own.daemon()
        yield own


def test_quick_measures_everything_and_finds_nothing_wrong(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = orjson.loads(report.read_bytes())
    scale = found["samples"]["S scatter"]
    assert scale["wrong"] == []
    assert scale["compared"] > 2500  # five daemons, more than five hundred values each
    assert {each["measure"] for each in scale["results"]} == MEASURED
    assert all(each["value"] >= 0 for each in scale["results"])
    assert all(f"S scatter: {name} took" in done.stderr for name in MEASURES)
    assert "commit to dojo stats, p99" in done.stdout
    assert {"processor", "cores", "postgresql", "redis", "packages", "date"} <= found.keys()


def test_a_wrong_value_is_found_and_fails_the_run(filled: stage.Stage) -> None:
    cache = filled.webapp.cache
    (dojo_id, reference), (other_id, _), *_ = sorted(filled.webapp.references().items())
    stats, array = keys.dojo_stats(reference), keys.scoreboard(other_id)
    raw, entries = cache.get(stats), cache.get(array)
    value = orjson.loads(raw)
    cache.set(stats, orjson.dumps(value | {"solves": value["solves"] + 1}))
    cache.set(array, orjson.dumps(orjson.loads(entries)[1:]))
    wrong = exact.verdict(filled.servers, filled.webapp).wrong
    assert f"the totals of dojo {dojo_id}" in wrong
    assert any(str(other_id) in name for name in wrong)
    assert all(str(dojo_id) in name or str(other_id) in name for name in wrong)
    cache.set(stats, raw)
    cache.set(array, entries)
    assert not Measured(SMALL, {}, [], 1, [*wrong]).is_right
    assert not Measured(SMALL, {}, [], 0, []).is_right  # nothing was compared
    assert Measured(SMALL, {}, [], 1, []).is_right


def test_a_sample_is_created_once(tmp_path: Path) -> None:
    with stage.at(SMALL, stage.QUICK) as first:
        size = first.size
        first.webapp.rows("DELETE FROM awards RETURNING id")
    [kept] = (tmp_path / "dojo-statsd" / "benchmarks").iterdir()
    created = kept.stat().st_mtime
    with stage.at(SMALL, stage.QUICK) as second:
        assert second.size == size
        assert second.webapp.rows("SELECT count(*) > 0 FROM awards") == [(True,)]
    assert kept.stat().st_mtime == created
