"""Freed memory is used again without a page fault for every page of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gencond_fast.system.memory import peak_memory

PAGES = 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")
PROGRAM = """
import resource, sys, torch
from gencond_fast.system.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(16 * 2**20).fill_(1.0)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(3)
print(faults(20))
"""


def faults(how: str) -> int:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_tensors_take_the_memory_of_those_before():
    # a small object that lands behind a freed tensor can keep the next one from its place
    assert faults("keep") < 20 * PAGES / 2
    assert faults("leave") >= 20 * PAGES or large_pages()


def large_pages() -> bool:
    """Whether the system gives large pages to everybody, so that there are few faults anyway."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return not setting.exists() or "[always]" in setting.read_text()


def test_what_the_user_has_set_stands(monkeypatch):
    from gencond_fast.system.memory import keep_freed_memory

    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()


def test_peak_memory_remembers_what_was_freed():
    before = peak_memory()
    taken = bytearray(64 * 2**20)
    taken[:] = b"x" * len(taken)
    high = peak_memory()
    del taken
    assert high - before > 32 * 2**20 or before > 2**30
    assert peak_memory() >= high
