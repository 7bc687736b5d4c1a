"""Freed memory is used again without a page fault for every page of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from gencond_fast.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(16 * 2**20).fill_(1.0)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(4)][-1])  # the first ones find their place
"""


def faults(how: str) -> int:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_a_tensor_takes_the_memory_of_the_one_before():
    pages = 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    kept = faults("keep")
    assert kept < pages / 16
    # unless the system has large pages for everything, it would have been otherwise
    assert faults("leave") > kept


def test_what_the_user_has_set_stands(monkeypatch):
    from gencond_fast.memory import keep_freed_memory

    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()
