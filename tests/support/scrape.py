"""The metrics of a daemon, and their documentation."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import get

PAGE = Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"


def documented() -> dict[str, str]:
    """Return the types of all documented metrics, by their names in a scrape."""
    found = re.findall(
        r"^\| `((?:statsd|process)_\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE
    )
    return dict(found)


def labels() -> dict[str, set[str]]:
    """Return the labels of all documented metrics."""
    found = re.findall(
        r"^\| `((?:statsd|process)_\w+)` \| \w+ \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE
    )
    return {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in found}


def scraped(port: int) -> dict[str, dict[str, float]]:
    """Return the values of all metrics, by name and labels; for histograms, the counts."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(get(port, "/metrics")[1]):
        for sample in family.samples:
            if family.type == "histogram" and not sample.name.endswith("_count"):
                continue
            name = sample.name.removesuffix("_count")
            found.setdefault(name, {})[str(sorted(sample.labels.items()))] = sample.value
    return found


def described(port: int) -> dict[str, str]:
    """Return the types of all metrics in a scrape, by their documented names."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(get(port, "/metrics")[1])
    }
