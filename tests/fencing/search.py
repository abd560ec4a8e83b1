"""An exhaustive search through the states of a model of the fencing protocol."""

from collections import deque
from dataclasses import dataclass

from tests.fencing.model import Model
from tests.fencing.state import State, canonical


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    states: int
    """The number of different states until the search ended."""
    wrong: str | None = None
    """The violated property; None where there is none."""
    trace: tuple[str, ...] = ()
    """A shortest path to it. Workers are renumbered at each step: idle ones come first, then those
    with older tokens."""

    def __str__(self) -> str:
        if self.wrong is None:
            return f"no property is violated in {self.states} states"
        steps = "".join(f"\n{number:4}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.wrong}, after{steps}\n(after {self.states} states)"


def search(model: Model) -> Found:
    """Try all paths in order of length; end at the first violated property.

    Another property: from every state the work can be finished without another fault.
    """
    start = canonical(model.world.start())
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    before: dict[State, list[State]] = {start: []}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for step, following in model.steps(state):
            if wrong := model.wrong(state, following):
                return Found(len(came_from), wrong, (*_trace(came_from, state), step))
            after = canonical(following)
            if after not in came_from:
                came_from[after] = (state, step)
                before[after] = []
                queue.append(after)
            if after.faults == state.faults:
                before[after].append(state)
    ending = _states_that_finish(model, before)
    for state in came_from:  # in order of length
        if state not in ending:
            return Found(len(came_from), "the work never ends", _trace(came_from, state))
    return Found(len(came_from))


def _states_that_finish(model: Model, before: dict[State, list[State]]) -> set[State]:
    queue = [state for state in before if model.is_finished(state)]
    ending = set(queue)
    while queue:
        for earlier in before[queue.pop()]:
            if earlier not in ending:
                ending.add(earlier)
                queue.append(earlier)
    return ending


def _trace(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    steps: list[str] = []
    while origin := came_from[state]:
        state, step = origin
        steps.append(step)
    return tuple(reversed(steps))
