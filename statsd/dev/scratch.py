"""Scratch directories for embedded servers, removed even if their owner is killed.

All directories lie in one state root, `{temporary directory}/dojo-statsd-{uid}`. Each directory
has a lock file, which its owner process keeps locked. Every start looks for directories without a
living owner, ends their servers and removes them. Directories are created, cleared and removed
under the root's own lock, so a directory under construction is never taken for a leftover.

Servers are found by their command lines in `/proc`. On systems without `/proc`, a leftover
PostgreSQL ends by itself when its directory is gone.
"""

import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from statsd.errors import StatsdError

POLL_INTERVAL = 0.01  # seconds
DETACH_DEADLINE = 5.0  # seconds until killed processes have detached from shared memory
END_DEADLINE = 5.0  # seconds for a server to end by itself, and again after it was killed
LONGEST_ROOT = 60  # bytes; socket paths in a scratch directory must stay below 100
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def directory() -> Iterator[Path]:
    """Create a scratch directory; at exit, end its servers and remove it.

    Leftovers of killed owners are cleared first. While the block runs in the main thread, SIGTERM
    and SIGHUP raise SystemExit, unless the program handles them, so that `finally` blocks run.
    """
    with _exit_on_signals():
        root = state_root()
        with locked(root):
            _clear_leftovers(root)
            path, lock = _create(root)
        try:
            yield path
        finally:
            with _uninterrupted(), locked(root):
                _clear(path)
                os.close(lock)


def state_root() -> Path:
    """Return the folder of all scratch directories of this user; create it if it is missing.

    The folder is in /tmp if the temporary directory has too long a name for sockets, or if the
    process is root and PostgreSQL's account cannot enter it. Raises StatsdError when the folder
    belongs to another user.
    """
    base = Path(tempfile.gettempdir()).resolve()
    root = base / f"dojo-statsd-{os.geteuid()}"
    closed = os.geteuid() == 0 and not _open_to_all(base)
    if closed or len(os.fsencode(root)) > LONGEST_ROOT:
        root = Path("/tmp") / root.name  # noqa: S108 - its owner is checked below
    with suppress(FileExistsError):
        root.mkdir(mode=0o711)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StatsdError(f"{root} belongs to somebody else: remove it or set TMPDIR")
    root.chmod(0o711)
    return root


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the state root's lock; waits for it without a timeout."""
    with (root / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def end_servers(path: Path) -> None:
    """End every server of a scratch directory: with its own signal, after 5 s with SIGKILL."""
    for force in (False, True):
        for pid, orderly in _servers(path).items():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if force else orderly)
                os.kill(pid, signal.SIGCONT)  # a paused process handles no signal but SIGKILL
        if wait_until(lambda: not _servers(path), END_DEADLINE):
            return


def free_shared_memory(path: Path) -> None:
    """Remove the System V segment that a killed PostgreSQL of this directory left.

    Line 7 of its pid file has the segment's key and id. Both are compared, because ids are reused.
    """
    try:
        lines = (path / "postgres/data/postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return
    segment = lines[6].split() if len(lines) > 6 else []  # noqa: PLR2004 - line 7
    # Killed processes stay attached to the segment until they have ended.
    wait_until(lambda: _segment_is_removed(segment), DETACH_DEADLINE)


def _segment_is_removed(segment: list[str]) -> bool:
    """Remove a segment, given by key and id; return False while a process is attached to it."""
    try:
        segments = Path("/proc/sysvipc/shm").read_text().splitlines()
    except FileNotFoundError:
        return True
    for columns in map(str.split, segments):
        if columns[:2] == segment:
            if columns[6] != "0":  # processes attached
                return False
            ctypes.CDLL(None).shmctl(int(columns[1]), 0, None)  # 0: IPC_RMID
    return True


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for the condition; return False if it is not true after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def _servers(path: Path) -> dict[int, signal.Signals]:
    """Return the server processes of a directory, each with the signal that ends it.

    SIGQUIT makes PostgreSQL stop at once and still remove its shared memory. The titles of its
    child processes contain the `cluster_name`, which is the directory's name.
    """
    patterns = {
        f"-D {path}/": signal.SIGQUIT,
        f"postgres: {path.name}: ": signal.SIGQUIT,
        f"--dir {path}/": signal.SIGTERM,
    }
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # the process has ended meanwhile
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            for pattern, orderly in patterns.items():
                if pattern in line:
                    found[int(file.parent.name)] = orderly
    return found


def _create(root: Path) -> tuple[Path, int]:
    """Return a new directory and the descriptor of its lock; child processes do not inherit it."""
    path = root / f"run-{secrets.token_hex(5)}"
    path.mkdir()
    path.chmod(0o711)
    lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path, lock


def _clear_leftovers(root: Path) -> None:
    """Clear every directory whose owner has ended. The caller holds the root's lock."""
    for path in root.glob("run-*"):
        try:
            with (path / "lock").open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its owner runs
        except FileNotFoundError:
            pass  # its creation or removal was interrupted
        _clear(path)


def _clear(path: Path) -> None:
    """End a directory's servers and remove it. On failure the next start tries again."""
    end_servers(path)
    free_shared_memory(path)
    shutil.rmtree(path, ignore_errors=True)


def _open_to_all(path: Path) -> bool:
    """Return whether every account can enter a folder."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents))


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Make signals raise SystemExit where they would end the process at once."""
    main = threading.current_thread() is threading.main_thread()
    replaced = [n for n in ENDING_SIGNALS if main and signal.getsignal(n) is signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in replaced:
            if signal.getsignal(number) is _exit:
                signal.signal(number, signal.SIG_DFL)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Defer the signals that end the process until the block is done."""
    main = threading.current_thread() is threading.main_thread()
    deferred: list[int] = []
    handlers = {
        number: signal.signal(number, lambda received, _frame: deferred.append(received))
        for number in ENDING_SIGNALS
        if main and signal.getsignal(number) is not None
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for received in deferred[:1]:
            signal.raise_signal(received)
