"""The rules of jobs, leases, tokens and as-ofs suffice; most of them are necessary.

Every order of steps is tried in small worlds (`tests/fencing/model.py`). `pytest -rP` prints the
number of states and, for each rule, the shortest path to harm without it.
"""

import pytest

from tests.fencing.model import Model, Rule
from tests.fencing.search import search
from tests.fencing.state import World

LOSSES = frozenset({"crash", "flush", "lose key", "lose as-of", "lose clock"})
WORLDS = {
    # A change published before its commit, then one that deletes the thing.
    "order": World((0, 0, None), (True, False), frozenset({"crash"}), 1),
    # The key moves from one job to another, and in the second world back again.
    "takeover": World((0, 1), (True,)),
    "there and back": World((0, 1, 0), (False, False)),
    # Any two losses around a deletion.
    "losses": World((0, None), (False,), LOSSES | {"set back"}, 2),
    # The clock is lost while the server's clock is behind its tokens, and a last attempt fails.
    "clock": World((0, 0), (True,), frozenset({"set back", "lose clock", "bury"}), 3, workers=1),
    # The server's clock is set back, and a worker dies.
    "leases": World((0, 0), (True,), frozenset({"set back", "crash"}), 2),
}

FORGOTTEN = "the cache differs from the database, and no job is pending"
OLDER = "the value went back to an older one"
AS_OF = "the as-of went back"
STUCK = "the work never ends"

# The harm without a rule, or without several rules that replace one another.
NEEDED: list[tuple[str, str, frozenset[Rule]]] = [
    ("order", FORGOTTEN, frozenset({Rule.ENQUEUE_BEFORE_ACKNOWLEDGING})),
    ("order", FORGOTTEN, frozenset({Rule.RECHECK})),
    ("order", FORGOTTEN, frozenset({Rule.LEASE})),
    ("order", FORGOTTEN, frozenset({Rule.SNAPSHOT_AFTERWARDS})),
    ("order", FORGOTTEN, frozenset({Rule.COMPLETE_ANSWERED})),
    ("order", OLDER, frozenset({Rule.LEASE_FENCE})),
    ("takeover", AS_OF, frozenset({Rule.AS_OF_GUARD})),
    ("losses", FORGOTTEN, frozenset({Rule.RECONCILE})),
    ("losses", FORGOTTEN, frozenset({Rule.SWEEP})),
    ("losses", FORGOTTEN, frozenset({Rule.NEVER_BACK})),
    ("losses", FORGOTTEN, frozenset({Rule.CATCH_UP})),
    ("leases", STUCK, frozenset({Rule.OFFSET})),
    ("clock", FORGOTTEN, frozenset({Rule.LEASES_END_WITH_THE_CLOCK})),
    ("clock", FORGOTTEN, frozenset({Rule.EPOCH_FENCE, Rule.LEASES_END_WITH_THE_CLOCK})),
    ("takeover", FORGOTTEN, frozenset({Rule.KEY_OWNERS, Rule.SWEEP})),
    ("takeover", FORGOTTEN, frozenset({Rule.DELETION_GUARD, Rule.LEASE_FENCE})),
]

# Rules that can be left out one at a time without harm, and why.
# EPOCH_FENCE: an attempt of another epoch has no lease.
# KEY_OWNERS, DELETION_GUARD: the holder of a lease has the newest token of its job, and the sweep
# finds a key that was deleted wrongly.
# RENEWED_EACH_TIME: an older token is only too modest for its snapshot. The as-of is then too old,
# and answers are stale sooner.
SPARE = [
    ("clock", Rule.EPOCH_FENCE),
    ("takeover", Rule.KEY_OWNERS),
    ("takeover", Rule.DELETION_GUARD),
    ("takeover", Rule.RENEWED_EACH_TIME),
]


def show(*lines: object) -> None:
    print(*lines, sep="\n")  # noqa: T201 - pytest keeps it, and shows it when asked


def test_every_rule_is_tried() -> None:
    tried = {rule for *_, rules in NEEDED for rule in rules} | {rule for _, rule in SPARE}
    assert tried == set(Rule)


@pytest.mark.parametrize("name", WORLDS)
def test_in_every_order_the_cache_agrees_with_the_database_in_the_end(name: str) -> None:
    found = search(Model(WORLDS[name]))
    show(found)
    assert found.wrong is None, str(found)
    assert found.states > 1000  # otherwise the world is too small to show anything


@pytest.mark.parametrize(
    ("name", "harm", "rules"),
    [
        pytest.param(*needed, id="-".join(sorted(rule.name for rule in needed[-1])))
        for needed in NEEDED
    ],
)
def test_without_a_rule_the_search_finds_the_harm(
    name: str, harm: str, rules: frozenset[Rule]
) -> None:
    found = search(Model(WORLDS[name], rules))
    show(*(f"without the rule that {rule}:" for rule in sorted(rules)), found)
    assert found.wrong == harm, str(found)


@pytest.mark.parametrize(
    ("name", "rule"), [pytest.param(*spare, id=spare[1].name) for spare in SPARE]
)
def test_a_spare_rule_can_be_left_out_alone_without_harm(name: str, rule: Rule) -> None:
    found = search(Model(WORLDS[name], frozenset({rule})))
    show(f"without the rule that {rule}:", found)
    assert found.wrong is None, str(found)
