"""After any order of steps the cache agrees with the database.

Hypothesis draws the order of commits, events, clock jumps, and losses of any key. Two daemons have
workers that are slow, die, fail, or answer long after. After each step the test checks that no
value went back or was forgotten. At the end a worker without faults finishes the remaining jobs.
`tests/fencing/model.py` has the rules behind this, and tries them one by one.
"""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings, strategies as st

from statsd import keys
from statsd.dev import binaries, embedded
from tests.fencing.checks import Checks, unfinished
from tests.fencing.world import CLOCK, LEASE, SLOTS, Thing, World, key_of

pytestmark = pytest.mark.every_redis

THINGS = (1, 2)
ROUNDS, ANSWERS = 6, 12  # more than work without faults needs

Step = tuple[str, tuple[object, ...]]
slots = st.sampled_from(SLOTS)


def steps_of(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.tuples(*arguments))


continuing = steps_of(
    "advance", st.sampled_from(["land", "read", "accept", "restart_consumer", "sweep"])
)
changing = steps_of(
    "change",
    st.sampled_from(THINGS),
    st.sampled_from([*SLOTS, None]),
    st.sampled_from(["whole", "whole", "published", "published", "committed"]),
    st.sampled_from([True, True, False]),
)
leasing = steps_of(
    "lease",
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
    st.sampled_from(["value", "as_of", "both", "evict", "clock", "clock"]),
    slots,
    st.integers(0, 9),
) | steps_of("lose_all", st.sampled_from(["flush", "delete_stats", "delete_stream"]))


def orders(kinds: list[st.SearchStrategy[Step]]) -> st.SearchStrategy[list[Step]]:
    """Draw about thirty steps in six short lists: one long list would be short on average."""
    # A kind that is listed twice is drawn twice as often, unlike with `one_of`.
    some = st.lists(st.sampled_from(kinds).flatmap(lambda kind: kind), max_size=10)
    return st.tuples(*[some] * 6).map(lambda parts: [step for part in parts for step in part])


# Half of all orders have no loss: after a loss everything is computed again, which hides faults.
usual = [leasing, changing, working] * 3 + [working, continuing, waiting]
any_order = orders(usual) | orders([*usual, jumping, jumping, losing])


OPEN: Step = ("lease", (0, 1, "open", 1))  # a worker has a snapshot for thing 1
ANSWER: Step = ("lease", (1, 10, "complete", 2))  # another worker answers the due jobs
CHANGE: Step = ("change", (1, "a", "whole", True))
BACK: Step = ("jump", ("set_back", 3600))
NO_CLOCK: Step = ("lose", ("clock", "a", 0))
WAIT: Step = ("wait", (LEASE + 1,))
COMPLETE, BURY, DIE = [("work", (0, step)) for step in ("complete", "bury", "die")]

# Short orders that fail without one rule, which the comment names.
SHORT_ORDERS: list[list[Step]] = [
    [OPEN, CHANGE, COMPLETE],  # a job that was enqueued meanwhile stays
    [OPEN, CHANGE, BURY],  # also after the last attempt
    [OPEN, WAIT, CHANGE, ANSWER, COMPLETE],  # an answer under an expired lease is refused
    [OPEN, ("change", (2, "a", "whole", True)), ANSWER, COMPLETE],  # an older as-of does not win
    [("change", (1, "a", "published", True)), ANSWER, ("advance", ("land",))],  # the delayed job
    [("lose", ("value", "a", 0))],  # the sweep
    [OPEN, BACK, DIE],  # due times continue when the server's clock is set back
    [BACK, CHANGE, NO_CLOCK],  # a new clock continues from the as-ofs in Redis
    [("change", (1, None, "whole", True)), ANSWER, WAIT, CHANGE, BACK, NO_CLOCK],  # and jobs
    [OPEN, BACK, NO_CLOCK],  # jobs that were leased in the former epoch are due
    [OPEN, BACK, NO_CLOCK, CHANGE, COMPLETE],  # and its leases end
    [OPEN, BACK, NO_CLOCK, CHANGE, BURY],
]


class Run:
    """Runs the drawn steps in a world, and checks it after each step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.checks = Checks(world)

    def do(self, step: Step) -> None:
        name, arguments = step
        getattr(self, name)(*arguments)
        self.checks.after_step()

    def advance(self, step: str) -> None:
        getattr(self.world, step)()

    def change(self, thing: int, slot: str | None, half: str, delivered: bool) -> None:
        """Move a thing to a slot, in exchange with another thing there; or delete it (None)."""
        world = self.world
        world.land()
        former = world.database[thing].slot if thing in world.database else None
        moved: dict[int, str | None] = {
            other: former
            for other, row in world.database.items()
            if row.slot == slot and other != thing
        }
        world.begin(moved | {thing: slot}, publish_first=half == "published")
        if half == "whole":
            world.land()
        if delivered:
            world.read()
            world.accept()

    def lease(self, daemon: int, most: int, then: str | None, missed: int) -> None:
        """Lease due jobs; if there are none, enqueue a thing first, as for a reader."""
        leased = self.world.lease(daemon, most)
        if not leased:
            self.world.enqueue(Thing(missed))
            leased = self.world.lease(daemon, most)
        if leased and then:
            getattr(self.world, then)(self.world.work[-1])

    def work(self, number: int, step: str) -> None:
        if self.world.work:
            getattr(self.world, step)(self.world.work[number % len(self.world.work)])

    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    def jump(self, where: str, seconds: int) -> None:
        getattr(self.world, where)(seconds)

    def lose(self, target: str, slot: str, number: int) -> None:
        """Lose a value, or a private key; the daemon notices the eviction."""
        key = key_of(slot)
        public = {"value": [key], "as_of": [keys.updated(key)], "both": [key, keys.updated(key)]}
        if target in public:
            self.world.cache.delete(*public[target])
        else:
            private = self.world.names(f"{keys.INTERNAL}*")
            self.world.evict(CLOCK if target == "clock" else private[number % len(private)])

    def lose_all(self, loss: str) -> None:
        getattr(self.world, loss)()

    def finish(self) -> None:
        """Finish all work without faults; then let the slow workers answer."""
        slow = list(self.world.work)
        self._finish_without_faults()
        self.checks.at_end()
        for work in slow:
            if work.snapshot is not None:
                assert set(self.world.complete(work)) <= {"fenced"}
        self.checks.at_end()

    def _finish_without_faults(self) -> None:
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
            world.pass_time(LEASE + 1)  # longer than any delay
            self._answer_all()
            self.checks.after_step()
            pending = unfinished(world)
            if not (pending.enqueued or pending.missed or pending.published):
                return

    def _answer_all(self) -> None:
        for _ in range(ANSWERS):
            if not self.world.lease(0, 10):
                return
            self.world.complete(self.world.work[-1])
        pytest.fail("the work does not end")


@pytest.fixture
def new_world(redis_server: embedded.Redis, cache: "redis.Redis") -> Iterator[Callable[[], World]]:
    """Make a world on an empty Redis."""
    with asyncio.Runner() as runner:
        client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
        yield lambda: World(cache, client, runner.run)
        runner.run(client.aclose())


@pytest.mark.timeout(900)  # about twenty seconds on an idle machine
def test_in_any_order_the_cache_agrees_with_the_database_in_the_end(
    new_world: Callable[[], World], redis_server: embedded.Redis
) -> None:
    is_default = redis_server.binary == binaries.find_redis()  # others differ in few commands

    @given(steps=any_order)
    @settings(
        max_examples=500 if is_default else 100,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    def try_order(steps: list[Step]) -> None:
        run = Run(new_world())
        for step in steps:
            run.do(step)
        run.finish()

    for order in SHORT_ORDERS:
        try_order = example(steps=order)(try_order)
    try_order()
