"""Rules and dashboard use documented metrics; each alert gives advice."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from statsd.dev import MALLOC
from tests.support import deploy_files, scrape
from tests.support.deploy_files import RECORDED, alerts, grouped_by, panels, rules, selectors

OF_PROMETHEUS = {"job", "instance"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RULE_TESTS = Path(__file__).parent / "prometheus-rules.test.yml"
OF_RULES = [(rule["expr"], "".join(rule.values())) for rule in rules()]
OF_PANELS = list(deploy_files.targets())
OF_ANNOTATIONS = [(each["expr"], each["titleFormat"]) for each in deploy_files.annotations()]


@pytest.mark.parametrize(("expression", "text"), OF_RULES + OF_PANELS + OF_ANNOTATIONS)
def test_metrics_and_labels_are_documented(expression: str, text: str) -> None:
    known = set(OF_PROMETHEUS)
    for each in selectors(expression):
        assert each.metric, f"{each.name} is not documented"
        own = scrape.labels()[each.metric] | OF_PROMETHEUS
        own |= {"le"} if each.name.endswith("_bucket") else set()
        assert each.labels <= own, each
        known |= own
    assert grouped_by(expression) <= known
    assert set(re.findall(r"\{\{ *(?:\$labels\.)?(\w+) *\}\}", text)) <= known


def test_every_recorded_series_is_used() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for rule in rules() for name in RECORDED.findall(rule["expr"])}
    assert used == recorded


def test_every_alert_has_a_meaning_and_advice() -> None:
    assert len(alerts()) == sum("alert" in rule for rule in rules())
    for name, rule in alerts().items():
        assert rule["labels"] in {"{severity: critical}", "{severity: warning}"}, name
        assert re.fullmatch(r"\d+m", rule["for"]), name
        assert rule["summary"].endswith("."), name
        assert len(rule["description"]) > len(rule["summary"]), name


def test_alerts_are_documented_and_tested() -> None:
    documented = re.findall(r"^\| `(Statsd\w+)` \|", scrape.PAGE.read_text(), re.MULTILINE)
    assert documented == list(alerts())
    fired = re.findall(r'alertname="(\w+)"', RULE_TESTS.read_text())
    assert set(fired) == alerts().keys()


def test_the_dashboard_uses_the_chosen_source_and_job() -> None:
    variables = {each["name"]: each for each in deploy_files.dashboard()["templating"]["list"]}
    assert variables.keys() == {"datasource", "job"}
    parts = [variables["job"], *deploy_files.annotations(), *panels()]
    parts += [target for panel in panels() for target in panel["targets"]]
    assert all(each["datasource"] == SOURCE for each in parts)
    for expression, _ in OF_PANELS + OF_ANNOTATIONS:
        assert expression.count('{job="$job"}') == expression.count("{") > 0, expression


def test_panels_are_distinct_and_do_not_overlap() -> None:
    every = deploy_files.dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    titles = [panel["title"] for panel in every]
    assert len(set(titles)) == len(titles)
    for panel in panels():
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
    for one, other in combinations(every, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def test_the_image_sets_the_same_environment_of_malloc_as_the_demo() -> None:
    text = (deploy_files.DEPLOY.parent / "Dockerfile").read_text()
    assert "ENV " + " ".join(f"{name}={value}" for name, value in MALLOC.items()) in text


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )
