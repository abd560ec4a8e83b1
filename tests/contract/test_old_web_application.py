"""The web half in the environment of an older web application, with the versions CTFd pins.

The tests of the client run there again: with SQLAlchemy 1.4 and redis-py 7.1, the base install and
the embedded servers, without the libraries of the daemon.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-old"

PINNED = ["SQLAlchemy==1.4.48", "redis==7.1.0"]
TOOLS = ["asyncpg", "greenlet", "psycopg2-binary", "pytest", "pytest-asyncio", "pytest-timeout"]
DAEMON_ONLY = ["pydantic", "pydantic_settings", "typer", "uvloop", "rich", "hiredis", "hypothesis"]

OUTSIDE = ("DATABASE_URL", "REDIS_URL", "BACKGROUND_STATS_", "PYTEST_", "COV_", "PYTHONPATH")
"""Variables of the outer test run that the inner run must not inherit."""


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base: list[str] = project["dependencies"]
    return [*PINNED, *base, *project["optional-dependencies"]["embedded"], *TOOLS]


def constraints() -> str:
    """The versions for all tests, without the libraries in PINNED."""
    pinned = tuple(f"{name.partition('==')[0]}==".lower() for name in PINNED)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return "\n".join(line for line in lines if not line.lower().startswith(pinned))


@pytest.fixture(scope="session")
def old_python() -> Path:
    """The interpreter of the environment, which is rebuilt when its requirements have changed."""
    wanted = "\n".join([sys.version, *requirements(), constraints()])
    environment = ENVIRONMENTS / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (environment / "complete").exists():
            for outdated in ENVIRONMENTS.glob("*/"):
                shutil.rmtree(outdated)
            install(environment)
            (environment / "complete").touch()
    return environment / "bin" / "python"


def install(environment: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    constraining = environment / "constraints.txt"
    constraining.write_text(constraints())
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "-c", constraining, *requirements()], check=True)


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(OUTSIDE)}
    return subprocess.run(
        [python, *arguments],
        cwd=ROOT,
        env={**environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.timeout(900)
def test_the_environment_has_no_library_of_the_daemon(old_python: Path) -> None:
    script = (
        "import importlib.util as u, redis, sqlalchemy;"
        f"print(sqlalchemy.__version__, redis.__version__,"
        f" [name for name in {DAEMON_ONLY} if u.find_spec(name)])"
    )
    assert run(old_python, "-c", script).stdout.split("\n")[0] == "1.4.48 7.1.0 []"


@pytest.mark.timeout(900)
def test_the_client_passes_its_tests_in_the_old_environment(old_python: Path) -> None:
    options = ["-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib -ra"]
    # SQLAlchemy 1.4 uses functions that Python 3.12 deprecated.
    options += ["-W", "ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning"]
    done = run(old_python, "-m", "pytest", *options, "tests/client")
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:]
    assert passed, done.stdout
    assert int(passed[1]) >= 150


@pytest.mark.timeout(900)
def test_the_client_imports_sqlalchemy_only_for_listeners(old_python: Path) -> None:
    script = (
        "import sys, statsd.client;"
        "before = 'sqlalchemy' in sys.modules;"
        "from statsd.client import listen;"
        "print(before, 'sqlalchemy' in sys.modules, 'asyncpg' in sys.modules)"
    )
    assert run(old_python, "-c", script).stdout.split("\n")[0] == "False True False"
