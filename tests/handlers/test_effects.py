"""The table of events and the data that they change."""

import pytest

from statsd.calculators import Input
from statsd.calculators.catalog import DEPENDENCIES
from statsd.events import EVENT_TYPES
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import handler_of
from statsd.job import Job, Priority
from statsd.jobs.pending import PendingJob

FROM_HANDLERS = Input.STRUCTURE | Input.SOLVES | Input.USERS | Input.AWARDS


def test_every_event_has_an_effect_and_a_handler() -> None:
    assert set(EFFECTS) == set(EVENT_TYPES.values())
    assert all(handler_of(event) for event in EVENT_TYPES.values())


@pytest.mark.parametrize("job", DEPENDENCIES, ids=lambda job: job.kind)
def test_every_input_of_a_statistic_is_changed_by_an_event_with_its_ids(job: type[Job]) -> None:
    """Otherwise the statistic would stay stale after such a change."""
    reached = Input(0)
    for effects in EFFECTS.values():
        for effect in effects:
            if set(job.__struct_fields__) <= set(effect.ids):
                reached |= effect.inputs
    assert DEPENDENCIES[job] & FROM_HANDLERS in reached


def test_a_statistic_of_the_site_is_less_urgent_after_a_change_of_a_dojo() -> None:
    [effect] = EFFECTS[EVENT_TYPES["dojo_stats_update"]]
    pending = {PendingJob(job, priority=effect.class_of(job)) for job in effect.jobs(dojo_id=1)}
    assert {each.job.kind for each in pending if each.priority is not None} >= {"emojis"}
    for each in pending:
        assert each.priority is None or (
            each.priority == max(Priority.ORDINARY, each.job.priority)
            and not each.job.__struct_fields__
        )
