"""The guide to a new statistic, followed in a copy of the repository, with a daemon there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.guide import steps_of
from tests.support.processes import environment

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "adding-a-statistic.md").read_text()
CREATED = (
    "statsd/calculators/dojo_members.py",
    "tests/calculators/test_dojo_members_definition.py",
)
CHECKS = (
    "tests/contract/live_guide.py",
    "tests/calculators/test_dojo_members_definition.py",
    "tests/handlers/test_effects.py",
    "tests/handlers/test_event_keys.py",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the repository in which the guide was followed."""
    tree = tmp_path / "copy"
    for folder in ("statsd", "tests", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tree)
    for step in steps_of(GUIDE):
        step.apply(tree)
    return tree


def run(tree: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_block_of_code_is_a_step() -> None:
    assert len(list(steps_of(GUIDE))) == len(re.findall(r"^```\w", GUIDE, re.MULTILINE))


@pytest.mark.timeout(900)
def test_the_guide_adds_a_statistic_that_a_daemon_keeps_true(tree: Path) -> None:
    run(tree, "ruff", "check", *CREATED)
    run(tree, "ruff", "format", "--check", *CREATED)
    run(tree, "statsd.dev.docs")
    run(tree, "pytest", "-q", "-p", "no:cacheprovider", *CHECKS)
    assert "dojo_members:{dojo_id}" in (tree / "docs" / "architecture.md").read_text()
