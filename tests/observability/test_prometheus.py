"""Prometheus accepts the files of `deploy/` and scrapes a daemon."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from statsd.dev import embedded
from tests.support import deploy_files, prometheus
from tests.support.deploy_files import selectors
from tests.support.processes import Daemon, daemon, eventually, free_port
from tests.support.prometheus import Prometheus, promtool
from tests.support.scrape import documented
from tests.support.webapp import WebApp

RULE_TESTS = Path(__file__).parent / "prometheus-rules.test.yml"
ONLY_WITH_FAULTS = {
    *("statsd_slow_jobs_total", "statsd_failed_jobs_total"),
    *("statsd_dead_jobs_total", "statsd_drifted_values_total"),
}
SOLVES = 'statsd_events_total{job="statsd", type="challenge_solve"}'
CHANGED_BY_A_SOLVE = [
    SOLVES,
    "statsd_event_batches_total",
    "statsd_enqueued_jobs_total",
    'statsd_jobs_total{kind="user_entries", status="completed"}',
    'statsd_publish_to_cache_seconds_count{kind="user_entries"}',
    'statsd_publish_to_cache_seconds_bucket{kind="dojo_stats", le="+Inf"}',
]

SLOWNESS = {"StatsdSlow", "StatsdLoopLag"}
"""Alerts that a busy machine may raise: their tests are in `prometheus-rules.test.yml`."""

pytestmark = pytest.mark.usefixtures("installed")


@pytest.fixture(scope="module")
def installed() -> None:
    prometheus.require()


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def scraping(
    installed: None,  # noqa: ARG001 - must come first
    port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """One Prometheus for all daemons of these tests: it takes five seconds to start."""
    with prometheus.scraping(port, tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture
def running(
    database: str,
    redis_server: embedded.Redis,
    publishing: None,  # noqa: ARG001 - while the daemon runs
    port: int,
    tmp_path: Path,
) -> Iterator[Daemon]:
    """A daemon whose web application publishes."""
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    with daemon(tmp_path / "log", STATSD_HTTP_PORT=str(port), **variables) as process:
        yield process.started()


@pytest.fixture
def server(scraping: Prometheus, running: Daemon) -> Prometheus:  # noqa: ARG001 - Prometheus scrapes it
    eventually(lambda: scraping.value("statsd_ready") == 1, "Prometheus has scraped a ready daemon")
    return scraping


def solve(webapp: WebApp, server: Prometheus) -> None:
    """Let a user solve a challenge, and wait until the metrics in Prometheus have changed."""
    [challenge_id, *_] = webapp.challenge_ids(webapp.create_dojo())
    before = {each: server.value(each) for each in CHANGED_BY_A_SOLVE}
    webapp.solve(webapp.create_user(), challenge_id)

    def unchanged() -> list[str]:
        return [each for each, value in before.items() if server.value(each) <= value]

    eventually(lambda: not unchanged(), f"these metrics change: {CHANGED_BY_A_SOLVE}")


def test_promtool_accepts_the_files() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", deploy_files.RULES)
    assert "SUCCESS" in promtool("check", "config", deploy_files.DEPLOY / "prometheus.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", RULE_TESTS)


def test_every_documented_metric_is_a_series(webapp: WebApp, server: Prometheus) -> None:
    solve(webapp, server)
    [target] = server.targets()
    assert (target["health"], target["labels"]["job"]) == ("up", "statsd")
    names = {labels["__name__"] for labels, _ in server.query('{job="statsd"}')}
    seen = {each.metric or each.name for name in names for each in selectors(name)}
    assert seen | ONLY_WITH_FAULTS == documented().keys()


def test_every_panel_of_the_dashboard_has_data(webapp: WebApp, server: Prometheus) -> None:
    solve(webapp, server)
    solve(webapp, server)  # a rate needs two different samples
    for annotation in deploy_files.annotations():
        server.query(chosen(annotation["expr"]))
    for expression, legend in deploy_files.targets():
        found = server.query(chosen(expression))
        shown = [labels for labels, value in found if not math.isnan(value)]
        metrics = {each.metric for each in selectors(expression)}
        assert shown or (metrics and metrics <= ONLY_WITH_FAULTS), expression
        wanted = set(re.findall(r"\{\{(\w+)\}\}", legend))
        assert all(wanted <= labels.keys() for labels in shown), (expression, legend)


def chosen(expression: str) -> str:
    """Return an expression with the values of its variables, as Grafana inserts them."""
    return expression.replace("$__rate_interval", "1m").replace("$job", "statsd")


def test_the_rules_are_healthy_and_a_stopped_daemon_raises_an_alert(
    webapp: WebApp, server: Prometheus, running: Daemon
) -> None:
    solve(webapp, server)

    def states() -> dict[str, str]:
        return {rule["name"]: rule["state"] for rule in server.rules() if "state" in rule}

    def raised() -> set[str]:
        return {name for name, state in states().items() if state != "inactive"}

    eventually(lambda: raised() <= SLOWNESS, "no alert has a reason to fire")
    eventually(
        lambda: {rule["health"] for rule in server.rules()} == {"ok"}, "all rules were evaluated"
    )
    for rule, ours in zip(server.rules(), deploy_files.rules(), strict=True):
        assert rule["name"] == ours.get("alert", ours.get("record"))
        for name, text in rule.get("annotations", {}).items():
            assert ours[name] == text
        found = server.query(ours["expr"])
        assert len(found) == ("record" in ours) or rule["name"] in SLOWNESS
    assert running.stop() == 0
    eventually(lambda: states()["StatsdDown"] == "pending", "the alert is pending")
