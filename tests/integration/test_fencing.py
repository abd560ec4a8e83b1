"""Whatever happens, and in whatever order, the cache comes to what the database holds.

Hypothesis draws the order: commits and events, two daemons' workers that are slow, die, fail or
come back long after, clocks that jump, and losses of anything. After each step it is looked
whether a value went back, or was forgotten; at the end an honest worker finishes what is left.
The rules it rests on are those of `tests/fencing_model.py`, where they are tried one by one.
"""

import asyncio
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from statsd import embedded, keys
from tests.fencing_checks import Checks, debts
from tests.fencing_world import CLOCK, LEASE, PLACES, Work, World, key_of

ROUNDS, ANSWERS = 6, 12  # more than honest work needs
things = st.sampled_from([1, 2, 3])
places = st.sampled_from(PLACES)
daemons = st.sampled_from([0, 1])
picks = st.integers(0, 3)


class Fencing(RuleBasedStateMachine):
    """One world and what may happen in it."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.checks = Checks(world)
        self.well = True

    def pick(self, number: int) -> Work:
        return self.world.work[number % len(self.world.work)]

    def working(self) -> bool:
        return bool(self.world.work)

    # --- changes and events

    @rule(thing=things, place=places, publish_first=st.booleans())
    def put(self, thing: int, place: str, *, publish_first: bool) -> None:
        """Put a thing somewhere; what is there gets its place, or goes."""
        self.world.land()
        database = self.world.database
        former = database[thing].place if thing in database else None
        moved: dict[int, str | None] = {
            other: former
            for other, row in database.items()
            if row.place == place and other != thing
        }
        self.world.begin(moved | {thing: place}, publish_first=publish_first)

    @rule(thing=things, publish_first=st.booleans())
    def remove(self, thing: int, *, publish_first: bool) -> None:
        self.world.begin({thing: None}, publish_first=publish_first)

    @precondition(lambda self: self.world.change is not None)
    @rule()
    def finish_change(self) -> None:
        self.world.land()

    @rule()
    def deliver(self) -> None:
        self.world.read()
        self.world.accept()

    @rule(step=st.sampled_from(["read", "accept", "restart_consumer"]))
    def consume(self, step: str) -> None:
        getattr(self.world, step)()

    # --- workers

    @rule(daemon=daemons)
    def work(self, daemon: int) -> None:
        if self.world.take(daemon, 10):
            self.world.settle(self.world.work[-1])

    @precondition(lambda self: len(self.world.work) < 4)
    @rule(daemon=daemons, most=st.sampled_from([1, 10]), opens=st.booleans())
    def take(self, daemon: int, most: int, *, opens: bool) -> None:
        if self.world.take(daemon, most) and opens:
            self.world.open(self.world.work[-1])

    @precondition(working)
    @rule(number=picks)
    def open(self, number: int) -> None:
        self.world.open(self.pick(number))

    @precondition(working)
    @rule(number=picks)
    def settle(self, number: int) -> None:
        self.world.settle(self.pick(number))

    @precondition(working)
    @rule(number=picks, half=st.booleans())
    def try_again(self, number: int, *, half: bool) -> None:
        (self.world.halve if half else self.world.renew)(self.pick(number))

    @precondition(working)
    @rule(number=picks, last=st.booleans())
    def fail(self, number: int, *, last: bool) -> None:
        self.world.fail(self.pick(number), last=last)

    @precondition(working)
    @rule(number=picks)
    def crash(self, number: int) -> None:
        self.world.work.remove(self.pick(number))

    @rule(daemon=daemons)
    def release(self, daemon: int) -> None:
        self.world.release(daemon)

    # --- time and losses

    @rule(seconds=st.sampled_from([LEASE + 1, 3, 3600]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(seconds=st.sampled_from([1, 61, 3600]), back=st.booleans())
    def jump(self, seconds: int, *, back: bool) -> None:
        self.world.jump(seconds, back=back)

    @rule(place=places, value=st.booleans(), stamp=st.booleans())
    def lose(self, place: str, *, value: bool, stamp: bool) -> None:
        lost = [key_of(place)] * value + [keys.updated(key_of(place))] * stamp
        self.world.lose(*lost, "none")

    @rule()
    def sweep(self) -> None:
        self.world.sweep()

    @rule(
        what=st.sampled_from(["clock", "any", "flush", "delete_stats", "delete_stream"]),
        number=st.integers(0, 9),
    )
    def lose_more(self, what: str, number: int) -> None:
        private = self.world.names(f"{keys.INTERNAL}*")
        if what == "clock":
            self.world.evict(CLOCK)
        elif what == "any":
            self.world.evict(private[number % len(private)])
        else:
            getattr(self.world, what)()

    # --- what must hold

    @invariant()
    def nothing_goes_back_and_nothing_is_forgotten(self) -> None:
        self.well = False
        self.checks.moment()
        self.well = True

    def teardown(self) -> None:
        """Finish honestly; then let those come back who were away."""
        if not self.well:
            return
        late = list(self.world.work)
        self._finish()
        for work in late:
            if work.snapshot is not None:
                assert set(self.world.settle(work)) <= {"lost"}
        self.checks.moment()
        self.checks.rest()

    def _finish(self) -> None:
        world = self.world
        world.land()
        world.accept()
        world.replay()
        for _ in range(ROUNDS):
            world.restart_consumer()
            world.accept()
            world.read()
            world.accept()
            world.sweep()
            world.pass_time(3600)
            self._answer_all()
            self.checks.moment()
            owed = debts(world)
            if not (owed.marked or owed.missed or owed.published):
                break
        self.checks.rest()

    def _answer_all(self) -> None:
        world = self.world
        for _ in range(ANSWERS):
            if not world.take(0, 10):
                return
            world.settle(world.work[-1])
        pytest.fail("there is no end to the work")


@pytest.fixture
def world(redis_server: embedded.Redis, cache: "redis.Redis") -> Iterator[type[Fencing]]:
    """What makes a machine on an empty Redis."""
    with asyncio.Runner() as runner:
        client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)

        class OnThisServer(Fencing):
            def __init__(self) -> None:
                super().__init__(World(cache, client, runner.run))

        yield OnThisServer
        runner.run(client.aclose())


def test_in_any_order_the_cache_comes_to_what_the_database_holds(world: type[Fencing]) -> None:
    run_state_machine_as_test(
        world,
        settings=settings(
            max_examples=250,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
