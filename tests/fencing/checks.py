"""The properties of a fencing world, after each step and at the end."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from statsd import keys
from statsd.job import Priority
from tests.fencing.world import CLOCK, RECONCILE, SLOTS, Row, World, key_of, things_of


class Cached(NamedTuple):
    """The content of one key."""

    thing: int | None = None
    version: int | None = None
    as_of: bytes | None = None


class Unfinished(NamedTuple):
    """The work in Redis for changes that are not in the cache yet."""

    enqueued: frozenset[str]
    """Names of pending and delayed jobs."""
    published: frozenset[int]
    """Things in the events of the stream."""
    missed: frozenset[str]
    """Names of jobs that the sweep will enqueue."""
    clock: bool
    leased: frozenset[str]


def cached(world: World) -> dict[str, Cached]:
    """Return the content of each slot's key."""
    names = [name for slot in SLOTS for name in (key_of(slot), keys.updated(key_of(slot)))]
    found: Any = world.cache.mget(names)
    values = [orjson.loads(raw) if raw else {} for raw in found[::2]]
    return {
        slot: Cached(value.get("thing"), value.get("version"), as_of)
        for slot, value, as_of in zip(SLOTS, values, found[1::2], strict=True)
    }


def unfinished(world: World) -> Unfinished:
    """Return all unfinished work."""
    with world.cache.pipeline() as pipeline:
        for priority in Priority:
            pipeline.zrange(f"{keys.INTERNAL}due:{priority}", 0, -1)
        pipeline.zrange(keys.DELAYED, 0, -1)
        pipeline.xrange(keys.STREAM)
        pipeline.hgetall(keys.KEY_INDEX)
        pipeline.hkeys(f"{keys.INTERNAL}leases")
        pipeline.exists(CLOCK)
        *due, delayed, entries, key_index, leases, clock = pipeline.execute()
    enqueued = {name.decode() for names in due for name in names}
    enqueued |= {entry.decode().rpartition("|")[2] for entry in delayed}
    return Unfinished(
        frozenset(enqueued),
        frozenset(thing for _, fields in entries for thing in things_of(fields[b"data"])),
        frozenset(_missed(world, key_index)),
        bool(clock),
        frozenset(name.decode() for name in leases),
    )


def _missed(world: World, key_index: dict[bytes, bytes]) -> Iterator[str]:
    for name, stored in key_index.items():
        for key in orjson.loads(stored):
            if world.cache.exists(key, keys.updated(key)) < 2:
                yield name.decode()


class Checks:
    """Compares the cache with its state after the step before."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._before = cached(world)

    def after_step(self) -> None:
        """Check that no value goes back, and that jobs are pending for all stale values."""
        now = cached(self._world)
        for slot, new in now.items():
            old = self._before[slot]
            if old.as_of and new.as_of:
                assert float(new.as_of) >= float(old.as_of), f"the as-of of {slot} went back"
                # Of two things that share a key the older may be written last; its job is pending.
                if old.thing == new.thing:
                    assert (new.version or 0) >= (old.version or 0), f"{slot} went back"
        self._before = now
        pending = unfinished(self._world)
        if pending.clock and RECONCILE not in pending.enqueued and not self._world.group_lost:
            for slot, found in now.items():
                self._check_pending(slot, found, pending)

    def _check_pending(self, slot: str, found: Cached, pending: Unfinished) -> None:
        world = self._world
        in_slot = {thing: row for thing, row in world.database.items() if row.slot == slot}
        thing, row = next(iter(in_slot.items()), (None, None))
        if (found.thing, found.version) == (thing, row.version if row else None):
            return
        concerned = {each for each in (thing, found.thing) if each is not None}
        unclaimed = key_of(slot) in world.unclaimed and thing is None
        assert unclaimed or any(self._will_be_answered(each, pending) for each in concerned), (
            f"{slot} has {found}, should have {thing, row}, and no job is pending"
        )

    def _will_be_answered(self, thing: int, pending: Unfinished) -> bool:
        """Say whether a job for a thing is pending, will be enqueued, or is a dead letter."""
        world = self._world
        name = f"thing:{thing}"
        change = world.change
        under_way = change is not None and not change.to_commit and thing in change.slots
        row: Row | None = world.database.get(thing)
        buried = thing in world.buried and world.buried[thing] == row
        return (
            name in pending.enqueued
            or name in pending.missed
            or thing in pending.published
            or under_way
            or buried
        )

    def at_end(self) -> None:
        """Check that the cache equals the database, and that no work is left."""
        world = self._world
        should = {row.slot: (thing, row.version) for thing, row in world.database.items()}
        unclaimed = {slot for slot in SLOTS if key_of(slot) in world.unclaimed}
        now = cached(world)
        found = {slot: now[slot][:2] for slot in SLOTS if now[slot].thing is not None}
        for slot in unclaimed - set(should):
            found.pop(slot, None)
        assert found == should
        assert all(now[slot].as_of for slot in should)
        pending = unfinished(world)
        assert not pending.enqueued | pending.missed
        assert not pending.published
        # The hash of a job whose due time was evicted stays if the thing was deleted.
        assert world.evicted or not pending.leased
        assert world.evicted or world.names(f"{keys.JOB}*") == ["none"]
        assert world.cache.xlen(keys.STREAM) == 0
        assert world.cache.xpending(keys.STREAM, keys.GROUP)["pending"] == 0
