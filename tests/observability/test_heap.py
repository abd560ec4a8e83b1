"""How many heaps the C library makes for threads, and what it does with large blocks."""

import os
import re
import subprocess
import sys

import pytest

# Eight threads that allocate at the same time; then the library describes its heaps.
THREADS = """
import ctypes, threading
from statsd import heap
heap.give_back()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
here = threading.Barrier(8)
def allocate():
    libc.malloc(1000)
    here.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""

# The first block of a size that is freed makes the library take the next one from a heap.
LARGE = """
import ctypes
from statsd import heap
heap.give_back()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.free(libc.malloc(8_000_000))
libc.malloc(8_000_000)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def told(script: str, chosen: dict[str, str]) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=kept | chosen, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(("chosen", "heaps"), [({}, 2), ({"MALLOC_ARENA_MAX": "5"}, 5)])
def test_threads_share_two_heaps_unless_the_operator_says_otherwise(
    chosen: dict[str, str], heaps: int
) -> None:
    assert told(THREADS, chosen).count("<heap nr=") == heaps


def test_large_blocks_never_come_from_a_heap() -> None:
    [blocks] = re.findall(r'<total type="mmap" count="(\d+)"', told(LARGE, {}))
    assert int(blocks) >= 1
