"""The rights that docs/deployment.md lists, and what the programs really use."""

import re
from collections.abc import Container
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple, Self

import redis

from statsd.dev import embedded
from tests.support.processes import DEADLINE

PAGE = Path(__file__).parents[2] / "docs/deployment.md"
DAEMON, WEB = "statsd", "web"
PASSWORD = "secret"  # noqa: S105 - that of the page
WITH_SUBCOMMANDS = ("client", "command", "script", "xgroup", "xinfo")
"""Commands of which a user may have single subcommands."""
LAST = "ECHO the recording ends"


class Setting(NamedTuple):
    """A statement `ACL SETUSER` of the page."""

    user: str
    rules: tuple[str, ...]

    @property
    def commands(self) -> list[str]:
        """The commands that it allows, a subcommand as `xinfo|groups`."""
        return [rule[1:] for rule in self.rules if rule.startswith("+")]

    @property
    def patterns(self) -> list[str]:
        """The patterns of keys that it allows."""
        return [rule.partition("~")[2] for rule in self.rules if rule.startswith(("~", "%"))]


def _code() -> str:
    """Return the text of all fenced blocks of the page."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return "".join(blocks)


def settings() -> list[Setting]:
    """Return the page's statements for Redis."""
    found = re.findall(r"^ACL SETUSER (.*)$", _code().replace("\\\n", " "), re.MULTILINE)
    return [Setting(user, tuple(rules)) for user, *rules in map(str.split, found)]


def commands_of(user: str) -> list[str]:
    """Return all commands that the page allows a user."""
    return [each for one in settings() if one.user == user for each in one.commands]


def sql(beginning: str) -> list[str]:
    """Return the page's statements for PostgreSQL that begin so."""
    return re.findall(rf"^{beginning}\b[^;]*;", _code(), re.MULTILINE)


def url_of(server: embedded.Redis, user: str) -> str:
    """Return the URL with which a user logs in."""
    return f"redis://{user}:{PASSWORD}@127.0.0.1:{server.port}/0"


def restrict(server: embedded.Redis) -> None:
    """Create the page's users, with the commands that this version knows."""
    with redis.Redis(unix_socket_path=str(server.socket_path)) as client:
        for user, rules in settings():
            known = [rule for rule in rules if rule[0] != "+" or _knows(client, rule[1:])]
            client.execute_command("ACL", "SETUSER", user, *known)


def _knows(client: "redis.Redis", command: str) -> bool:
    [known] = client.execute_command("COMMAND INFO", command)  # type: ignore[no-untyped-call]
    return known is not None


class Use(NamedTuple):
    """What one user has sent, the commands inside its scripts included."""

    commands: set[str]
    keys: set[str]
    """The first arguments."""


class Recording:
    """All that a server executes while the block runs, by connection."""

    def __init__(self, server: embedded.Redis) -> None:
        self._socket = str(server.socket_path)
        self._uses: dict[str, Use] = {}
        self._listens = Event()
        self._thread = Thread(target=self._listen, name="recording")

    def _listen(self) -> None:
        caller = ""
        with redis.Redis(unix_socket_path=self._socket) as client, client.monitor() as monitor:
            self._listens.set()
            for each in monitor.listen():
                if each["command"] == LAST:
                    return
                if each["client_type"] != "lua":  # the commands of a script follow its call
                    caller = f"{each['client_address']}:{each['client_port']}"
                self._note(caller, each["command"].split(" ", 2))

    def _note(self, caller: str, words: list[str]) -> None:
        name, argument, *_ = *(word.lower() for word in words), ""
        use = self._uses.setdefault(caller, Use(set(), set()))
        use.commands.add(f"{name}|{argument}" if name in WITH_SUBCOMMANDS else name)
        use.keys.add(argument)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        with redis.Redis(unix_socket_path=self._socket) as client:
            client.echo(LAST.removeprefix("ECHO "))
        self._thread.join()

    def uses(self, web: Container[str]) -> dict[str, Use]:
        """Return the uses of both users; `web` are the addresses of the web half."""
        found = {DAEMON: Use(set(), set()), WEB: Use(set(), set())}
        for caller, use in self._uses.items():
            if not caller.startswith("unix"):
                total = found[WEB if caller in web else DAEMON]
                total.commands.update(use.commands)
                total.keys.update(use.keys)
        return found
