"""The daemon's settings, from the environment. Each is declared once.

The declarations also make `statsd settings`, the table in the docs, and the error messages.
"""

import difflib
import socket
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from statsd.addresses import postgres, redis
from statsd.errors import SettingsError
from statsd.switches import CHOICES, parse_switch
from statsd.urls import engine_url, without_password

PREFIX = "STATSD_"
ADDRESSES = ("_URL", "_ENGINES")
"""Suffixes of the variables whose values may contain a password."""


def _switch(value: object) -> object:
    try:
        return parse_switch("it", value) if isinstance(value, str) else value
    except SettingsError:
        raise ValueError(f"must be {CHOICES}") from None


Switch = Annotated[bool, BeforeValidator(_switch)]

MOST_DELAYS = 20
LONGEST_DELAY = 3600.0  # seconds


def _delays(value: object) -> object:
    """Read comma-separated numbers. A default is no text, and stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        delays = tuple(float(part) for part in value.split(","))
    except ValueError:
        delays = ()
    if not 1 <= len(delays) <= MOST_DELAYS or not all(0 < each <= LONGEST_DELAY for each in delays):
        raise ValueError(
            f"must be 1 to {MOST_DELAYS} positive numbers, none above {LONGEST_DELAY:.0f}, "
            "with commas between them"
        )
    return delays


def _engines(value: object) -> object:
    """Read comma-separated addresses. A default is no text, and stays as it is."""
    if not isinstance(value, str):
        return value
    addresses = [engine_url(part.strip()) for part in value.split(",") if part.strip()]
    return tuple(dict.fromkeys(addresses))


Engines = Annotated[tuple[str, ...], BeforeValidator(_engines)]

Delays = Annotated[tuple[float, ...], BeforeValidator(_delays)]


def _setting(
    variable: str,
    default: Any,
    sentence: str,
    unit: str = "",
    *,
    required: bool = False,
    **bounds: Any,
) -> Any:
    return Field(
        default,
        validation_alias=variable,
        description=sentence,
        json_schema_extra={"unit": unit, "required": required},
        **bounds,
    )


class Settings(BaseModel):
    """All settings, checked."""

    model_config = ConfigDict(frozen=True)

    database_url: str = _setting(
        "DATABASE_URL",
        "",
        "The PostgreSQL primary to read from, as postgresql://user:password@host:5432/database, "
        "with libpq's parameters; also `host1:5432,host2:5432`. SQLAlchemy's forms with a driver "
        "work too.",
        required=True,
    )
    redis_url: str = _setting(
        "REDIS_URL",
        "redis://cache:6379",
        "The Redis or Valkey server with the stream and the cache; rediss:// and unix:// work too, "
        "and Sentinel as redis+sentinel://host:26379,host:26379/service/0.",
    )
    enabled: Switch = _setting(
        "BACKGROUND_STATS_ENABLED",
        True,
        "0: listeners publish nothing, readers always compute, and `statsd run` exits at once.",
    )
    fallback: Switch = _setting(
        "BACKGROUND_STATS_FALLBACK",
        True,
        "For readers. 1: a miss is computed at once; 0: a miss returns the empty default.",
    )
    exports: Switch = _setting(
        "STATSD_EXPORTS",
        True,
        "0: the arrays of scoreboards and crews are left out, which saves memory and time. Only "
        "readers of this package can be used then: they take boards and crews from the states of "
        "dojos. All daemons need the same value.",
    )
    skip_cold_start: Switch = _setting(
        "SKIP_COLD_START",
        False,
        "1: no reconcile at the start, and a later one leaves missing keys missing.",
    )
    consumer_suffix: str = _setting(
        "STATSD_CONSUMER_SUFFIX",
        "",
        "Appended to the host name to make the consumer's name. Daemons that share a host need it.",
        pattern=r"^[A-Za-z0-9_.-]{0,64}$",
    )
    batch_size: int = _setting(
        "STATSD_BATCH_SIZE", 500, "The most events in one batch.", "events", ge=1, le=10_000
    )
    block: float = _setting(
        "STATSD_BLOCK",
        1.0,
        "How long one read of the stream waits for events. A stop waits for it too.",
        "seconds",
        ge=0.05,
        le=30,
    )
    concurrency: int = _setting(
        "STATSD_CONCURRENCY",
        2,
        "Batches of jobs that run at the same time; one more is reserved for urgent small jobs. "
        "Set it to about the number of idle cores of the database.",
        "transactions",
        ge=1,
        le=64,
    )
    export_share: float = _setting(
        "STATSD_EXPORT_SHARE",
        0.75,
        "The part of one core's time that large jobs (exports of arrays, whole passes over dojos) "
        "may take while many solves arrive.",
        "of a core",
        ge=0.05,
        le=1,
    )
    pool_size: int = _setting(
        "STATSD_POOL_SIZE",
        5,
        "The most connections to PostgreSQL; at least STATSD_CONCURRENCY + 3. The three are for "
        "urgent small jobs, for the handlers' look-ups, and for the probe of the server.",
        "connections",
        ge=4,
        le=100,
    )
    statement_timeout: float = _setting(
        "STATSD_STATEMENT_TIMEOUT",
        50.0,
        "The time limit of one SQL statement. Answers older than a minute are refused anyway.",
        "seconds",
        ge=1,
        le=59,
    )
    prepared_statements: Switch = _setting(
        "STATSD_PREPARED_STATEMENTS",
        True,
        "0 is for poolers in transaction mode without prepared statements: pgbouncer before 1.21.",
    )
    lease: float = _setting(
        "STATSD_LEASE",
        30.0,
        "How long a lease lasts. After that, another daemon runs the jobs of one that died.",
        "seconds",
        ge=1,
        le=600,
    )
    retry_delays: Delays = _setting(
        "STATSD_RETRY_DELAYS",
        (1.0, 5.0, 30.0, 120.0),
        "The waits before each further attempt at a failed job. After the last attempt the job "
        "goes to the dead letters.",
        "seconds",
    )
    drain_deadline: float = _setting(
        "STATSD_DRAIN_DEADLINE",
        8.0,
        "How long a stop waits for running jobs. Unfinished jobs stay pending.",
        "seconds",
        ge=0.1,
        le=600,
    )
    audit_interval: float = _setting(
        "STATSD_AUDIT_INTERVAL",
        5.0,
        "How often the drift audit compares up to 20 cached values with computed ones. It runs "
        "when no other job is due, for at most 2 % of the time; 0: never.",
        "seconds",
        ge=0,
        le=3600,
    )
    docker_engines: Engines = _setting(
        "STATSD_DOCKER_ENGINES",
        (),
        "The Docker engines that run challenges, with commas between them, as "
        "unix:///var/run/docker.sock,tcp://10.0.0.2:2375. They need the extra `containers`.",
    )
    containers_interval: float = _setting(
        "STATSD_CONTAINERS_INTERVAL",
        15.0,
        "How often the Docker engines are asked for running containers. They are also asked at "
        "the start and after each event about containers; 0: only then.",
        "seconds",
        ge=0,
        le=3600,
    )
    http_port: int = _setting(
        "STATSD_HTTP_PORT",
        9464,
        "The port of /metrics, /healthz and /readyz; 0: none. If it cannot be opened, the daemon "
        "logs a warning and runs without it.",
        ge=0,
        le=65535,
    )
    http_host: str = _setting(
        "STATSD_HTTP_HOST",
        "0.0.0.0",
        "The address of the HTTP port; 127.0.0.1: only for this host.",
        pattern=r"^[A-Za-z0-9.:-]{1,255}$",
    )
    heartbeat_interval: float = _setting(
        "STATSD_HEARTBEAT_INTERVAL",
        30.0,
        "How often the log has a heartbeat line; 0: never.",
        "seconds",
        ge=0,
        le=3600,
    )
    slow_job: float = _setting(
        "STATSD_SLOW_JOB",
        1.0,
        "The daemon logs a warning for each batch of jobs that takes longer.",
        "seconds",
        ge=0.001,
        le=60,
    )
    dead_letters: int = _setting(
        "STATSD_DEAD_LETTERS",
        10_000,
        "The most dead letters that are kept. Older ones are deleted.",
        "letters",
        ge=1,
        le=1_000_000,
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _setting(
        "STATSD_LOG_LEVEL", "INFO", "The lowest level that is logged."
    )
    log_format: Literal["json", "text"] = _setting(
        "STATSD_LOG_FORMAT", "json", "json: one JSON object a line; text: lines for people."
    )

    @property
    def consumer_name(self) -> str:
        """The daemon's name in the consumer group: the host name and the suffix."""
        return socket.gethostname() + (f"-{self.consumer_suffix}" if self.consumer_suffix else "")

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, text: str) -> str:
        if text:  # empty where it is not set, which `load` explains
            postgres.parse(text)
        return text

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, text: str) -> str:
        redis.parse(text)
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.pool_size < self.concurrency + 3:
            raise ValueError(
                f"STATSD_POOL_SIZE ({self.pool_size}) must be greater than "
                f"STATSD_CONCURRENCY ({self.concurrency}) by 3 or more"
            )
        if self.block >= self.drain_deadline:
            raise ValueError(
                f"STATSD_BLOCK ({self.block}) must be less than "
                f"STATSD_DRAIN_DEADLINE ({self.drain_deadline})"
            )
        return self


class Declared(NamedTuple):
    """One setting, as text for users."""

    variable: str
    value: str
    """The value in force, passwords masked; the default if no settings were given."""
    default: str
    required: bool
    unit: str
    sentence: str


def declared(settings: Settings | None = None) -> Iterator[Declared]:
    """Yield every setting, with its value in `settings` if given."""
    for name, field in Settings.model_fields.items():
        extra = cast("dict[str, Any]", field.json_schema_extra)
        unit, required = extra["unit"], extra["required"]
        default = "(required)" if required else _text(field.default)
        value = default if settings is None else _text(getattr(settings, name))
        if required and not value:
            value = "(required, not set)"
        variable, sentence = str(field.validation_alias), field.description or ""
        shown = without_password(value) if variable.endswith("_URL") else value
        yield Declared(variable, shown, default, required, unit, sentence)


def load(environ: Mapping[str, str], *, complete: bool = True) -> Settings:
    """Read the settings. Unless `complete`, required ones may be missing.

    An empty variable means its default: compose writes empty ones.
    Raises SettingsError, with a line for each wrong variable.
    """
    known = {setting.variable: setting for setting in declared()}
    given = {name: value for name, value in environ.items() if name in known and value.strip()}
    lines = [
        f"{name} is not set. {setting.sentence}"
        for name, setting in known.items()
        if complete and setting.required and name not in given
    ]
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        lines += [_explain(problem, given) for problem in error.errors()]
        raise SettingsError("\n".join(lines)) from None
    if lines:
        raise SettingsError("\n".join(lines))
    return settings


def unknown(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each STATSD_ variable that is no setting, and probably misspelt."""
    known = [setting.variable.removeprefix(PREFIX) for setting in declared()]
    for name in sorted(environ):
        own = name.removeprefix(PREFIX)
        if own != name and own not in known and not own.startswith("TEST_"):
            near = difflib.get_close_matches(own, known, n=1)
            yield f"{name} is no setting" + (f"; is {PREFIX}{near[0]} meant?" if near else "")


def _explain(problem: Mapping[str, Any], given: Mapping[str, str]) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return str(message)
    variable = str(problem["loc"][0])
    setting = next(setting for setting in declared() if setting.variable == variable)
    # An address that could not be read may hold its password anywhere.
    value = "" if variable.endswith(ADDRESSES) else f"={given[variable]!r}"
    unit = f" {setting.unit}" if setting.unit else ""
    default = "" if setting.required else f" (default: {setting.default or 'empty'}{unit})"
    return f"{variable}{value}: {message[0].lower()}{message[1:]}{default}. {setting.sentence}"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return str(int(value)) if isinstance(value, bool) else str(value)


def table() -> str:
    """Return the settings as the table in the documentation."""
    lines = ["| variable | default | unit | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{item.variable}` | {f'`{item.default}`' if item.default else 'empty'} "
        f"| {item.unit} | {item.sentence} |"
        for item in declared()
    ]
    return "\n".join(lines)
