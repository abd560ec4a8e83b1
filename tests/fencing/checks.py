"""What must hold in a fencing world, at each moment and when all is done."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from statsd import keys
from statsd.job import Priority
from tests.fencing.world import CLOCK, PLACES, RECONCILE, Row, World, key_of, things_of


class Cached(NamedTuple):
    """What lies under one key."""

    thing: int | None = None
    version: int | None = None
    as_of: bytes | None = None


class Unfinished(NamedTuple):
    """What stands for a change that is not in the cache yet."""

    enqueued: frozenset[str]
    """Names that have a mark, also a delayed one."""
    published: frozenset[int]
    """Things that an event names which is in the stream."""
    missed: frozenset[str]
    """Names that the sweep will owe."""
    clock: bool
    leased: frozenset[str]


def cached(world: World) -> dict[str, Cached]:
    """Return what lies under each place's key."""
    names = [name for place in PLACES for name in (key_of(place), keys.updated(key_of(place)))]
    found: Any = world.cache.mget(names)
    values = [orjson.loads(raw) if raw else {} for raw in found[::2]]
    return {
        place: Cached(value.get("thing"), value.get("version"), as_of)
        for place, value, as_of in zip(PLACES, values, found[1::2], strict=True)
    }


def unfinished(world: World) -> Unfinished:
    """Look everything up that is owed."""
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
    for name, held in key_index.items():
        for key in orjson.loads(held):
            if world.cache.exists(key, keys.updated(key)) < 2:
                yield name.decode()


class Checks:
    """Compares each moment with the one before."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._before = cached(world)

    def moment(self) -> None:
        """Nothing goes back, and what is not in the cache is owed."""
        now = cached(self._world)
        for place, new in now.items():
            old = self._before[place]
            if old.as_of and new.as_of:
                assert float(new.as_of) >= float(old.as_of), f"the stamp of {place} went back"
                # Between two things that share a key the older may come last, and stays owed.
                if old.thing == new.thing:
                    assert (new.version or 0) >= (old.version or 0), f"{place} went back"
        self._before = now
        pending = unfinished(self._world)
        if pending.clock and RECONCILE not in pending.enqueued and not self._world.group_lost:
            for place, found in now.items():
                self._is_owed(place, found, pending)

    def _is_owed(self, place: str, found: Cached, pending: Unfinished) -> None:
        world = self._world
        there = {thing: row for thing, row in world.database.items() if row.place == place}
        thing, row = next(iter(there.items()), (None, None))
        if (found.thing, found.version) == (thing, row.version if row else None):
            return
        concerned = {each for each in (thing, found.thing) if each is not None}
        unclaimed = key_of(place) in world.unclaimed and thing is None
        assert unclaimed or any(self._stands(each, pending) for each in concerned), (
            f"{place} has {found}, should have {thing, row}, and nothing is owed"
        )

    def _stands(self, thing: int, pending: Unfinished) -> bool:
        """Say whether anything will answer for a thing."""
        world = self._world
        name = f"thing:{thing}"
        change = world.change
        under_way = change is not None and not change.to_commit and thing in change.places
        row: Row | None = world.database.get(thing)
        buried = thing in world.buried and world.buried[thing] == row
        return (
            name in pending.enqueued
            or name in pending.missed
            or thing in pending.published
            or under_way
            or buried
        )

    def rest(self) -> None:
        """All is in the cache, nothing else is, and nothing is owed."""
        world = self._world
        should = {row.place: (thing, row.version) for thing, row in world.database.items()}
        unclaimed = {place for place in PLACES if key_of(place) in world.unclaimed}
        now = cached(world)
        found = {place: now[place][:2] for place in PLACES if now[place].thing is not None}
        for place in unclaimed - set(should):
            found.pop(place, None)
        assert found == should
        assert all(now[place].as_of for place in should)
        pending = unfinished(world)
        assert not pending.enqueued | pending.missed
        assert not pending.published
        # Of a mark whose due time was evicted the rest stays, if the thing is gone.
        assert world.evicted or not pending.leased
        assert world.evicted or world.names(f"{keys.JOB}*") == ["none"]
        assert world.cache.xlen(keys.STREAM) == 0
        assert world.cache.xpending(keys.STREAM, keys.GROUP)["pending"] == 0
