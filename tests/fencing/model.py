"""A model of jobs, leases, tokens and as-ofs, small enough for an exhaustive search.

It has a few jobs that share a key, a producer that changes the database and publishes, a consumer,
workers, and faults. Each Lua script is one step, as in Redis. The search tries all possible next
steps, in every order. Delays and leases may end at any time.

The model repeats the rules of the Lua scripts: change both together, and the search says whether
the rules still suffice.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from tests.fencing.state import (
    Attempt,
    Due,
    Key,
    PendingJob,
    State,
    World,
    cleared,
    newest,
    with_attempt,
    with_pending,
    without_clock,
)


class Rule(StrEnum):
    """The rules that keep the cache correct. A model can be made without some of them."""

    ENQUEUE_BEFORE_ACKNOWLEDGING = "an event is acknowledged in the step that enqueues its jobs"
    RECHECK = "an event whose change is not committed yet enqueues its jobs again later"
    LEASE = "a job is leased and becomes due again, and is not removed"
    LEASE_FENCE = "an answer or a failure under a lease of another worker is refused"
    EPOCH_FENCE = "an answer from another epoch is refused"
    SNAPSHOT_AFTERWARDS = "a snapshot is opened after its token was made"
    RENEWED_EACH_TIME = "each attempt has a token of its own"
    COMPLETE_ANSWERED = "a job that was enqueued after the answer's token stays"
    AS_OF_GUARD = "a value with a newer as-of is not overwritten"
    DELETION_GUARD = "a key with a newer as-of is not deleted"
    KEY_OWNERS = "a key that another job has written since is not deleted"
    NEVER_BACK = "tokens continue from the last one when the server's clock is set back"
    OFFSET = "leases keep their length when the server's clock is set back"
    LEASES_END_WITH_THE_CLOCK = "a new clock ends all leases, and all jobs are due"
    CATCH_UP = "a new clock continues from the newest as-of and job in Redis"
    RECONCILE = "a new clock enqueues a reconcile"
    SWEEP = "a key that is in the key index and not in the cache is computed again"


FAULTS = {
    "crash": "the consumer or a worker crashes",
    "bury": "the last attempt fails, and the job becomes a dead letter",
    "flush": "FLUSHALL",
    "delete stats": "DEL stats:*",
    "lose key": "the key and its as-of are deleted",
    "lose as-of": "the as-of is deleted",
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
        """Yield each possible next step: its description, and the state after it."""
        yield from self._produce(state)
        yield from self._consume(state)
        yield from self._pass_time(state)
        yield from self._heal(state)
        for worker, attempt in enumerate(state.workers):
            if attempt is None:
                yield from self._lease(state, worker)
            else:
                yield from self._work(state, worker, attempt)
        if state.faults < self.world.most_faults:
            for fault, after in self._break(state):
                if fault in self.world.faults:
                    yield FAULTS[fault], after._replace(faults=state.faults + 1)

    # --- the beginning of each script

    def _tick(self, state: State) -> Iterator[tuple[State, int]]:
        """Make a token that is newer than the last; make the clock where it is missing."""
        candidates = range(-1, newest(state) + 2, 2)
        if state.last is None:
            left = [job.enqueued for job in state.queue if job]
            left += [] if state.key.as_of is None else [state.key.as_of]
            least = max(left, default=-1) if self._has(Rule.CATCH_UP) else -1
            for token in candidates if state.behind else candidates[-1:]:
                if token >= least:
                    yield self._new_clock(state, token), token
        elif state.behind and not self._has(Rule.NEVER_BACK):
            yield state._replace(last=-1, behind=False), -1
        else:
            for token in candidates:
                if token > state.last:
                    yield state._replace(last=token), token

    def _new_clock(self, state: State, token: int) -> State:
        queue = state.queue
        if self._has(Rule.LEASES_END_WITH_THE_CLOCK):
            queue = tuple(job and PendingJob(job.enqueued) for job in queue)
        elif state.behind:  # leases end by a clock that was ahead
            queue = tuple(map(_far, queue))
        pending = self._has(Rule.RECONCILE)
        return state._replace(last=token, behind=False, queue=queue, reconcile=pending)

    @staticmethod
    def _enqueue(state: State, names: Iterable[int]) -> State:
        assert state.last is not None
        queue = list(state.queue)
        for name in names:
            was = queue[name]
            leased = was is not None and was.holder is not None
            queue[name] = (
                was._replace(enqueued=state.last)
                if was and leased
                else PendingJob(enqueued=state.last)
            )
        return state._replace(queue=tuple(queue))

    # --- producer and consumer

    def _produce(self, state: State) -> Iterator[Step]:
        whole, half = divmod(state.made, 2)
        if whole < len(self.world.early):
            publishes = self.world.early[whole] != bool(half)
            after = state._replace(made=state.made + 1, unread=state.unread + publishes)
            yield f"{'publish' if publishes else 'commit'} change {whole + 1}", after

    def _consume(self, state: State) -> Iterator[Step]:
        if state.unread:
            recheck = self.world.under_way(state) if self._has(Rule.RECHECK) else 0
            kept = self._has(Rule.ENQUEUE_BEFORE_ACKNOWLEDGING)
            yield (
                "read an event",
                state._replace(
                    unread=state.unread - 1,
                    read=state.read + kept,
                    planned=(*state.planned, recheck),
                ),
            )
        if state.planned:
            for ticked, _ in self._tick(state):
                pending = self._enqueue(ticked, self.world.names)
                for bit in state.planned:
                    pending = pending._replace(delayed=pending.delayed | bit)
                yield "accept the events", pending._replace(read=0, planned=())

    def _pass_time(self, state: State) -> Iterator[Step]:
        for name, job in enumerate(state.queue):
            if job and job.due == Due.LEASED:
                yield f"lease of {name} ends", with_pending(state, name, job._replace(due=Due.NOW))
        due = state.delayed & ~self.world.under_way(state)
        if due:
            for ticked, _ in self._tick(state):
                after = self._enqueue(ticked, self.world.names)
                yield "a delayed job is due", after._replace(delayed=state.delayed & ~due)

    def _heal(self, state: State) -> Iterator[Step]:
        if state.last is None:
            for ticked, _ in self._tick(state):
                yield "a script makes the clock", ticked
        if state.reconcile:
            for ticked, _ in self._tick(state):
                holder = self.world.holders[self.world.version(state)]
                existing = (n for n in self.world.names if n == holder or state.key_index[n])
                yield "reconcile", self._enqueue(ticked._replace(reconcile=False), existing)
        for name in self._missing(state):
            for ticked, _ in self._tick(state):
                yield f"the sweep enqueues {name}", self._enqueue(ticked, range(name, name + 1))

    def _missing(self, state: State) -> list[int]:
        """Return the jobs that are not pending and have lost their key or its as-of."""
        if None not in state.key or not self._has(Rule.SWEEP):
            return []
        return [n for n in self.world.names if state.key_index[n] and not state.queue[n]]

    # --- workers

    def _lease(self, state: State, worker: int) -> Iterator[Step]:
        for name, job in enumerate(state.queue):
            if job and job.due == Due.NOW:
                for ticked, token in self._tick(state):
                    leased = job._replace(due=Due.LEASED, holder=worker)
                    after = with_pending(ticked, name, leased if self._has(Rule.LEASE) else None)
                    attempt = Attempt(name, token, self._began(ticked))
                    yield f"worker {worker} leases {name}", with_attempt(after, worker, attempt)

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
                yield f"{who} completes", self._complete(ticked, worker, attempt)
            yield f"{who} fails", self._fail(ticked, worker, attempt)

    def _holds(self, state: State, worker: int, attempt: Attempt) -> bool:
        job = state.queue[attempt.name]
        return job is not None and job.holder == worker

    def _renew(self, state: State, worker: int, attempt: Attempt, token: int) -> State:
        job = state.queue[attempt.name]
        if job and job.holder == worker:
            state = with_pending(state, attempt.name, job._replace(due=Due.LEASED))
        kept = None if self._has(Rule.SNAPSHOT_AFTERWARDS) else attempt.version
        token = token if self._has(Rule.RENEWED_EACH_TIME) else attempt.token
        renewed = Attempt(attempt.name, token, self._began(state), version=kept)
        return with_attempt(state, worker, renewed)

    def _complete(self, state: State, worker: int, attempt: Attempt) -> State:
        after = with_attempt(state, worker, None)
        leased = self._holds(state, worker, attempt) or not self._has(Rule.LEASE)
        if not leased and self._has(Rule.LEASE_FENCE):
            return after
        if not attempt.this_epoch and self._has(Rule.EPOCH_FENCE):
            return after
        return self._remove(self._write(after, attempt), attempt)

    def _remove(self, state: State, attempt: Attempt) -> State:
        job = state.queue[attempt.name]
        if not job or attempt.token > job.enqueued or not self._has(Rule.COMPLETE_ANSWERED):
            return with_pending(state, attempt.name, None)
        return with_pending(state, attempt.name, PendingJob(job.enqueued))

    def _write(self, state: State, attempt: Attempt) -> State:
        """Write the value or delete the key, and update key index and key owner."""
        name, token, version = attempt.name, attempt.token, attempt.version
        assert version is not None
        older = state.key.as_of is None or state.key.as_of < token
        had_key = state.key_index[name]
        has_key = self.world.holders[version] == name
        if has_key and (older or not self._has(Rule.AS_OF_GUARD)):
            state = state._replace(key=Key(version, token), owner=name)
        mine = state.owner == name or not self._has(Rule.KEY_OWNERS)
        if had_key and not has_key and mine:
            if older or not self._has(Rule.DELETION_GUARD):
                state = state._replace(key=Key())
            state = state._replace(owner=None)
        key_index = (*state.key_index[:name], has_key, *state.key_index[name + 1 :])
        return state._replace(key_index=key_index)

    def _fail(self, state: State, worker: int, attempt: Attempt) -> State:
        after = with_attempt(state, worker, None)
        job = state.queue[attempt.name]
        if not self._has(Rule.LEASE):
            return self._enqueue(after, range(attempt.name, attempt.name + 1))
        if job and (job.holder == worker or not self._has(Rule.LEASE_FENCE)):
            return with_pending(after, attempt.name, job._replace(due=Due.NOW, holder=None))
        return after

    def _bury(self, state: State, worker: int, attempt: Attempt) -> State:
        if not self._holds(state, worker, attempt) and self._has(Rule.LEASE_FENCE):
            return with_attempt(state, worker, None)
        buried = state._replace(dead_letter=attempt.began)
        return self._remove(with_attempt(buried, worker, None), attempt)

    # --- faults

    def _break(self, state: State) -> Iterator[Step]:
        yield from self._stop(state)
        # A commit under way ends before the loss is noticed.
        if not self.world.under_way(state):
            yield "flush", cleared(state)._replace(unread=0, read=0)
            yield "delete stats", cleared(state)
        if state.key.version is not None:
            yield "lose key", state._replace(key=Key())
        if state.key.as_of is not None:
            yield "lose as-of", state._replace(key=state.key._replace(as_of=None))
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
        return state._replace(behind=True, queue=tuple(map(_far, state.queue)))

    # --- the properties

    def stale(self, state: State) -> bool:
        """Say whether the cache differs from the database."""
        version = self.world.version(state)
        return state.key.version != (None if self.world.holders[version] is None else version)

    def pending(self, state: State) -> bool:
        """Say whether any work is left for a change that is not in the cache."""
        committed_only = state.made % 2 == 1 and not self.world.under_way(state)
        waiting = committed_only or state.unread or state.planned or state.delayed
        enqueued = any(state.queue) or state.reconcile or self._missing(state)
        buried = state.dead_letter == self.world.version(state)
        return bool(waiting or enqueued or state.last is None or buried)

    def is_finished(self, state: State) -> bool:
        """Say whether all changes were made, published and answered, and all workers are idle."""
        ended = state.made == 2 * len(self.world.early)
        buried = state._replace(dead_letter=None)
        return ended and not self.pending(buried) and not any(state.workers)

    def wrong(self, before: State, after: State) -> str | None:
        """Return the property that a step violates, or None; both states number moments alike."""
        old, new = before.key, after.key
        if old.as_of is not None and new.as_of is not None:
            # Of two jobs that share a key, the one with the newer token may have the older
            # snapshot. Then the key is stale for a while; the last check covers this case.
            if before.owner == after.owner and (old.version or 0) > (new.version or 0):
                return "the value went back to an older one"
            if old.as_of > new.as_of:
                return "the as-of went back"
        if self.stale(after) and not self.pending(after):
            return "the cache differs from the database, and no job is pending"
        return None


def _far(job: PendingJob | None) -> PendingJob | None:
    return job if job is None or job.holder is None else job._replace(due=Due.FAR)
