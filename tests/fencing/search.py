"""A search through all states of a model of the fencing protocol, and what it found."""

from collections import deque
from dataclasses import dataclass

from tests.fencing.model import Model
from tests.fencing.state import State, canonical


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    states: int
    """How many different states there are, or were seen until the search ended."""
    wrong: str | None = None
    """What must not be, None where all is well."""
    trace: tuple[str, ...] = ()
    """A shortest way to it. Workers are numbered anew at each step: those that do nothing come
    first, then those with older tokens."""

    def __str__(self) -> str:
        if self.wrong is None:
            return f"all is well in {self.states} states"
        steps = "".join(f"\n{number:4}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.wrong}, after{steps}\n(seen until then: {self.states} states)"


def search(model: Model) -> Found:
    """Try everything, in order of length; end at the first thing that must not be.

    It must also be possible, from every state, to come to rest without another fault.
    """
    start = canonical(model.world.start())
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    before: dict[State, list[State]] = {start: []}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for what, following in model.steps(state):
            if wrong := model.wrong(state, following):
                return Found(len(came_from), wrong, (*_trace(came_from, state), what))
            after = canonical(following)
            if after not in came_from:
                came_from[after] = (state, what)
                before[after] = []
                queue.append(after)
            if after.faults == state.faults:
                before[after].append(state)
    ending = _comes_to_rest(model, before)
    for state in came_from:  # in order of length
        if state not in ending:
            return Found(len(came_from), "the work never ends", _trace(came_from, state))
    return Found(len(came_from))


def _comes_to_rest(model: Model, before: dict[State, list[State]]) -> set[State]:
    queue = [state for state in before if model.at_rest(state)]
    ending = set(queue)
    while queue:
        for earlier in before[queue.pop()]:
            if earlier not in ending:
                ending.add(earlier)
                queue.append(earlier)
    return ending


def _trace(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    steps: list[str] = []
    while step := came_from[state]:
        state, what = step
        steps.append(what)
    return tuple(reversed(steps))
