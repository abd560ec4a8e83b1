"""The Lua scripts: each a file of its own, loaded once, run by its SHA.

Every script takes one MessagePack map, described on top of its file, and stands behind
`common.lua`, which holds the clock and the ways to set a mark. They name private keys by
themselves, so one Redis server, not a Redis Cluster, is what they run on.
"""

from functools import cache
from importlib import resources

import msgspec

encode = msgspec.msgpack.encode


@cache
def source(name: str) -> str:
    """Return the text of script `name` as the server gets it."""
    folder = resources.files("statsd") / "lua"
    return (folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text()
