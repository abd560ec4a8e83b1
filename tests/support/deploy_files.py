"""The files of `deploy/`, and the metrics in their expressions."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.scrape import documented

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus-rules.yml"
OF_HISTOGRAM = re.compile(r"_(bucket|count|sum)$")
KEY = re.compile(r" {6,10}(- )?(\w+):(?: (.*))?")
SELECTOR = re.compile(r"(?<![\w:])((?:statsd|process)_\w+)(?![\w:])(?:\{([^}]*)\})?")
RECORDED = re.compile(r"\b\w+:\w+:\w+\b")


class Selector(NamedTuple):
    """A metric in an expression."""

    name: str
    matchers: str

    @property
    def labels(self) -> set[str]:
        return set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", self.matchers))

    @property
    def metric(self) -> str:
        """The documented name; empty for an undocumented metric."""
        types = documented()
        stem = OF_HISTOGRAM.sub("", self.name)
        if types.get(stem) == "histogram":
            return stem if stem != self.name else ""  # the bare name is no series
        return self.name if self.name in types else ""


def selectors(expression: str) -> list[Selector]:
    return [Selector(*found) for found in SELECTOR.findall(expression)]


def grouped_by(expression: str) -> set[str]:
    """Return the labels that an expression groups or matches by."""
    found = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    return {label.strip() for each in found for label in each.split(",")}


def rules() -> list[dict[str, str]]:
    """Return the fields of each rule, together with those of its annotations.

    It reads only the subset of YAML in this file. Prometheus reads the file in its own test.
    """
    found: list[dict[str, str]] = []
    key = ""
    for line in RULES.read_text().splitlines():
        match = KEY.fullmatch(line)
        if match and match[1]:
            found.append({})
        if match and found:
            key = match[2]
            found[-1][key] = (match[3] or "").strip('"')
        elif found and line.strip() and not line.lstrip().startswith("#"):
            so_far = found[-1][key].removeprefix("|").removeprefix(">-")
            found[-1][key] = f"{so_far} {line.strip()}".strip()
    return found


def alerts() -> dict[str, dict[str, str]]:
    """Return the fields of the alerts, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """Return the panels, without the rows that group them."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> Iterator[tuple[str, str]]:
    """Yield the expressions of the panels, with their legends."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]


def annotations() -> list[dict[str, Any]]:
    """Return the annotations, which all panels show."""
    found: list[dict[str, Any]] = dashboard()["annotations"]["list"]
    return found
