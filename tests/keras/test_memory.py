"""What a fit frees stays with its process, whatever TensorFlow's data sets have set."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Takes, touches and frees a step's worth of memory again and again; prints the pages given anew.
_STEPS = """
import ctypes, json, resource, sys
from training.fit.memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.mallopt(-1, 128 * 1024)  # as TensorFlow does
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    blocks = [libc.malloc(size) for size in (16 << 20, 8 << 20, 1 << 20)]
    for block, size in zip(blocks, (16 << 20, 8 << 20, 1 << 20)):
        libc.memset(block, 1, size)
    for block in blocks:
        libc.free(block)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
"""


def _pages(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _STEPS, how], capture_output=True, text=True, check=True
    )
    return int(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this machine has no glibc")
def test_freed_memory_is_taken_again_without_asking_the_system() -> None:
    """Ten steps fetch fewer pages anew than one did, where each fetched all of them again."""
    pages_of_a_step = (25 << 20) // 4096
    if _pages("given back") < 5 * pages_of_a_step:
        pytest.skip("this machine's C library keeps freed memory by itself")
    assert _pages("kept") < pages_of_a_step
