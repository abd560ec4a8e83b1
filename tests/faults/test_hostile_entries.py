"""Hostile entries among good ones become dead letters or are ignored, and delay no other."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from statsd import keys
from tests.faults import hostile
from tests.faults.form import sized
from tests.faults.harness import Site
from tests.support.processes import eventually

pytestmark = pytest.mark.timeout(900)

ENTRIES = sized(2_000, 10_000)
CHANGES = sized(200, 1_000)
GROWTH = (
    48 * 1024
)  # kB; the limit for the growth of the daemon while four times as many entries follow
KEPT = 10_000  # dead letters, by default
CHUNK = 20  # entries in one pipeline


@pytest.fixture
def real(site: Site) -> hostile.Real:
    """Ids of existing rows and of deleted rows."""
    dojo, user = site.webapp.create_dojo(challenges=1), site.webapp.create_user()
    [challenge] = site.webapp.challenge_ids(dojo)
    remaining = site.webapp.create_user()
    [quiet] = site.webapp.challenge_ids(site.quiet)
    site.webapp.delete([dojo, user])
    site.execute("DELETE FROM challenges WHERE id = :id", id=challenge)
    ids = (remaining.id, quiet, site.quiet.dojo_id, user.id, challenge, dojo.dojo_id)
    return hostile.Real(*ids)


def publish(site: Site, source: Iterator[tuple[Any, str]], number: int) -> dict[bytes, str]:
    """Publish hostile entries; return the fate of each, by its id in the stream."""
    fates: dict[bytes, str] = {}
    while len(fates) < number:
        chunk = [next(source) for _ in range(CHUNK)]
        with site.cache.pipeline(transaction=False) as pipeline:
            for fields, _ in chunk:
                pipeline.xadd(keys.STREAM, fields)
            ids = pipeline.execute()
        fates.update(zip(ids, (fate for _, fate in chunk), strict=True))
        # Entries may be large; a flood of entries would be another fault.
        eventually(lambda: site.cache.xlen(keys.STREAM) < 2_000, "the daemon keeps up")
    return fates


def memory(pid: int) -> tuple[int, int]:
    """Return the memory of a process and its peak, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    parts = {
        name: value.split()[0]
        for name, _, value in (line.partition(":") for line in lines)
        if value.split()
    }
    return int(parts["VmRSS"]), int(parts["VmHWM"])


def buried(site: Site) -> dict[bytes, dict[bytes, bytes]]:
    letters: Any = site.cache.xrange(keys.DEAD_LETTERS)
    return {fields[b"id"]: fields for _, fields in letters}


def test_hostile_entries_among_good_ones(site: Site, real: hostile.Real) -> None:
    daemon = site.start().started()
    source = hostile.entries(real, site.chance)

    def change() -> None:
        for _ in range(CHANGES):
            site.load.change()

    good = Thread(target=change, name="good changes")
    good.start()
    fates = publish(site, source, ENTRIES)
    good.join()
    site.complete()
    letters = buried(site)
    wanted = {entry for entry, fate in fates.items() if fate == hostile.DEAD}
    site.faults["hostile entries"] = len(fates)
    site.faults["dead letters"] = len(wanted & set(letters))
    site.faults["ignored"] = len(fates.keys() - set(letters))
    assert set(letters) == wanted
    assert site.faults["dead letters"] + site.faults["ignored"] == len(fates)
    for letter in letters.values():
        assert b"InvalidEventError" in letter[b"error"]
    before = memory(daemon.process.pid)

    more = publish(site, source, 4 * ENTRIES)
    site.complete()
    site.faults["more hostile entries"] = len(more)
    after = memory(daemon.process.pid)
    site.notes.append(
        f"memory after {len(fates)}: {before[0]} kB (at most {before[1]}), "
        f"after {len(fates) + len(more)}: {after[0]} kB (at most {after[1]})"
    )
    wanted_in_order = [entry for entry, fate in (fates | more).items() if fate == hostile.DEAD]
    assert list(buried(site)) == wanted_in_order[-KEPT:]
    assert after[0] - before[0] < GROWTH
    assert after[1] - before[1] < GROWTH
    site.finish(dead=min(KEPT, len(wanted_in_order)))
