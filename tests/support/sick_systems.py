"""Systems on which a daemon cannot work, and what `statsd` says on each of them."""

import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
import redis
import sqlalchemy as sa

from statsd import schema
from statsd.dev import embedded
from tests.support import replicas, tls
from tests.support.certificates import Authority
from tests.support.commands import run_with
from tests.support.processes import Daemon, eventually, free_port, get

Variables = Mapping[str, str]
LONGEST = 220  # characters of a line
SECONDS = 20.0  # until a daemon has ended, or said for what it waits


class Healthy(NamedTuple):
    """Servers that work, which a sick system changes."""

    database: str
    cache: str
    authority: Authority
    folder: Path


class Sick(NamedTuple):
    """One sick system."""

    symptom: str
    """What is wrong, in a few words."""
    remedy: str
    system: Callable[[Healthy], AbstractContextManager[Variables]]
    ends: bool
    """Whether `statsd run` ends with code 2; else it waits."""


class Said(NamedTuple):
    """What is said of a system."""

    code: int | None
    """The exit code of `statsd run`; None while it waits."""
    lines: dict[str, str]
    """By command, its line about the problem."""


def said_of(variables: Variables, log: Path) -> Said:
    """Run a daemon and all commands on a system."""
    port = free_port()
    daemon = Daemon(log, {**variables, "STATSD_HTTP_PORT": str(port)})
    lines: dict[str, str] = {}
    try:
        lines["run"] = eventually(lambda: _first_line(daemon), "the daemon says why", SECONDS)
        code = daemon.process.poll()
        if code is None:
            lines["/readyz"] = eventually(
                lambda: _text(port, "/readyz", 503), "/readyz names the server", SECONDS
            )
            lines["/healthz"] = f"{get(port, '/healthz')[0]}"
        run = run_with(dict(variables))
        health = run("health")
        lines["health"] = f"{health.code}: {(health.output or health.errors).splitlines()[0]}"
        status = run("status")
        lines["status"] = f"{status.code}: {_problem(status.output or status.errors)}"
        doctor = run("doctor")
        lines["doctor"] = f"{doctor.code}: {_finding(doctor.output) or doctor.errors}"
    finally:
        if daemon.process.poll() is None:
            daemon.stop()
    return Said(code, {name: _without_details(line) for name, line in lines.items()})


def _problem(output: str) -> str:
    """Return the first problem that `statsd status` names, or else its first line."""
    lines = output.splitlines()
    return lines[1] if lines[0].startswith("in trouble") else lines[0]


def _finding(output: str) -> str:
    """Return the worst finding of the doctor, beside that no daemon has a heartbeat."""
    lines = [line for line in output.splitlines() if "none has a heartbeat" not in line]
    worst = [line for level in ("danger", "warning") for line in lines if line.startswith(level)]
    return worst[0] if worst else ""


def _first_line(daemon: Daemon) -> str:
    """Return why a daemon waits, from its log, or why it ended, from its output."""
    for line in daemon.all_lines():
        if line["event"].startswith("waiting for") or line["event"] == "lost a server":
            return f"{line['event']}: {line['error']}; {line['advice']}"
    if daemon.process.poll() is not None:
        return daemon.log.read_text().splitlines()[-1]
    return ""


def _text(port: int, path: str, wanted: int) -> str:
    """Return the first line about a server at a path, once the status is the wanted one."""
    status, text = get(port, path)
    lines = [line for line in text.splitlines() if "cold start" not in line]
    return f"{status}: {lines[0]}" if status == wanted and lines else ""


def _without_details(line: str) -> str:
    """Return a line without ports, folders and other words that differ from run to run."""
    line = re.sub(r"/tmp/[^\s'\"]*/", "/…/", line)  # noqa: S108 - a pattern
    line = re.sub(r"(127\.0\.0\.1|localhost)(:|', |, )\d+", r"\1\2…", line)
    line = re.sub(r"script: \w+, on @user_script:\d+", "script", line)
    line = line.replace(f"{socket.gethostname()}: ", "HOST: ")
    line = re.sub(r"gaierror: \[Errno -\d+\] [\w ]*\w", "gaierror: …", line)
    line = re.sub(r"\s+", " ", line).strip()
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def table(system: Sick, said: Said) -> str:
    """Return the section of the documentation about a system."""
    lines = [f"- `{name}`: `{text.replace('`', chr(39))}`" for name, text in said.lines.items()]
    end = "`statsd run` ends with code 2." if system.ends else "The daemon waits, and continues."
    return f"### {system.symptom}\n\n{system.remedy} {end}\n\n" + "\n".join(lines) + "\n"


# --- the systems


def _setting(variable: str, change: Callable[[str], str]) -> Any:
    """Return a system of which one address is wrong."""

    @contextmanager
    def system(healthy: Healthy) -> Iterator[Variables]:
        variables = {"DATABASE_URL": healthy.database, "REDIS_URL": healthy.cache}
        yield variables | {variable: change(variables[variable])}

    return system


def _cache(start: Callable[[ExitStack, Healthy], str]) -> Any:
    """Return a system with a Redis of its own; `start` returns its address."""

    @contextmanager
    def system(healthy: Healthy) -> Iterator[Variables]:
        with ExitStack() as stack:
            yield {"DATABASE_URL": healthy.database, "REDIS_URL": start(stack, healthy)}

    return system


def _database(*statements: str, user: str = "postgres", start: str = "CREATE TABLES") -> Any:
    """Return a system with a database of its own, in which some statements were executed."""

    @contextmanager
    def system(healthy: Healthy) -> Iterator[Variables]:
        with embedded.postgres() as server:
            url = sa.make_url(server.url)
            if start:
                engine = sa.create_engine(url.set(drivername="postgresql+psycopg2"))
                schema.metadata.create_all(engine)
                engine.dispose()
            connection = psycopg2.connect(server.url)
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            connection.close()
            own = url.set(username=user).render_as_string(hide_password=False)
            yield {"DATABASE_URL": own, "REDIS_URL": healthy.cache}

    return system


@contextmanager
def _standby(healthy: Healthy) -> Iterator[Variables]:
    with embedded.postgres() as primary:
        engine = sa.create_engine(sa.make_url(primary.url).set(drivername="postgresql+psycopg2"))
        schema.metadata.create_all(engine)
        engine.dispose()
        with replicas.standby(primary) as standby:
            eventually(standby.is_in_step, "the standby is in step")
            yield {"DATABASE_URL": standby.url, "REDIS_URL": healthy.cache}


def _redis(*arguments: str, then: Callable[["redis.Redis"], object] = repr) -> Any:
    def start(stack: ExitStack, _healthy: Healthy) -> str:
        server = stack.enter_context(embedded.redis(arguments=list(arguments)))
        with redis.Redis.from_url(server.url) as client:
            then(client)
        return server.url

    return _cache(start)


def _replica(stack: ExitStack, _healthy: Healthy) -> str:
    primary, replica = stack.enter_context(replicas.redis_pair())
    replica.follow(primary)
    return replica.url


def _sentinel(stack: ExitStack, _healthy: Healthy) -> str:
    group = stack.enter_context(replicas.redis_group())
    host = group.url.partition("://")[2].partition(",")[0]
    return f"redis://{host}"


def _other_authority(stack: ExitStack, healthy: Healthy) -> str:
    other = Authority(healthy.folder, "other")
    server = stack.enter_context(tls.redis(other, clients="no"))
    return server.tls_url(
        ssl_ca_certs=str(healthy.authority.certificate), ssl_certfile=None, ssl_keyfile=None
    )


def _denied(stack: ExitStack, _healthy: Healthy, command: str = "xreadgroup") -> str:
    server = stack.enter_context(embedded.redis())
    with redis.Redis.from_url(server.url) as client:
        rules = {"keys": ["*"], "categories": ["+@all"], "commands": [f"-{command}"]}
        client.acl_setuser("statsd", enabled=True, passwords=["+secret"], **rules)
    return server.url.replace("//", "//statsd:secret@")


def _denied_group(stack: ExitStack, healthy: Healthy) -> str:
    return _denied(stack, healthy, "xgroup")


def _fill(client: "redis.Redis") -> None:
    client.config_set("maxmemory", "1mb")


def _nobody(url: str) -> str:
    return re.sub(r":\d+/", f":{free_port()}/", url)


SYSTEMS: Mapping[str, Sick] = {
    "sslmode": Sick(
        "An option of an address is wrong",
        "Correct it as the line says.",
        _setting("DATABASE_URL", lambda url: f"{url}?sslmode=no-verify"),
        ends=True,
    ),
    "ca": Sick(
        "A file of TLS cannot be read",
        "Name the right path, mount the file, or let the daemon's user read it.",
        _setting("DATABASE_URL", lambda url: f"{url}?sslmode=verify-full&sslrootcert=/no/ca.pem"),
        ends=True,
    ),
    "unknown": Sick(
        "An option of REDIS_URL is unknown",
        "Correct its name.",
        _setting("REDIS_URL", lambda url: f"{url}?ssl_cert_req=none"),
        ends=True,
    ),
    "certificate": Sick(
        "A certificate does not verify",
        "Name the CA that signed the server's certificate, and the host as the certificate does.",
        _cache(_other_authority),
        ends=True,
    ),
    "no database": Sick(
        "The database does not exist",
        "Correct the name after the slash.",
        _setting("DATABASE_URL", lambda url: url.rpartition("/")[0] + "/nowhere"),
        ends=True,
    ),
    "password": Sick(
        "The password of Redis is wrong or missing",
        "Put user and password into REDIS_URL.",
        _redis("--requirepass", "secret"),
        ends=True,
    ),
    "sentinel": Sick(
        "REDIS_URL names a sentinel",
        "Use redis+sentinel:// with the name of the service.",
        _cache(_sentinel),
        ends=True,
    ),
    "cluster": Sick(
        "Redis is in cluster mode",
        "Use a Redis without cluster mode: the scripts need all keys on one server.",
        _redis("--cluster-enabled", "yes"),
        ends=True,
    ),
    "nobody": Sick(
        "Nothing listens at the address",
        "Start the server, or correct host and port.",
        _setting("REDIS_URL", _nobody),
        ends=False,
    ),
    "no host": Sick(
        "The host's name does not resolve",
        "Correct the name, or the DNS of the container's network.",
        _setting("DATABASE_URL", lambda _url: "postgresql://statsd@no-such-host.invalid/ctfd"),
        ends=False,
    ),
    "replica": Sick(
        "Redis is a replica",
        "Let REDIS_URL name the primary, or the sentinels that know it.",
        _cache(_replica),
        ends=False,
    ),
    "denied": Sick(
        "The user of Redis lacks a right",
        "Grant what `ACL LOG` shows; the least ACL is in docs/deployment.md.",
        _cache(_denied),
        ends=False,
    ),
    "denied at the start": Sick(
        "The user of Redis may not make the consumer group",
        "As above.",
        _cache(_denied_group),
        ends=False,
    ),
    "full": Sick(
        "Redis is full",
        "Raise maxmemory, or free memory there.",
        _redis(then=_fill),
        ends=False,
    ),
    "no replicas": Sick(
        "Redis refuses writes for lack of replicas",
        "Start its replicas, or lower min-replicas-to-write.",
        _redis("--min-replicas-to-write", "1"),
        ends=False,
    ),
    "standby": Sick(
        "PostgreSQL is a standby",
        "Let DATABASE_URL name the primary, or all hosts: the daemon finds the primary.",
        _standby,
        ends=False,
    ),
    "select": Sick(
        "The role lacks SELECT on a table",
        "Grant it; the least grants are in docs/deployment.md.",
        _database("CREATE ROLE looks_on LOGIN", user="looks_on"),
        ends=False,
    ),
    "no tables": Sick(
        "A table or a column is missing",
        "Run the web application's migrations.",
        _database(start=""),
        ends=False,
    ),
    "type": Sick(
        "A column has another type",
        "Change it: the contract has naive timestamps in UTC.",
        _database("ALTER TABLE submissions ALTER COLUMN date TYPE timestamptz"),
        ends=False,
    ),
}
