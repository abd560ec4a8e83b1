"""The package refuses to run after another distribution has overwritten its files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import statsd
from tests.support.processes import environment

PACKAGE = Path(statsd.__file__).parent

OTHER = 'VERSION = (4, 0, 1)\n__all__ = ["StatsClient"]\n'
OTHERS = {
    "bare": OTHER,
    "with a name from its client": OTHER + "from .client import StatsClient\n",
    "of the same form": 'DISTRIBUTION = "statsd"\n' + OTHER,
    "empty": "",
}


@pytest.fixture
def overwritten(tmp_path: Path) -> Path:
    """A folder with our package; each test overwrites its `__init__.py`."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "statsd", ignore=ignored)
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        check=False,
        cwd=folder,
        env=environment({}),
        text=True,
    )


def assert_one_sentence_explains_it(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ImportError: the package `statsd` at ")
    assert "pip uninstall statsd" in last
    assert "dojo-statsd" in last
    assert ". " not in last


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_the_web_half_refuses_to_run_under_another_distribution(
    overwritten: Path, other: str
) -> None:
    (overwritten / "statsd" / "__init__.py").write_text(other)
    assert_one_sentence_explains_it(python(overwritten, "-c", "import statsd.client"))


def test_the_command_line_refuses_to_run_under_another_distribution(overwritten: Path) -> None:
    (overwritten / "statsd" / "__init__.py").write_text(OTHER)
    assert_one_sentence_explains_it(python(overwritten, "-m", "statsd", "--version"))


def test_the_command_line_refuses_to_run_when_the_client_is_overwritten_too(
    overwritten: Path,
) -> None:
    (overwritten / "statsd" / "__init__.py").write_text(OTHERS["with a name from its client"])
    (overwritten / "statsd" / "client" / "__init__.py").write_text("class StatsClient: ...\n")
    assert_one_sentence_explains_it(python(overwritten, "-m", "statsd", "--version"))


def test_the_message_names_the_overwritten_file(overwritten: Path) -> None:
    (overwritten / "statsd" / "__init__.py").write_text(OTHER)
    ended = python(overwritten, "-c", "import statsd.client")
    assert str(overwritten / "statsd" / "__init__.py") in ended.stderr.splitlines()[-1]


def test_our_own_package_is_accepted(overwritten: Path) -> None:
    where = "import statsd.client; print(statsd.__file__)"
    ended = python(overwritten, "-c", where)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(overwritten / "statsd" / "__init__.py")
