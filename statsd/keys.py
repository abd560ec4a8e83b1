"""Every Redis key.

The public keys are those of the contract, section 2. The private keys of the daemons lie under
`stats:internal:` and `stats:boards:`; the scripts get their names from here
(`statsd/scripts.py`).
"""

STREAM = "stat:events"
GROUP = "stats-workers"
DEAD_LETTERS = "stat:events:dead"

BELTS = "stats:belts"
EMOJIS = "stats:emojis"
CONTAINERS = "stats:containers"

AS_OF = ":updated"
"""The suffix of the key of a value's as-of."""

INTERNAL = "stats:internal:"
CLOCK = f"{INTERNAL}clock"
DUE = f"{INTERNAL}due:"
JOB = f"{INTERNAL}job:"
DELAYED = f"{INTERNAL}delayed"
LEASES = f"{INTERNAL}leases"
COOLDOWNS = f"{INTERNAL}cooldowns"
CHANGES = f"{INTERNAL}changes"
LAST_RUNS = f"{INTERNAL}last_runs"
KEY_INDEX = f"{INTERNAL}key_index"
KEY_OWNERS = f"{INTERNAL}key_owners"
ACKNOWLEDGED_SOLVES = f"{INTERNAL}acknowledged_solves"
WATERMARK = f"{INTERNAL}watermark"
AUDIT = f"{INTERNAL}audit"
KNOWN_SOLVES = f"{INTERNAL}known_solves"
PROBE = f"{INTERNAL}probe"
"""Written by the daemon to see that it can write."""
DAEMONS = f"{INTERNAL}daemons"

BOARDS = "stats:boards:4:"
"""The prefix of the keys of dojos' states; the number is the version of their format."""
BOARD_CHANGES = f"{INTERNAL}board_changes"
GENERATIONS = f"{INTERNAL}generations"
UPLOADS = f"{INTERNAL}upload:"
DOUBTS = f"{INTERNAL}doubts"
EVERY_DOJO = "*"
NAMES = f"{INTERNAL}names"
NAMES_LOG = f"{INTERNAL}names_log"

SCOREBOARD, CREWS = "stats:scoreboard:", "stats:crews:"
SCORES, CHALLENGE_SOLVES = "stats:scores:", "stats:challenge_solves:"
"""The prefixes of the keys of arrays, before the scope."""
ACTIVITY = "stats:activity:"
"""The prefix of the keys of activities, before the user."""


def reference_id(dojo_id: int, slug: str, *, official: bool) -> str:
    """Return the name a dojo has in URLs and keys.

    It is `dojos.id` (`slug`) for an official dojo, otherwise `{id}~{hex_id}`.
    """
    return slug if official else f"{slug}~{hex_id(dojo_id)}"


def hex_id(dojo_id: int) -> str:
    """Return a signed 32-bit `dojo_id` as 8 lower-case hex digits of its unsigned form."""
    return f"{dojo_id & 0xFFFFFFFF:08x}"


def split_reference_id(reference: str) -> tuple[str, int | None]:
    """Return `(slug, dojo_id)`; `dojo_id` is None where the form is that of an official dojo."""
    slug, tilde, digits = reference.rpartition("~")
    if not tilde or len(digits) != 8 or not set(digits) <= set("0123456789abcdef"):  # noqa: PLR2004 - as the docstring says
        return reference, None
    unsigned = int(digits, 16)
    return slug, unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned


def is_storable(text: str) -> bool:
    """Say whether PostgreSQL can hold a text; a URL may have anything in it."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def dojo_stats(reference: str) -> str:
    """Return the key of a dojo's statistics."""
    return f"stats:dojo:{reference}"


def scoreboard(dojo_id: int, module_index: int | None = None, days: int = 0) -> str:
    """Return the key of the scoreboard of a dojo or of one of its modules.

    `days` is the window: 7, 30, or 0 for all time.
    """
    return f"{SCOREBOARD}{_scope(dojo_id, module_index)}:{days}"


def challenge_solves(dojo_id: int, module_index: int) -> str:
    """Return the key of the solve counts of a module's challenges."""
    return f"{CHALLENGE_SOLVES}{_scope(dojo_id, module_index)}"


def scores(dojo_id: int, module_index: int | None = None) -> str:
    """Return the key of the scores in a dojo or in one of its modules."""
    return f"{SCORES}{_scope(dojo_id, module_index)}"


def activity(user_id: int) -> str:
    """Return the key of a user's solves of the last year."""
    return f"{ACTIVITY}{user_id}"


def _scope(dojo_id: int, module_index: int | None) -> str:
    return f"dojo:{dojo_id}" if module_index is None else f"module:{dojo_id}:{module_index}"


DOJO = "dojo"
"""The scope that is a whole dojo, as live boards name it."""


def scope(module_index: int | None) -> str:
    """Return a scope as live boards name it: a module by its index."""
    return DOJO if module_index is None else str(module_index)


def module_index_of(scope: str) -> int | None:
    """Return the index of the module that a scope is; None for a whole dojo."""
    return None if scope == DOJO else int(scope)


def boards(dojo_id: int) -> str:
    """Return the key of the token of a dojo's state; see `statsd/boards/lua/state.lua`."""
    return f"{BOARDS}{dojo_id}"


def generation(dojo_id: int, token: int) -> str:
    """Return the prefix of the keys of one generation of a dojo's state."""
    return f"{BOARDS}{dojo_id}@{token}"


def crews(dojo_id: int, module_index: int | None = None, days: int = 0) -> str:
    """Return the key of the crews of a dojo or of one of its modules, in a window as above."""
    return f"{CREWS}{_scope(dojo_id, module_index)}:{days}"


def updated(key: str) -> str:
    """Return the key of the as-of of `key`'s value, in seconds of the Redis server's clock."""
    return f"{key}{AS_OF}"


def job(name: str) -> str:
    """Return the key of the hash of a pending job."""
    return f"{JOB}{name}"


def due(priority: int) -> str:
    """Return the key of the pending jobs of a class, ordered by due time."""
    return f"{DUE}{priority:d}"


def heartbeat(consumer: str) -> str:
    """Return the key of a daemon's heartbeat, which also reserves its consumer name."""
    return f"{INTERNAL}heartbeat:{consumer}"


def requested(name: str) -> str:
    """Return the key that exists for some seconds after a job was enqueued on request."""
    return f"{INTERNAL}requested:{name}"
