"""The Lua scripts: each a file of its own, loaded once, run by its SHA.

Every script takes one MessagePack map, described on top of its file, and stands behind
`common.lua`, which holds the clock and the ways to set a mark; those that have to do with live
boards stand behind `boards.lua` too, and those that lease behind `facts.lua` and `leasing.lua`.
They name private keys by themselves, so one Redis server, not a Redis Cluster, is what they run on.
"""

from functools import cache
from importlib import resources

import msgspec

_WITH_BOARDS = {"fail", "members", "page", "settle", "sweep", "take"}
_THAT_LEASE = {"settle", "take"}

encode = msgspec.msgpack.encode


@cache
def source(name: str) -> str:
    """Return the text of script `name` as the server gets it."""
    folder = resources.files("statsd") / "lua"
    boards = ["boards"] if name in _WITH_BOARDS else []
    leasing = ["facts", "leasing"] if name in _THAT_LEASE else []
    parts = ["common", *boards, *leasing, name]
    return "".join((folder / f"{part}.lua").read_text() for part in parts)
