"""A burst of solves, half of them in one dojo: exports are delayed, other values are not."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag, Thread
from typing import Any

import orjson
import pytest

from statsd import keys
from statsd.events import ChallengeSolve, encode
from tests.faults.form import sized
from tests.faults.harness import Site
from tests.support.processes import eventually

pytestmark = pytest.mark.timeout(900)

EACH, PAUSE = 40, 0.1  # events, seconds until the next
PROBES = sized(30, 300)
SOON = 3.0  # seconds; on two idle cores it is a twentieth of a second


@contextmanager
def burst(site: Site) -> Iterator[None]:
    """Publish events of solves while the block runs, half of them in one dojo."""
    users = [user for (user,) in site.execute("SELECT id FROM users WHERE NOT hidden")]
    hot, *others = [site.webapp.challenge_ids(dojo) for dojo in site.load.dojos]
    calm = [challenge for dojo in others for challenge in dojo]
    over = Flag()

    def publish() -> None:
        while not over.wait(PAUSE):
            with site.cache.pipeline(transaction=False) as pipeline:
                for number in range(EACH):
                    challenge = site.chance.choice(hot if number % 2 else calm)
                    event = ChallengeSolve(site.chance.choice(users), challenge)
                    pipeline.xadd(keys.STREAM, {"data": encode(event)})
                pipeline.execute()
            site.faults["events of the burst"] += EACH

    thread = Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def exported(site: Site) -> int:
    """Return the number of users on the exported scoreboard of the quiet dojo."""
    raw: Any = site.cache.get(keys.scoreboard(site.quiet.dojo_id))
    return len(orjson.loads(raw or b"[]"))


def test_a_burst_delays_exports_and_no_statistics_of_other_dojos(site: Site) -> None:
    site.start().started()
    site.probe()
    site.complete()
    with burst(site):
        eventually(lambda: site.faults["events of the burst"] > 10 * EACH, "the burst has begun")
        seconds, exports = [], []
        for _ in range(PROBES):
            seconds.append(site.probe())
            exports.append(exported(site))
    site.notes.append(
        f"p50 {statistics.median(seconds) * 1000:.0f} ms, the worst {max(seconds) * 1000:.0f} ms; "
        f"the export was written {len(set(exports))} times for {PROBES} solves"
    )
    assert len(set(exports)) < PROBES // 2
    assert statistics.median(seconds) < SOON
    site.finish()
    assert exported(site) == 1 + PROBES
