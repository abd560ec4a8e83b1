"""Whatever happens, and in whatever order, the cache comes to what the database holds.

Hypothesis draws the order: commits and events, two daemons' workers that are slow, die, fail or
come back long after, clocks that jump, and losses of anything. After each step it is looked
whether a value went back, or was forgotten; at the end an honest worker finishes what is left.
The rules it rests on are those of `tests/fencing_model.py`, where they are tried one by one.
"""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings, strategies as st

from statsd import keys
from statsd.dev import binaries, embedded
from tests.fencing.checks import Checks, unfinished
from tests.fencing.world import CLOCK, LEASE, PLACES, Thing, World, key_of

pytestmark = pytest.mark.every_redis

THINGS = (1, 2)
ROUNDS, ANSWERS = 6, 12  # more than honest work needs

Step = tuple[str, tuple[object, ...]]
places = st.sampled_from(PLACES)


def steps_of(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.tuples(*arguments))


going_on = steps_of(
    "go_on", st.sampled_from(["land", "read", "accept", "restart_consumer", "sweep"])
)
changing = steps_of(
    "change",
    st.sampled_from(THINGS),
    st.sampled_from([*PLACES, None]),
    st.sampled_from(["whole", "whole", "published", "published", "committed"]),
    st.sampled_from([True, True, False]),
)
taking = steps_of(
    "take",
    st.sampled_from([0, 1]),
    st.sampled_from([1, 1, 10]),
    st.sampled_from(["open", "open", "complete", "complete_and_lease", None]),
    st.sampled_from(THINGS),
)
working = steps_of(
    "work",
    st.integers(0, 3),
    st.sampled_from(
        ["complete"] * 3
        + ["complete_and_lease"] * 2
        + ["open", "renew", "halve", "fail", "bury", "die", "restart"]
    ),
)
waiting = steps_of("wait", st.sampled_from([3, LEASE + 1, 3600]))
jumping = steps_of(
    "jump", st.sampled_from(["set_back", "set_ahead"]), st.sampled_from([4, 61, 3600])
)
losing = steps_of(
    "lose",
    st.sampled_from(["value", "stamp", "both", "evict", "clock", "clock"]),
    places,
    st.integers(0, 9),
) | steps_of("lose_all", st.sampled_from(["flush", "delete_stats", "delete_stream"]))


def orders(kinds: list[st.SearchStrategy[Step]]) -> st.SearchStrategy[list[Step]]:
    """Draw some thirty steps, and as few as it takes: one long list would be short on average."""
    # What is named twice is drawn twice as often, which `one_of` would not do.
    some = st.lists(st.sampled_from(kinds).flatmap(lambda kind: kind), max_size=10)
    return st.tuples(*[some] * 6).map(lambda parts: [step for part in parts for step in part])


# Half of all orders lose nothing: a loss has everything done again, which heals much.
usual = [taking, changing, working] * 3 + [working, going_on, waiting]
any_order = orders(usual) | orders([*usual, jumping, jumping, losing])


OPEN: Step = ("take", (0, 1, "open", 1))  # a worker has a snapshot for thing 1
ANSWER: Step = ("take", (1, 10, "complete", 2))  # another answers what is due
CHANGE: Step = ("change", (1, "a", "whole", True))
BACK: Step = ("jump", ("set_back", 3600))
NO_CLOCK: Step = ("lose", ("clock", "a", 0))
WAIT: Step = ("wait", (LEASE + 1,))
COMPLETE, BURY, DIE = [("work", (0, step)) for step in ("complete", "bury", "die")]

# Short orders that harm comes of as soon as one thing is missing, which is said behind them.
TELLING: list[list[Step]] = [
    [OPEN, CHANGE, COMPLETE],  # a mark set meanwhile stays
    [OPEN, CHANGE, BURY],  # also when the attempt was the last
    [OPEN, WAIT, CHANGE, ANSWER, COMPLETE],  # a lease that is over counts no more
    [OPEN, ("change", (2, "a", "whole", True)), ANSWER, COMPLETE],  # nor does an older stamp
    [("change", (1, "a", "published", True)), ANSWER, ("go_on", ("land",))],  # the second look
    [("lose", ("value", "a", 0))],  # the sweep
    [OPEN, BACK, DIE],  # due times go on when the server's clock is set back
    [BACK, CHANGE, NO_CLOCK],  # a new clock goes on from the stamps there are
    [("change", (1, None, "whole", True)), ANSWER, WAIT, CHANGE, BACK, NO_CLOCK],  # and the marks
    [OPEN, BACK, NO_CLOCK],  # what was leased under the former clock is due
    [OPEN, BACK, NO_CLOCK, CHANGE, COMPLETE],  # and its leases are over
    [OPEN, BACK, NO_CLOCK, CHANGE, BURY],
]


class Run:
    """Does what was drawn in a world, and looks at it after each step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.checks = Checks(world)

    def do(self, step: Step) -> None:
        name, arguments = step
        getattr(self, name)(*arguments)
        self.checks.moment()

    def go_on(self, step: str) -> None:
        getattr(self.world, step)()

    def change(self, thing: int, place: str | None, half: str, delivered: bool) -> None:
        """Put a thing somewhere, where another gets its place or goes; or delete it."""
        world = self.world
        world.land()
        former = world.database[thing].place if thing in world.database else None
        moved: dict[int, str | None] = {
            other: former
            for other, row in world.database.items()
            if row.place == place and other != thing
        }
        world.begin(moved | {thing: place}, publish_first=half == "published")
        if half == "whole":
            world.land()
        if delivered:
            world.read()
            world.accept()

    def take(self, daemon: int, most: int, then: str | None, missed: int) -> None:
        """Take what is due; if nothing is, a reader misses something first."""
        leased = self.world.take(daemon, most)
        if not leased:
            self.world.enqueue(Thing(missed))
            leased = self.world.take(daemon, most)
        if leased and then:
            getattr(self.world, then)(self.world.work[-1])

    def work(self, number: int, step: str) -> None:
        if self.world.work:
            getattr(self.world, step)(self.world.work[number % len(self.world.work)])

    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    def jump(self, where: str, seconds: int) -> None:
        getattr(self.world, where)(seconds)

    def lose(self, what: str, place: str, number: int) -> None:
        """Lose a value, or something private, whereupon the daemon sees that keys were evicted."""
        key = key_of(place)
        public = {"value": [key], "stamp": [keys.updated(key)], "both": [key, keys.updated(key)]}
        if what in public:
            self.world.cache.delete(*public[what])
        else:
            private = self.world.names(f"{keys.INTERNAL}*")
            self.world.evict(CLOCK if what == "clock" else private[number % len(private)])

    def lose_all(self, what: str) -> None:
        getattr(self.world, what)()

    def finish(self) -> None:
        """Finish honestly; then let those come back who were away."""
        away = list(self.world.work)
        self._finish_honestly()
        self.checks.rest()
        for work in away:
            if work.snapshot is not None:
                assert set(self.world.complete(work)) <= {"fenced"}
        self.checks.rest()

    def _finish_honestly(self) -> None:
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
            world.pass_time(LEASE + 1)  # for more nobody has to wait
            self._answer_all()
            self.checks.moment()
            pending = unfinished(world)
            if not (pending.enqueued or pending.missed or pending.published):
                return

    def _answer_all(self) -> None:
        for _ in range(ANSWERS):
            if not self.world.take(0, 10):
                return
            self.world.complete(self.world.work[-1])
        pytest.fail("there is no end to the work")


@pytest.fixture
def new_world(redis_server: embedded.Redis, cache: "redis.Redis") -> Iterator[Callable[[], World]]:
    """What makes a world on an empty Redis."""
    with asyncio.Runner() as runner:
        client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
        yield lambda: World(cache, client, runner.run)
        runner.run(client.aclose())


@pytest.mark.timeout(900)  # some twenty seconds on an idle machine
def test_in_any_order_the_cache_comes_to_what_the_database_holds(
    new_world: Callable[[], World], redis_server: embedded.Redis
) -> None:
    many = redis_server.binary == binaries.find_redis()  # others differ in few commands

    @given(steps=any_order)
    @settings(
        max_examples=500 if many else 100,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    def try_order(steps: list[Step]) -> None:
        run = Run(new_world())
        for step in steps:
            run.do(step)
        run.finish()

    for order in TELLING:
        try_order = example(steps=order)(try_order)
    try_order()
