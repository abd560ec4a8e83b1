"""A page of a long scoreboard by the reader, compared with loading the whole array."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from benchmarks.result import Aim, Result
from benchmarks.stage import Stage, timed
from statsd import keys

PAGE = 20  # entries, the reader's default


def measure(stage: Stage) -> Iterator[Result]:
    """Read pages of the longest scoreboard, with the caller's own entry, and load its array."""
    stage.daemon()
    cache = stage.webapp.cache
    dojo_id = max(stage.webapp.references(), key=lambda dojo: cache.strlen(keys.scoreboard(dojo)))
    key = keys.scoreboard(dojo_id)

    def load() -> list[dict[str, Any]]:
        raw: Any = cache.get(key)
        return list(orjson.loads(raw))

    array = load()
    me, middle = array[-1]["user_id"], max(1, len(array) // PAGE // 2)
    reader = stage.webapp.reader
    for page in (1, middle):
        found = reader.get_scoreboard(dojo_id, page=page, me=me)
        if [*found.entries] != array[PAGE * (page - 1) : PAGE * page] or found.total != len(array):
            raise AssertionError(f"page {page} differs from the array")

    def read(page: int) -> Callable[[], Any]:
        return lambda: reader.get_scoreboard(dojo_id, page=page, me=me)

    def median(call: Callable[[], Any]) -> float:
        return statistics.median(timed(call) for _ in range(stage.effort.reads)) * 1000

    whole = median(load)
    aims = stage.aim(M=[Aim(0.5), Aim(1 / 20, of_ratio=True)])
    note = f"of {len(array):,} entries"
    for label, page in (("first page", 1), ("a page in the middle", middle)):
        own = median(read(page))
        yield Result(
            "reads", f"{label} of a scoreboard by the reader", own, "ms", whole, aims, note
        )
