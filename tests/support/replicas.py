"""Replicas: a Redis with replica and sentinels, and a PostgreSQL with a streaming standby."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg2
import redis
from redis.sentinel import Sentinel as SentinelClient

from statsd.dev import binaries, embedded
from tests.support.processes import eventually

SERVICE = "stats"
SENTINELS, QUORUM = 3, 2
DOWN_AFTER = 1000  # milliseconds
FAILOVER_TIMEOUT = 3000  # milliseconds; the next attempt begins after twice this time
STARTED = 30.0  # seconds until replicas are in step
FAILED_OVER = 30.0  # seconds until another server is the primary


class RedisNode(embedded.Redis):
    """One Redis of several; it can change its role in place."""

    @cached_property
    def client(self) -> "redis.Redis":
        """A client of this server."""
        return redis.Redis.from_url(self.url)

    def follow(self, primary: "RedisNode") -> None:
        """Become a replica of another server; connections stay open, blocked ones are told."""
        self.client.replicaof("127.0.0.1", str(primary.port))

    def promote(self) -> None:
        """Become a primary."""
        self.client.replicaof("NO", "ONE")

    @property
    def replication(self) -> dict[str, Any]:
        """The section `replication` of INFO."""
        info: Any = self.client.info("replication")
        return dict(info)

    def is_in_step_with(self, primary: "RedisNode") -> bool:
        """Return whether it has received all that the primary has written."""
        own, others = self.replication, primary.replication
        return (
            own.get("master_link_status") == "up"
            and own["master_port"] == primary.port
            and own["slave_repl_offset"] == others["master_repl_offset"]
        )


class _Sentinel(embedded.Redis):
    """One sentinel; it keeps its state in its configuration file."""

    def __init__(self, binary: Path, directory: Path, primary: RedisNode) -> None:
        super().__init__(binary, directory, ())
        self._primary = primary

    def _initialise(self) -> None:
        super()._initialise()
        self._file.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary.port} {QUORUM}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n"
            f"sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT}\n"
        )

    @property
    def _file(self) -> Path:
        return self.data / "sentinel.conf"

    def _command(self) -> list[str]:
        program, *options = super()._command()
        return [program, str(self._file), "--sentinel", *options]


class RedisGroup:
    """A primary, its replica, and sentinels."""

    def __init__(self, nodes: list[RedisNode], sentinels: list[_Sentinel]) -> None:
        self.nodes = nodes
        self.sentinels = sentinels
        addresses = [("127.0.0.1", each.port) for each in sentinels]
        self._manager: Any = SentinelClient(addresses)  # type: ignore[no-untyped-call]

    @property
    def url(self) -> str:
        """The URL that names the sentinels and the service."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    @property
    def client(self) -> "redis.Redis":
        """A client that asks the sentinels for the primary at each new connection."""
        client: redis.Redis = self._manager.master_for(SERVICE)
        return client

    @property
    def primary(self) -> RedisNode:
        """The server that the sentinels call the primary."""
        _, port = self._manager.discover_master(SERVICE)
        return next(each for each in self.nodes if each.port == port)

    def wait_until_ready(self) -> None:
        """Wait until the replica is in step, and the sentinels know it and each other."""
        primary, replica = self.nodes
        eventually(lambda: replica.is_in_step_with(primary), "the replica is in step", STARTED)
        eventually(lambda: all(map(_knows_all, self.sentinels)), "sentinels know all", STARTED)

    def kill_primary(self) -> RedisNode:
        """Kill the primary; return it, so that it can be started again."""
        primary = self.primary
        primary.stop(primary.immediate)
        return primary

    def wait_for_failover(self, before: RedisNode) -> RedisNode:
        """Wait until another server than before is the primary; return that."""

        def other() -> RedisNode | None:
            now = self.primary_or_none()
            is_other = now is not None and now is not before
            return now if now and is_other and now.replication["role"] == "master" else None

        return eventually(other, "another server is the primary", FAILED_OVER)

    def primary_or_none(self) -> RedisNode | None:
        """Return the primary; None while the sentinels see it as down."""
        try:
            return self.primary
        except redis.sentinel.MasterNotFoundError:
            return None


def _knows_all(sentinel: _Sentinel) -> bool:
    with redis.Redis.from_url(sentinel.url) as client:
        state: Any = client.sentinel_master(SERVICE)
    return (state["num-slaves"], state["num-other-sentinels"]) == (1, SENTINELS - 1)


@contextmanager
def redis_pair(*arguments: str) -> Iterator[list[RedisNode]]:
    """Run a primary and its replica, in step; `arguments` are for both."""
    binary = binaries.find_redis()
    with ExitStack() as stack:
        options = ("--repl-diskless-sync-delay", "0", *arguments)
        nodes = [
            stack.enter_context(embedded.running(lambda at: RedisNode(binary, at, options)))
            for _ in range(2)
        ]
        primary, replica = nodes
        replica.follow(primary)
        eventually(lambda: replica.is_in_step_with(primary), "the replica is in step", STARTED)
        yield nodes


@contextmanager
def redis_group(*arguments: str) -> Iterator[RedisGroup]:
    """Run a primary, a replica and sentinels, which fail over within a few seconds."""
    binary = binaries.find_redis()
    with redis_pair(*arguments) as nodes, ExitStack() as stack:
        sentinels = [
            stack.enter_context(embedded.running(lambda at: _Sentinel(binary, at, nodes[0])))
            for _ in range(SENTINELS)
        ]
        group = RedisGroup(nodes, sentinels)
        group.wait_until_ready()
        yield group


# --- PostgreSQL


class Standby(embedded.Postgres):
    """A streaming standby of another PostgreSQL; it starts with a base backup."""

    def __init__(
        self, binary: Path, directory: Path, primary: embedded.Postgres, apply_delay: str
    ) -> None:
        settings = {"recovery_min_apply_delay": apply_delay, "wal_receiver_status_interval": 1}
        super().__init__(binary, directory, settings)
        self._primary = primary

    def _create_cluster(self) -> None:
        program = self.binary.parent / "pg_basebackup"
        name = f"application_name={self.directory.name}"
        source = f"host=127.0.0.1 port={self._primary.port} user=postgres {name}"
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        with self.log.open("ab") as log:
            command = [str(program), "-D", str(self.data), "-d", source, *options]
            if self._spawn(command, log.fileno()).wait() != 0:
                raise self._failure("could not copy the primary")

    def promote(self) -> None:
        """Become a primary; return when it takes writes."""
        with _connected(self) as cursor:
            cursor.execute("SELECT pg_promote(wait => true)")
            assert cursor.fetchone() == (True,)

    def disconnect(self) -> None:
        """Receive nothing more from the primary; return when the receiver has ended."""
        with _connected(self) as cursor:
            cursor.execute("ALTER SYSTEM SET primary_conninfo = ''")
            cursor.execute("SELECT pg_reload_conf()")

            def has_no_receiver() -> bool:
                cursor.execute("SELECT count(*) FROM pg_stat_wal_receiver")
                return bool(cursor.fetchone() == (0,))

            eventually(has_no_receiver, "the receiver has ended")

    def is_in_step(self) -> bool:
        """Return whether it has applied all that the primary has written."""
        with _connected(self._primary) as cursor:
            cursor.execute(
                "SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication"
                " WHERE application_name = %s AND state = 'streaming'",
                (self.directory.name,),
            )
            return bool(cursor.fetchone() == (True,))


@contextmanager
def standby(primary: embedded.Postgres, *, apply_delay: str = "0") -> Iterator[Standby]:
    """Run a standby; it applies what it receives after `apply_delay`, such as `10s`."""
    binary = binaries.find_postgres()
    with embedded.running(lambda at: Standby(binary, at, primary, apply_delay)) as server:
        if apply_delay == "0":
            eventually(server.is_in_step, "the standby is in step", STARTED)
        yield server


@contextmanager
def _connected(server: embedded.Postgres) -> Iterator[Any]:
    connection = psycopg2.connect(server.url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()
