"""A model of how marks, leases, tokens and stamps work together, small enough to try everything.

It has a few refreshes that share a key, a producer that changes the database and publishes, a
consumer, workers, and faults. What a script does in Redis is one step, as it is there, and
whatever may come next does, in every order. It says what `statsd/lua` does in other words:
where a script changes this has to follow, and tells whether the rules still suffice. Delays and
leases may end at any time.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from tests.fencing.state import (
    Attempt,
    Due,
    Key,
    Mark,
    State,
    World,
    cleared,
    newest,
    with_attempt,
    with_mark,
    without_clock,
)


class Rule(StrEnum):
    """What keeps the cache right. A model can be made without some of them."""

    MARK_BEFORE_ACKNOWLEDGING = "an event is acknowledged in the step that sets its marks"
    RECHECK = "an event whose change is not there yet is marked once more, later"
    LEASE = "a mark is leased and comes due again, not taken away"
    LEASE_FENCE = "an answer or a failure under a lease that is another's is refused"
    EPOCH_FENCE = "an answer from another life of the clock is refused"
    SNAPSHOT_AFTERWARDS = "a snapshot is opened after its token was made"
    RENEWED_EACH_TIME = "each attempt has a token of its own"
    UNMARK_ANSWERED = "a mark that is newer than the answer stays"
    STAMP_GUARD = "a value with a newer stamp is not written over"
    DELETION_GUARD = "a key with a newer stamp is not deleted"
    OWNERS = "a key that another refresh has written since is not deleted"
    NEVER_BACK = "tokens go on from the last one when the server's clock is set back"
    OFFSET = "leases last no longer when the server's clock is set back"
    LEASES_END_WITH_THE_CLOCK = "a clock made anew voids all leases, and all marks are due"
    CATCH_UP = "a clock made anew goes on from the newest stamp and mark that are left"
    RECONCILE = "a clock made anew owes everything"
    SWEEP = "a key that is in the books and not in the cache is owed"


FAULTS = {
    "crash": "the consumer or a worker crashes",
    "bury": "an attempt fails, the last one, and goes to the dead letters",
    "flush": "FLUSHALL",
    "delete stats": "DEL stats:*",
    "lose key": "the key and its stamp are deleted",
    "lose stamp": "the stamp is deleted",
    "lose clock": "the clock is evicted",
    "set back": "the server's clock is set back",
}


Step = tuple[str, State]


class Model:
    """The transitions of a world, with all rules or without some."""

    def __init__(self, world: World, without: frozenset[Rule] = frozenset()) -> None:
        self.world = world
        self._without = without

    def _has(self, rule: Rule) -> bool:
        return rule not in self._without

    def steps(self, state: State) -> Iterator[Step]:
        """Yield all that may happen next: what it is, and the state after it."""
        yield from self._produce(state)
        yield from self._consume(state)
        yield from self._pass_time(state)
        yield from self._heal(state)
        for worker, attempt in enumerate(state.workers):
            if attempt is None:
                yield from self._take(state, worker)
            else:
                yield from self._work(state, worker, attempt)
        if state.faults < self.world.most_faults:
            for what, after in self._break(state):
                if what in self.world.faults:
                    yield FAULTS[what], after._replace(faults=state.faults + 1)

    # --- what the scripts begin with

    def _tick(self, state: State) -> Iterator[tuple[State, int]]:
        """Make a token, newer than the last; make the clock where there is none."""
        places = range(-1, newest(state) + 2, 2)
        if state.last is None:
            left = [mark.marked for mark in state.marks if mark]
            left += [] if state.key.stamp is None else [state.key.stamp]
            least = max(left, default=-1) if self._has(Rule.CATCH_UP) else -1
            for token in places if state.behind else places[-1:]:
                if token >= least:
                    yield self._new_clock(state, token), token
        elif state.behind and not self._has(Rule.NEVER_BACK):
            yield state._replace(last=-1, behind=False), -1
        else:
            for token in places:
                if token > state.last:
                    yield state._replace(last=token), token

    def _new_clock(self, state: State, token: int) -> State:
        marks = state.marks
        if self._has(Rule.LEASES_END_WITH_THE_CLOCK):
            marks = tuple(mark and Mark(mark.marked) for mark in marks)
        elif state.behind:  # leases are by a clock that was ahead
            marks = tuple(map(_far, marks))
        owed = self._has(Rule.RECONCILE)
        return state._replace(last=token, behind=False, marks=marks, reconcile=owed)

    @staticmethod
    def _owe(state: State, names: Iterable[int]) -> State:
        assert state.last is not None
        marks = list(state.marks)
        for name in names:
            was = marks[name]
            leased = was is not None and was.holder is not None
            marks[name] = (
                was._replace(marked=state.last) if was and leased else Mark(marked=state.last)
            )
        return state._replace(marks=tuple(marks))

    # --- producer and consumer

    def _produce(self, state: State) -> Iterator[Step]:
        whole, half = divmod(state.made, 2)
        if whole < len(self.world.early):
            publishes = self.world.early[whole] != bool(half)
            after = state._replace(made=state.made + 1, unread=state.unread + publishes)
            yield f"{'publish' if publishes else 'commit'} change {whole + 1}", after

    def _consume(self, state: State) -> Iterator[Step]:
        if state.unread:
            again = self.world.under_way(state) if self._has(Rule.RECHECK) else 0
            kept = self._has(Rule.MARK_BEFORE_ACKNOWLEDGING)
            yield (
                "read an event",
                state._replace(
                    unread=state.unread - 1,
                    read=state.read + kept,
                    planned=(*state.planned, again),
                ),
            )
        if state.planned:
            for ticked, _ in self._tick(state):
                owed = self._owe(ticked, self.world.names)
                for bit in state.planned:
                    owed = owed._replace(later=owed.later | bit)
                yield "accept the events", owed._replace(read=0, planned=())

    def _pass_time(self, state: State) -> Iterator[Step]:
        for name, mark in enumerate(state.marks):
            if mark and mark.due == Due.LEASED:
                yield f"lease of {name} ends", with_mark(state, name, mark._replace(due=Due.NOW))
        due = state.later & ~self.world.under_way(state)
        if due:
            for ticked, _ in self._tick(state):
                after = self._owe(ticked, self.world.names)
                yield "a delayed mark is due", after._replace(later=state.later & ~due)

    def _heal(self, state: State) -> Iterator[Step]:
        if state.last is None:
            for ticked, _ in self._tick(state):
                yield "a script makes the clock", ticked
        if state.reconcile:
            for ticked, _ in self._tick(state):
                holder = self.world.holders[self.world.version(state)]
                there = (n for n in self.world.names if n == holder or state.holdings[n])
                yield "reconcile", self._owe(ticked._replace(reconcile=False), there)
        for name in self._missing(state):
            for ticked, _ in self._tick(state):
                yield f"the sweep owes {name}", self._owe(ticked, range(name, name + 1))

    def _missing(self, state: State) -> list[int]:
        """Return what has no mark and has lost its key or its stamp."""
        if None not in state.key or not self._has(Rule.SWEEP):
            return []
        return [n for n in self.world.names if state.holdings[n] and not state.marks[n]]

    # --- workers

    def _take(self, state: State, worker: int) -> Iterator[Step]:
        for name, mark in enumerate(state.marks):
            if mark and mark.due == Due.NOW:
                for ticked, token in self._tick(state):
                    leased = mark._replace(due=Due.LEASED, holder=worker)
                    after = with_mark(ticked, name, leased if self._has(Rule.LEASE) else None)
                    attempt = Attempt(name, token, self._began(ticked))
                    yield f"worker {worker} takes {name}", with_attempt(after, worker, attempt)

    def _began(self, state: State) -> int:
        return self.world.version(state) if "bury" in self.world.faults else 0

    def _work(self, state: State, worker: int, attempt: Attempt) -> Iterator[Step]:
        who = f"worker {worker}"
        if attempt.version is None:
            opened = attempt._replace(version=self.world.version(state))
            yield f"{who} opens its snapshot", with_attempt(state, worker, opened)
        else:
            for ticked, token in self._tick(state):
                yield f"{who} renews", self._renew(ticked, worker, attempt, token)
        for ticked, _ in self._tick(state):
            if attempt.version is not None:
                yield f"{who} settles", self._settle(ticked, worker, attempt)
            yield f"{who} fails", self._fail(ticked, worker, attempt)

    def _holds(self, state: State, worker: int, attempt: Attempt) -> bool:
        mark = state.marks[attempt.name]
        return mark is not None and mark.holder == worker

    def _renew(self, state: State, worker: int, attempt: Attempt, token: int) -> State:
        mark = state.marks[attempt.name]
        if mark and mark.holder == worker:
            state = with_mark(state, attempt.name, mark._replace(due=Due.LEASED))
        kept = None if self._has(Rule.SNAPSHOT_AFTERWARDS) else attempt.version
        token = token if self._has(Rule.RENEWED_EACH_TIME) else attempt.token
        renewed = Attempt(attempt.name, token, self._began(state), version=kept)
        return with_attempt(state, worker, renewed)

    def _settle(self, state: State, worker: int, attempt: Attempt) -> State:
        after = with_attempt(state, worker, None)
        leased = self._holds(state, worker, attempt) or not self._has(Rule.LEASE)
        if not leased and self._has(Rule.LEASE_FENCE):
            return after
        if not attempt.this_life and self._has(Rule.EPOCH_FENCE):
            return after
        return self._unmark(self._write(after, attempt), attempt)

    def _unmark(self, state: State, attempt: Attempt) -> State:
        mark = state.marks[attempt.name]
        if not mark or attempt.token > mark.marked or not self._has(Rule.UNMARK_ANSWERED):
            return with_mark(state, attempt.name, None)
        return with_mark(state, attempt.name, Mark(mark.marked))

    def _write(self, state: State, attempt: Attempt) -> State:
        """Write the value or delete the key, and keep the books."""
        name, token, version = attempt.name, attempt.token, attempt.version
        assert version is not None
        older = state.key.stamp is None or state.key.stamp < token
        held = state.holdings[name]
        holds = self.world.holders[version] == name
        if holds and (older or not self._has(Rule.STAMP_GUARD)):
            state = state._replace(key=Key(version, token), owner=name)
        mine = state.owner == name or not self._has(Rule.OWNERS)
        if held and not holds and mine:
            if older or not self._has(Rule.DELETION_GUARD):
                state = state._replace(key=Key())
            state = state._replace(owner=None)
        holdings = (*state.holdings[:name], holds, *state.holdings[name + 1 :])
        return state._replace(holdings=holdings)

    def _fail(self, state: State, worker: int, attempt: Attempt) -> State:
        after = with_attempt(state, worker, None)
        mark = state.marks[attempt.name]
        if not self._has(Rule.LEASE):
            return self._owe(after, range(attempt.name, attempt.name + 1))
        if mark and (mark.holder == worker or not self._has(Rule.LEASE_FENCE)):
            return with_mark(after, attempt.name, mark._replace(due=Due.NOW, holder=None))
        return after

    def _bury(self, state: State, worker: int, attempt: Attempt) -> State:
        if not self._holds(state, worker, attempt) and self._has(Rule.LEASE_FENCE):
            return with_attempt(state, worker, None)
        buried = state._replace(letter=attempt.began)
        return self._unmark(with_attempt(buried, worker, None), attempt)

    # --- faults

    def _break(self, state: State) -> Iterator[Step]:
        yield from self._stop(state)
        # A commit under way lands before anybody has noticed that something was lost.
        if not self.world.under_way(state):
            yield "flush", cleared(state)._replace(unread=0, read=0)
            yield "delete stats", cleared(state)
        if state.key.version is not None:
            yield "lose key", state._replace(key=Key())
        if state.key.stamp is not None:
            yield "lose stamp", state._replace(key=state.key._replace(stamp=None))
        if state.last is not None:
            yield "lose clock", without_clock(state)
            yield "set back", self._set_back(state)

    def _stop(self, state: State) -> Iterator[Step]:
        if state.planned:
            unread = state.unread + state.read
            yield "crash", state._replace(unread=unread, read=0, planned=())
        for worker, attempt in enumerate(state.workers):
            if attempt:
                yield "crash", with_attempt(state, worker, None)
                for ticked, _ in self._tick(state):
                    yield "bury", self._bury(ticked, worker, attempt)

    def _set_back(self, state: State) -> State:
        if self._has(Rule.OFFSET):
            return state._replace(behind=True)
        return state._replace(behind=True, marks=tuple(map(_far, state.marks)))

    # --- what must hold

    def stale(self, state: State) -> bool:
        """Say whether the cache differs from the database."""
        version = self.world.version(state)
        return state.key.version != (None if self.world.holders[version] is None else version)

    def owed(self, state: State) -> bool:
        """Say whether anything stands for a change that is not in the cache."""
        committed_only = state.made % 2 == 1 and not self.world.under_way(state)
        waiting = committed_only or state.unread or state.planned or state.later
        marked = any(state.marks) or state.reconcile or self._missing(state)
        buried = state.letter == self.world.version(state)
        return bool(waiting or marked or state.last is None or buried)

    def at_rest(self, state: State) -> bool:
        """Say whether all was made, published and answered, and nobody works."""
        ended = state.made == 2 * len(self.world.early)
        buried = state._replace(letter=None)
        return ended and not self.owed(buried) and not any(state.workers)

    def wrong(self, before: State, after: State) -> str | None:
        """Return what a step did that must not be; moments of both are numbered alike."""
        old, new = before.key, after.key
        if old.stamp is not None and new.stamp is not None:
            # Of two refreshes that share a key, the one with the newer token may have the older
            # snapshot. Then the key is stale for a while, as what follows makes sure.
            if before.owner == after.owner and (old.version or 0) > (new.version or 0):
                return "the value went back to an older one"
            if old.stamp > new.stamp:
                return "the stamp went back"
        if self.stale(after) and not self.owed(after):
            return "the cache differs from the database, and nothing is owed"
        return None


def _far(mark: Mark | None) -> Mark | None:
    return mark if mark is None or mark.holder is None else mark._replace(due=Due.FAR)
