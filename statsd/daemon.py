"""The daemon: every part is built here, run in one task group, and closed in reverse."""

import asyncio
import gc
import logging
import platform
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from time import monotonic
from typing import Protocol

import uvloop
from redis.asyncio import Redis

import statsd
import statsd.handlers
from statsd.boards.executors import statistics_of
from statsd.boards.live_boards import LiveBoards
from statsd.consistency import missed_solves
from statsd.consistency.drift_audit import Audit, Auditor
from statsd.consistency.missed_solves import MissedSolves, MissedSolvesFinder
from statsd.consistency.missing_keys import Sweep
from statsd.consistency.reconcile import Reconcile, Reconciler
from statsd.job import Priority
from statsd.jobs.cancellation import ended
from statsd.jobs.load_shedder import LoadShedder
from statsd.jobs.parts import at_once
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue
from statsd.jobs.schedule import Schedule
from statsd.jobs.wakeup import FirstOf, Wakes, WakeUp
from statsd.jobs.worker import Executor, Worker
from statsd.observability import daemon_report, heap
from statsd.observability.counters import Counters
from statsd.observability.http import Endpoint, serving
from statsd.observability.loop_lag import LoopLag
from statsd.observability.loop_watch import watched
from statsd.observability.probes import Probes
from statsd.observability.progress import FillProgress
from statsd.observability.reporter import BLOCKED, Health, Reporter
from statsd.observability.watchdog import Watchdog
from statsd.servers.database import ANSWER_MARGIN, CONNECT_TIMEOUT, POOL_TIMEOUT, Database
from statsd.servers.docker import Containers, Engines
from statsd.servers.outages import (
    OutageWaiter,
    brief,
    is_outage,
    is_transient,
    pause_unless,
    wait_for,
)
from statsd.servers.redis_client import COMMAND_TIMEOUT, READ_MARGIN, checked, redis_client
from statsd.settings import Settings, declared
from statsd.stream.consumer import Consumer
from statsd.stream.consumer_name import ConsumerName
from statsd.stream.event_stream import Stream
from statsd.stream.takeover import Takeover
from statsd.urls import without_password

log = logging.getLogger(__name__)

FIRST_LOOK = 1.0  # seconds; well below the time in which a sign of life is missed
LEAVE_TIMEOUT = 2.0  # seconds for giving leases back at the end; they expire by themselves too
SILENT = 10.0  # seconds without a turn, beyond the wait for entries, in which no consumer is well
SWITCH = 0.001  # seconds that the loop waits for a thread that shapes large values; Python: 0.005
COLLECTIONS = (20_000, 10, 100)
"""When Python looks for cycles: seldom among what has lived for long, which takes tenths of a
second while hundreds of thousands of rows are held; they have no cycles."""
STUCK = 10.0  # seconds without a turn of the consumer, beyond what it may have to wait for
QUIET = 5.0  # seconds after a line about a lost server in which others notice it too


def stuck_after(settings: Settings) -> float:
    """Return the seconds after which a consumer that did not come round hangs.

    Between two turns it waits for new entries, or for one statement, with a connection to be
    waited for and made, or for some commands of Redis.
    """
    entries = settings.block + READ_MARGIN
    statement = POOL_TIMEOUT + CONNECT_TIMEOUT + settings.statement_timeout + ANSWER_MARGIN
    return max(entries, statement, 3 * COMMAND_TIMEOUT) + STUCK


class Loop(Protocol):
    """What the daemon repeats until it is told to stop."""

    async def step(self) -> None:
        """Do some work, or wait a short while for it."""

    async def recover(self) -> None:
        """Put things right after a server was gone."""


class Daemon:
    """The parts of one daemon, at work."""

    def __init__(self, settings: Settings, cache: Redis, reader: Redis, database: Database) -> None:
        """Take the settings and open clients; `reader` is for blocking reads alone."""
        self._settings = settings
        self._cache = cache
        self._reader = reader
        self._database = database
        self._stopping = asyncio.Event()
        self._name = ConsumerName(cache, settings.consumer_name)
        self._probes: dict[str, Callable[[], Awaitable[object]]] = {
            "Redis": cache.ping,
            "PostgreSQL": database.check,
        }
        self._addresses = {
            "Redis": without_password(settings.redis_url),
            "PostgreSQL": without_password(settings.database_url),
        }
        self._servers = OutageWaiter(self._probes, self._stopping)
        self._told_lost = -QUIET
        self._counters = Counters()
        self._loop_lag = LoopLag()
        self._answering = Probes({"Redis": cache.ping, "PostgreSQL": database.ping})
        self._turned: Callable[[], float] = monotonic  # until there is a consumer, all is well
        self._health = Health(
            self._loop_lag,
            self._answering,
            silent=lambda: max(0.0, monotonic() - self._last_turn()),
            silent_limit=settings.block + SILENT,
            is_waiting=lambda: self._servers.waiting,
            pool=lambda: database.pool_in_use,
            pool_size=settings.pool_size,
        )

    def _build(self) -> None:
        """Make the parts, now that the name is known."""
        settings, name = self._settings, self._name.text
        self._queue = Queue(
            self._cache, name, lease=settings.lease, dead_limit=settings.dead_letters
        )
        self._stream = Stream(
            self._cache, self._reader, name, block=settings.block, dead_limit=settings.dead_letters
        )
        general, urgent = WakeUp(), WakeUp()
        wake_up = FirstOf(urgent, general)
        self._consumer = Consumer(
            self._stream,
            self._queue,
            self._database,
            wake_up,
            batch_size=settings.batch_size,
            counters=self._counters,
        )
        self._turned = lambda: self._consumer.last_turn
        load_shedder = LoadShedder()
        self._loops: dict[str, Loop] = {"consumer": self._consumer}
        self._loops |= self._workers(general, urgent, load_shedder)
        self._side_loops = self._timely(wake_up, load_shedder)

    def _workers(
        self, general: WakeUp, urgent: WakeUp, load_shedder: LoadShedder
    ) -> dict[str, Worker]:
        """Make those who answer, and the first of them, which looks for missed solves alone."""
        settings = self._settings
        boards = LiveBoards(self._cache, self._database)
        statistics = statistics_of(boards, self._database)
        upkeep = self._upkeep()
        quick = {
            kind: each for kind, each in statistics.items() if not each.costly and not each.is_large
        } | {MissedSolves.kind: upkeep[MissedSolves.kind]}
        executors = statistics | upkeep
        self._counters.kinds = tuple(executors)
        worker = partial(
            Worker,
            self._queue,
            lease=settings.lease,
            retry_delays=settings.retry_delays,
            slow=settings.slow_job,
            counters=self._counters,
            load_shedder=load_shedder,
            stopping=self._stopping.is_set,
        )
        urgent.wake()  # it finds nothing to do where another daemon looks, and need not nap
        self._first = worker({MissedSolves.kind: executors[MissedSolves.kind]}, urgent)
        # One more is there for what is urgent and small, which never waits for what is neither.
        strict = worker(quick, urgent, least=Priority.ORDINARY, others=general)
        return {"urgent worker": strict} | {
            f"worker {i}": worker(executors, general) for i in range(settings.concurrency)
        }

    def _timely(self, wake_up: Wakes, load_shedder: LoadShedder) -> dict[str, Loop]:
        """Make what comes round by the clock."""
        settings, queue = self._settings, self._queue
        reporter = Reporter(
            self._cache,
            self._name.text,
            self._counters,
            self._health,
            heartbeat=settings.heartbeat_interval,
        )
        loops: dict[str, Loop] = {
            "name": self._name,
            "sight": reporter,
            "progress": FillProgress(queue, load_shedder),
            "claims": Takeover(self._stream, queue, self._consumer),
            "sweep": Sweep(self._cache, queue, refill=not settings.skip_cold_start),
            "watch": Schedule(queue, wake_up, MissedSolves(), missed_solves.INTERVAL),
        }
        if settings.audit_interval:
            loops["audit"] = Schedule(queue, wake_up, Audit(), settings.audit_interval)
        if settings.docker_engines and settings.containers_interval:
            loops["containers"] = Schedule(
                queue, wake_up, Containers(), settings.containers_interval
            )
        return loops

    def _upkeep(self) -> dict[str, Executor]:
        """Return who answers what is no statistic."""
        database, skip = self._database, self._settings.skip_cold_start
        missed = MissedSolvesFinder(self._cache, database)
        reconciler = Reconciler(self._queue, database, only_present=skip)
        auditor = Auditor(self._cache, database, refill=not skip)
        engines = Engines(self._settings.docker_engines)
        return {
            Containers.kind: Executor(at_once(engines.execute), batch=1, log_level=logging.DEBUG),
            Reconcile.kind: Executor(at_once(reconciler.execute), batch=1),
            MissedSolves.kind: Executor(at_once(missed.execute), batch=1, log_level=logging.DEBUG),
            Audit.kind: Executor(
                at_once(auditor.execute), batch=1, log_level=logging.DEBUG, is_large=True
            ),
        }

    async def run(self) -> None:
        """Work until told to stop; then finish what is under way, within the deadline.

        Raises SettingsError where a server refuses what the settings say.
        """
        with self._stopped_by_signals():
            async with self._served():
                while not self._stopping.is_set():
                    for name, probe in self._probes.items():
                        await wait_for(name, checked(probe), self._stopping, self._addresses[name])
                    if not self._stopping.is_set() and await self._starts():
                        await self._work()

    async def _starts(self) -> bool:
        """Start; return whether both servers served until it was done."""
        try:
            await self._start()
        except Exception as error:
            if not is_outage(error):
                raise
            self._tell_lost("start", error)
            return False
        return True

    async def _start(self) -> None:
        await self._name.acquire()
        self._build()
        await self._consumer.recover()
        released = await self._queue.release()
        # First: if the watch has to begin anew, it owes `reconcile` too, which then is done once.
        await self._queue.enqueue([PendingJob(MissedSolves())])
        with suppress(TimeoutError):  # the sign of life waits, so it goes on elsewhere
            async with asyncio.timeout(FIRST_LOOK):
                await self._first.step()
        await self._first.recover()
        if not self._settings.skip_cold_start:
            await self._queue.enqueue([PendingJob(Reconcile())])
        log.info(
            "started",
            extra={
                "version": statsd.__version__,
                "python": platform.python_version(),
                "consumer": self._name.text,
                "redis": self._stream.server_version,
                "postgresql": self._database.server_version,
                "acknowledges_with": self._stream.acknowledges_with,
                "leases_released": released,
                "settings": {item.variable: item.value for item in declared(self._settings)},
            },
        )

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            main, side = (
                [
                    group.create_task(self._repeat(name, loop), name=name)
                    for name, loop in loops.items()
                ]
                for loops in (self._loops, self._side_loops)
            )
            with Watchdog(self._last_turn, stuck_after(self._settings)):
                await self._stopping.wait()
            log.info("stopping", extra={"deadline": self._settings.drain_deadline})
            _, late = await asyncio.wait(main, timeout=self._settings.drain_deadline)
            await ended([*late, *side])
        released = await self._leave()
        log.info("stopped", extra={"unfinished_tasks": len(late), "leases_released": released})

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        """Let others see how this daemon is, from before it waits for servers until it has ended.

        What looks at it goes on while it drains, and ends it if it fails itself.
        """
        host, port = self._settings.http_host, self._settings.http_port
        asides = [
            asyncio.create_task(self._look(loop), name=type(loop).__name__)
            for loop in (self._loop_lag, self._answering)
        ]
        with (
            watched(self._loop_lag, BLOCKED),
            serving(host, port, Endpoint(self._counters, self._health)),
        ):
            try:
                yield
            finally:
                await ended(asides)
                errors = [aside.exception() for aside in asides if not aside.cancelled()]
        for error in filter(None, errors):
            raise error

    async def _look(self, loop: Loop) -> None:
        try:
            while True:
                await loop.step()
        finally:
            self._stopping.set()

    async def _repeat(self, name: str, loop: Loop) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                if failures:
                    await pause_unless(self._stopping, min(2.0, 0.05 * 2**failures))
                    await self._servers.wait()
                    await loop.recover()
                await loop.step()
                failures = 0
            except Exception as error:
                if not is_transient(error):
                    # The group cancels the other loops; one whose client swallows that ends
                    # by this.
                    self._stopping.set()
                    raise
                failures += 1
                self._tell_lost(name, error)

    def _tell_lost(self, loop: str, error: Exception) -> None:
        """Say that a server was lost; all loops notice, and one line does."""
        quiet = monotonic() - self._told_lost < QUIET
        self._counters.lost_servers += not quiet
        self._told_lost = self._told_lost if quiet else monotonic()
        log.log(
            logging.DEBUG if quiet else logging.WARNING,
            "lost a server",
            extra={"loop": loop, "error": brief(error)},
        )

    def _last_turn(self) -> float:
        """Return when the consumer last came round; waiting for a server, it is well too."""
        return monotonic() if self._servers.waiting else self._turned()

    async def _leave(self) -> int:
        """Let leases and the name go; where Redis is gone, they expire."""
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                released = await self._queue.release()
                await daemon_report.leave(self._cache, self._name.text)
                await self._name.leave()
                return released
        except Exception as error:
            if not is_outage(error):
                raise
            return 0

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


async def _main(settings: Settings) -> None:
    database = Database(
        settings.database_url,
        pool_size=settings.pool_size,
        statement_timeout=settings.statement_timeout,
        prepared_statements=settings.prepared_statements,
    )
    try:
        async with (
            redis_client(settings.redis_url) as cache,
            redis_client(settings.redis_url, block=settings.block) as reader,
        ):
            await Daemon(settings, cache, reader, database).run()
    finally:
        await database.close()


def run(settings: Settings) -> None:
    """Run a daemon in this process until SIGTERM or SIGINT."""
    heap.give_back()
    sys.setswitchinterval(SWITCH)
    gc.freeze()  # what was imported stays
    gc.set_threshold(*COLLECTIONS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(settings))
