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
STEPS = list(steps_of(GUIDE))
CHECKED = (
    "tests/contract/live_guide.py",
    "tests/calculators/test_dojo_members_definition.py",
    "tests/calculators/test_catalog.py",
    "tests/handlers/test_effects.py",
    "tests/handlers/test_event_keys.py",
    "tests/contract/test_docs.py",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the repository in which the guide was followed, here or before."""
    tree = tmp_path / "copy"
    for folder in ("statsd", "tests", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    for page in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / page, tree)
    if not any((tree / step.file).exists() for step in STEPS if step.where is None):
        for step in STEPS:
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
    commands = r"^```sh$"
    blocks = re.findall(r"^```\w+$", GUIDE, re.MULTILINE)
    assert len(STEPS) == len(blocks) - len(re.findall(commands, GUIDE, re.MULTILINE))


@pytest.mark.timeout(900)
def test_the_guide_adds_a_statistic_that_a_daemon_keeps_true(tree: Path) -> None:
    run(tree, "statsd.dev.docs")
    changed = sorted({step.file for step in STEPS})
    run(tree, "ruff", "check", *[file for file in changed if file.endswith(".py")])
    run(tree, "ruff", "format", "--check", *changed)
    run(tree, "pytest", "-q", "-p", "no:cacheprovider", *CHECKED)
    assert "dojo_members:{dojo_id}" in (tree / "docs" / "architecture.md").read_text()
