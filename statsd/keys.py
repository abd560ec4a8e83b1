"""Every Redis key, built in one place.

The public ones are those of the contract, section 2; what is private to the daemons lies
under `stats:internal:`.
"""

STREAM = "stat:events"
GROUP = "stats-workers"
DEAD_LETTERS = "stat:events:dead"

INTERNAL = "stats:internal:"
WATERMARK = f"{INTERNAL}watermark"
ACKNOWLEDGED_SOLVES = f"{INTERNAL}covered"
DELAYED = f"{INTERNAL}later"
LEASES = f"{INTERNAL}leases"
LAST_RUNS = f"{INTERNAL}runs"
DAEMONS = f"{INTERNAL}daemons"
AUDIT = f"{INTERNAL}audit"
KEY_INDEX = f"{INTERNAL}holdings"
KEY_OWNERS = f"{INTERNAL}owners"
BELTS = "stats:belts"
EMOJIS = "stats:emojis"
CONTAINERS = "stats:containers"

BOARDS = "stats:boards:2:"  # with the version of their form


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
    return f"stats:scoreboard:{_scope(dojo_id, module_index)}:{days}"


def challenge_solves(dojo_id: int, module_index: int) -> str:
    """Return the key of the numbers of solves of a module's challenges."""
    return f"stats:challenge_solves:{_scope(dojo_id, module_index)}"


def scores(dojo_id: int, module_index: int | None = None) -> str:
    """Return the key of the scores in a dojo or in one of its modules."""
    return f"stats:scores:{_scope(dojo_id, module_index)}"


def activity(user_id: int) -> str:
    """Return the key of a user's solves of the last year."""
    return f"stats:activity:{user_id}"


def _scope(dojo_id: int, module_index: int | None) -> str:
    return f"dojo:{dojo_id}" if module_index is None else f"module:{dojo_id}:{module_index}"


DOJO = "dojo"
"""How live boards call the place that is a whole dojo."""


def scope(module_index: int | None) -> str:
    """Return how live boards call a place: a module is its index."""
    return DOJO if module_index is None else str(module_index)


def module_index_of(scope: str) -> int | None:
    """Return the index of the module that a place is; None for a whole dojo."""
    return None if scope == DOJO else int(scope)


def boards(dojo_id: int) -> str:
    """Return what the keys of a dojo's live boards begin with; see `statsd/lua/boards.lua`."""
    return f"{BOARDS}{dojo_id}"


def crews(dojo_id: int, module_index: int | None = None, days: int = 0) -> str:
    """Return the key of the crews of a dojo or of one of its modules, in a window as above."""
    return f"stats:crews:{_scope(dojo_id, module_index)}:{days}"


def updated(key: str) -> str:
    """Return the key that holds the moment `key`'s value is true for, in Redis seconds."""
    return f"{key}:updated"


def job(name: str) -> str:
    """Return the key of the mark of a refresh."""
    return f"{INTERNAL}mark:{name}"


def due(priority: int) -> str:
    """Return the key of what is owed in a class."""
    return f"{INTERNAL}due:{priority:d}"


def heartbeat(consumer: str) -> str:
    """Return the key by which a daemon says that it still consumes."""
    return f"{INTERNAL}alive:{consumer}"


def asked(name: str) -> str:
    """Return the key that remembers, for a few seconds, that a reader asked for a refresh."""
    return f"{INTERNAL}asked:{name}"
