"""The daemon: builds every part, runs the loops in one task group, and shuts down in order."""

import asyncio
import gc
import logging
import platform
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import uvloop
from redis.asyncio import Redis

import statsd
import statsd.handlers
from statsd.boards.executors import statistics_of
from statsd.boards.exports_switch import ExportsSwitch
from statsd.calculators import Cost
from statsd.consistency import missed_solves
from statsd.consistency.drift_audit import DriftAudit, DriftAuditor
from statsd.consistency.missed_solves import MissedSolves, MissedSolvesFinder
from statsd.consistency.missing_keys import Sweep
from statsd.consistency.reconcile import Reconcile, Reconciler
from statsd.job import Priority
from statsd.jobs.executor import Executor
from statsd.jobs.load_shedder import LoadShedder
from statsd.jobs.parts import at_once
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue
from statsd.jobs.recurring import RecurringJob
from statsd.jobs.wakeup import PreferFirst, Wakes, WakeUp
from statsd.jobs.worker import Worker
from statsd.loops import CONSUMER, PAUSES, Loop, LoopRunner, cancel
from statsd.observability import daemon_report
from statsd.observability.counters import Counters
from statsd.observability.health import Health
from statsd.observability.http import Endpoint, serving
from statsd.observability.liveness import Liveness, limits_of
from statsd.observability.probes import Probes
from statsd.observability.progress import FillProgress
from statsd.observability.reporter import Reporter
from statsd.servers import redis_fitness
from statsd.servers.database import Database
from statsd.servers.docker import Containers, Engines
from statsd.servers.errors import is_outage, is_transient
from statsd.servers.finding import Finding, Level
from statsd.servers.outages import OutageWaiter, checked, pause_unless, wait_for
from statsd.servers.redis_client import redis_client
from statsd.settings import Settings, declared
from statsd.stream.consumer import Consumer
from statsd.stream.consumer_name import ConsumerName
from statsd.stream.event_stream import Stream
from statsd.stream.takeover import Takeover
from statsd.urls import without_password

log = logging.getLogger(__name__)

ONE = Cost(batch=1)  # for kinds of which there is one job
FIRST_SEARCH_TIMEOUT = 1.0  # seconds; far below the interval in which a heartbeat is expected
LEAVE_TIMEOUT = 2.0  # seconds to release leases and the name; both expire by themselves too
SWITCH_INTERVAL = 0.001  # seconds the loop waits for a thread that builds values; Python: 0.005
GC_THRESHOLDS = (20_000, 10, 100)
"""Python looks seldom for cycles among old objects. A full collection takes tenths of a second
while hundreds of thousands of rows are in memory, and rows have no cycles."""


class Daemon:
    """One daemon: its parts, and the loops that use them."""

    def __init__(self, settings: Settings, cache: Redis, reader: Redis, database: Database) -> None:
        """Take the settings and open clients; `reader` is only for blocking reads."""
        self._settings = settings
        self._cache = cache
        self._reader = reader
        self._database = database
        self._stopping = asyncio.Event()
        self._name = ConsumerName(cache, settings.consumer_name)
        self._switch = ExportsSwitch(cache, exports=settings.exports)
        self._counters = Counters()
        self._needs: dict[str, Callable[[], Awaitable[object]]] = {
            "Redis": partial(redis_fitness.probe, cache, reader),
            "PostgreSQL": database.check,
        }
        self._servers = OutageWaiter(self._needs, self._stopping)
        self._served: set[str] = set()
        self._runner = LoopRunner(self._servers, self._stopping, self._counters)
        self._probes = Probes({"Redis": self._needs["Redis"], "PostgreSQL": database.ping})
        self._liveness = Liveness(limits_of(settings), self._is_waiting)
        self._health = Health(
            self._liveness,
            self._probes,
            failing=lambda: [*self._servers.reasons.values(), *self._runner.failing],
            pool_in_use=lambda: database.pool_in_use,
            pool_size=settings.pool_size,
        )

    async def run(self) -> None:
        """Work until a signal comes, then finish the running jobs within the deadline.

        Raises SettingsError if a server refuses a setting: an address, a name or a password.
        """
        with self._stopped_by_signals():
            async with self._observed():
                failures = 0
                while not self._stopping.is_set():
                    await self._wait_for_servers()
                    if self._stopping.is_set():
                        break
                    if await self._start():
                        failures = 0
                        await self._work()
                    else:
                        failures += 1
                        await pause_unless(self._stopping, PAUSES[min(failures, len(PAUSES)) - 1])

    async def _wait_for_servers(self) -> None:
        """Wait until both servers can be used.

        Before a server's first success, a setting that is wrong ends the daemon.
        """
        addresses = {
            "Redis": without_password(self._settings.redis_url),
            "PostgreSQL": without_password(self._settings.database_url),
        }
        for name, probe in self._needs.items():
            first = name not in self._served
            await wait_for(
                name,
                checked(probe) if first else probe,
                self._stopping,
                address=addresses[name],
                reasons=self._servers.reasons,
            )
            self._served.add(name)

    def _is_waiting(self) -> bool:
        """Whether the work waits for a server, or for a right on it."""
        return self._servers.waiting or self._runner.is_denied

    async def _start(self) -> bool:
        """Take the name, build the parts and enqueue the first jobs; False if a server was lost."""
        try:
            await self._name.acquire()
            self._build()
            await self._switch.publish()
            await self._consumer.recover()
            leases_released = await self._queue.release()
            await self._enqueue_first_jobs()
            found = [
                *redis_fitness.judged(await self._cache.info()),
                *await self._database.findings(),
            ]
        except Exception as error:
            if not is_transient(error):
                raise
            self._runner.lost_server("start", error)
            return False
        self._runner.works("start")
        self._log_start(leases_released, found)
        return True

    def _log_start(self, leases_released: int, findings: Sequence[Finding]) -> None:
        for each in findings:
            if each.level is Level.WARNING:
                fields = {"server": each.subject, "found": [each.sentence], "advice": each.advice}
                log.warning("a server is not as it should be", extra=fields)
        log.info(
            "started",
            extra={
                "version": statsd.__version__,
                "python": platform.python_version(),
                "consumer": self._name.text,
                "redis": self._stream.server_version,
                "postgresql": self._database.server_version,
                "acknowledges_with": self._stream.acknowledges_with,
                "leases_released": leases_released,
                "settings": {item.variable: item.value for item in declared(self._settings)},
            },
        )

    async def _enqueue_first_jobs(self) -> None:
        """Search for missed solves, then enqueue the reconcile.

        The search may enqueue a reconcile too. After it, both are one job.
        """
        await self._queue.enqueue([PendingJob(MissedSolves())])
        with suppress(TimeoutError):  # no heartbeat is given meanwhile; the job continues later
            async with asyncio.timeout(FIRST_SEARCH_TIMEOUT):
                await self._first_worker.step()
        await self._first_worker.recover()
        if not self._settings.skip_cold_start:
            await self._queue.enqueue([PendingJob(Reconcile())])

    async def _work(self) -> None:
        """Run all loops until it is time to stop; then drain, and leave."""
        async with asyncio.TaskGroup() as group:
            main, side = (
                [
                    group.create_task(self._runner.repeat(name, loop), name=name)
                    for name, loop in loops.items()
                ]
                for loops in (self._main_loops, self._side_loops)
            )
            with self._liveness.consuming(
                lambda: self._consumer.last_turn, lambda: self._consumer.last_finished
            ):
                await self._stopping.wait()
            log.info("stopping", extra={"deadline": self._settings.drain_deadline})
            _, unfinished = await asyncio.wait(main, timeout=self._settings.drain_deadline)
            await cancel([*unfinished, *side])
        leases_released = await self._leave()
        log.info(
            "stopped",
            extra={"unfinished_tasks": len(unfinished), "leases_released": leases_released},
        )

    async def _leave(self) -> int:
        """Release leases and name; return the number of leases. Without Redis both expire."""
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                released = await self._queue.release()
                await daemon_report.remove(self._cache, self._name.text)
                await self._name.leave()
                return released
        except Exception as error:
            if not is_outage(error):
                raise
            return 0

    @asynccontextmanager
    async def _observed(self) -> AsyncIterator[None]:
        """Watch the loop, probe the servers and serve HTTP while the context is open.

        That includes the wait for servers at the start, and the drain. An error of the tasks that
        do so stops the daemon and is raised at the end.
        """
        tasks = [
            asyncio.create_task(self._observe(each.step), name=type(each).__name__)
            for each in (self._liveness, self._probes)
        ]
        host, port = self._settings.http_host, self._settings.http_port
        with self._liveness, serving(host, port, Endpoint(self._counters, self._health)):
            try:
                yield
            finally:
                await cancel(tasks)
                errors = [task.exception() for task in tasks if not task.cancelled()]
        for error in filter(None, errors):
            raise error

    async def _observe(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            while True:
                await step()
        finally:
            self._stopping.set()

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

    def _build(self) -> None:
        """Build the parts that need the consumer's name."""
        settings, name = self._settings, self._name.text
        self._queue = Queue(
            self._cache, name, lease=settings.lease, dead_limit=settings.dead_letters
        )
        self._stream = Stream(
            self._cache, self._reader, name, block=settings.block, dead_limit=settings.dead_letters
        )
        general, urgent = WakeUp(), WakeUp()
        wake_up = PreferFirst(urgent, general)
        self._consumer = Consumer(
            self._stream,
            self._queue,
            self._database,
            wake_up,
            batch_size=settings.batch_size,
            counters=self._counters,
        )
        load_shedder = LoadShedder(settings.export_share)
        self._main_loops: dict[str, Loop] = {CONSUMER: self._consumer}
        self._main_loops |= self._workers(general, urgent, load_shedder)
        self._side_loops = self._timed_loops(wake_up, load_shedder)

    def _workers(
        self, general: WakeUp, urgent: WakeUp, load_shedder: LoadShedder
    ) -> dict[str, Worker]:
        """Build the workers, and the one that searches for missed solves at the start."""
        settings = self._settings
        statistics = statistics_of(self._cache, self._database)
        upkeep = self._upkeep()
        small = {
            kind: each
            for kind, each in statistics.items()
            if not each.cost.full_pass and not each.is_large
        }
        search = {MissedSolves.kind: upkeep[MissedSolves.kind]}
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
        urgent.wake()  # so that it does not sleep where another daemon has leased the search
        self._first_worker = worker(search, urgent)
        # One worker more is reserved for urgent small jobs: they never wait for other jobs.
        reserved = worker(small | search, urgent, least=Priority.ORDINARY, others=general)
        return {"urgent worker": reserved} | {
            f"worker {i}": worker(executors, general) for i in range(settings.concurrency)
        }

    def _timed_loops(self, wake_up: Wakes, load_shedder: LoadShedder) -> dict[str, Loop]:
        """Build the loops that run at intervals."""
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
            "reporter": reporter,
            "progress": FillProgress(queue, load_shedder),
            "takeover": Takeover(self._stream, queue, self._consumer),
            "sweep": Sweep(self._cache, queue, refill=not settings.skip_cold_start),
            "missed solves": RecurringJob(queue, wake_up, MissedSolves(), missed_solves.INTERVAL),
        }
        if settings.audit_interval:
            loops["audit"] = RecurringJob(queue, wake_up, DriftAudit(), settings.audit_interval)
        if settings.docker_engines and settings.containers_interval:
            loops["containers"] = RecurringJob(
                queue, wake_up, Containers(), settings.containers_interval
            )
        return loops

    def _upkeep(self) -> dict[str, Executor]:
        """Build the executors of the jobs that compute no statistic from the database."""
        database, skip = self._database, self._settings.skip_cold_start
        finder = MissedSolvesFinder(self._cache, database)
        reconciler = Reconciler(self._queue, database, only_present=skip, switch=self._switch)
        auditor = DriftAuditor(self._cache, database, refill=not skip)
        engines = Engines(self._settings.docker_engines)
        quiet = partial(Executor, cost=ONE, log_level=logging.DEBUG)
        return {
            Containers.kind: quiet(at_once(engines.execute)),
            Reconcile.kind: Executor(at_once(reconciler.execute), ONE),
            MissedSolves.kind: quiet(at_once(finder.execute)),
            DriftAudit.kind: quiet(at_once(auditor.execute), is_large=True),
        }


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
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # imported modules stay for good
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(settings))
