"""Scratch directories for embedded servers, cleared away whatever happens to their owner.

All lie in one state root, `{temporary directory}/dojo-statsd-{uid}`. Each holds a file that its
owner keeps locked for as long as it lives, so that the next start knows what a killed owner
left behind: it ends those servers and removes those directories. Directories are made, cleared
and removed under the root's own lock, so one that is just being made is never taken for a
leftover. Servers are found by their command lines (`/proc`; elsewhere a leftover PostgreSQL
notices by itself that its directory is gone).
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
DETACH_DEADLINE = 5.0  # seconds until processes that were killed have let go of their memory
END_DEADLINE = 5.0  # seconds for a server to end by itself, and again after it was killed
LONGEST_ROOT = 60  # bytes: a socket's path in a scratch directory must stay below 100
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def directory() -> Iterator[Path]:
    """Make a scratch directory, and at the end end its servers and remove it.

    Clears first what killed owners left. While it is open in the main thread, SIGTERM and
    SIGHUP raise SystemExit where their action is the default one, so that `finally` blocks run.
    """
    with _exit_on_signals():
        root = state_root()
        with locked(root):
            _clear_leftovers(root)
            path, lock = _make(root)
        try:
            yield path
        finally:
            with _uninterrupted(), locked(root):
                _clear(path)
                os.close(lock)


def state_root() -> Path:
    """Return the folder of all this user's scratch directories, made where it is missing.

    It is in /tmp where the temporary directory's name is too long for sockets, or where root's
    cannot be entered by the account PostgreSQL runs as. Raises StatsdError when it is another's.
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
    """Hold the state root's lock; waits for it as long as it takes."""
    with (root / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def end_servers(path: Path) -> None:
    """End every server of a scratch directory: gently for 5 s, then with SIGKILL."""
    for force in (False, True):
        for pid, gentle in _servers(path).items():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if force else gentle)
                os.kill(pid, signal.SIGCONT)  # a stopped process would not see a gentle signal
        if wait_until(lambda: not _servers(path), END_DEADLINE):
            return


def free_shared_memory(path: Path) -> None:
    """Remove the System V segment that a killed PostgreSQL of this directory left.

    Line 7 of its pid file has the segment's key and id; an id alone may be another's by now.
    """
    try:
        lines = (path / "postgres/data/postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return
    named = lines[6].split() if len(lines) > 6 else []  # noqa: PLR2004 - line 7
    # Its last processes may be dying yet, and hold on to it until they have.
    wait_until(lambda: _segment_is_removed(named), DETACH_DEADLINE)


def _segment_is_removed(named: list[str]) -> bool:
    """Remove a segment, given by key and id, to which no process is attached."""
    try:
        segments = Path("/proc/sysvipc/shm").read_text().splitlines()
    except FileNotFoundError:
        return True
    for columns in map(str.split, segments):
        if columns[:2] == named:
            if columns[6] != "0":  # processes attached
                return False
            ctypes.CDLL(None).shmctl(int(columns[1]), 0, None)  # 0: IPC_RMID
    return True


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether the condition came true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def _servers(path: Path) -> dict[int, signal.Signals]:
    """Return the processes that serve from a directory, each with the signal that ends it.

    SIGQUIT makes PostgreSQL stop at once and yet remove its shared memory. Its children carry
    the `cluster_name`, which is the directory's name, in their titles.
    """
    marks = {
        f"-D {path}/": signal.SIGQUIT,
        f"postgres: {path.name}: ": signal.SIGQUIT,
        f"--dir {path}/": signal.SIGTERM,
    }
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            for mark, gentle in marks.items():
                if mark in line:
                    found[int(file.parent.name)] = gentle
    return found


def _make(root: Path) -> tuple[Path, int]:
    """Return a new directory and the descriptor of its lock, which child programs do not get."""
    path = root / f"run-{secrets.token_hex(5)}"
    path.mkdir()
    path.chmod(0o711)
    lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path, lock


def _clear_leftovers(root: Path) -> None:
    """Clear every directory whose owner is gone. The caller holds the root's lock."""
    for path in root.glob("run-*"):
        try:
            with (path / "lock").open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its owner lives
        except FileNotFoundError:
            pass  # it was made or removed only half
        _clear(path)


def _clear(path: Path) -> None:
    """End a directory's servers and remove it. What resists is left to the next start."""
    end_servers(path)
    free_shared_memory(path)
    shutil.rmtree(path, ignore_errors=True)


def _open_to_all(path: Path) -> bool:
    """Return whether any account can enter a folder."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents))


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn the signals that would end the process on the spot into SystemExit."""
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
    """Hold back the signals that end the process until the block is done."""
    main = threading.current_thread() is threading.main_thread()
    late: list[int] = []
    handlers = {
        number: signal.signal(number, lambda came, _frame: late.append(came))
        for number in ENDING_SIGNALS
        if main and signal.getsignal(number) is not None
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for came in late[:1]:
            signal.raise_signal(came)
