"""What this process does with memory that it has freed, and how much it has taken."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# names of <malloc.h>
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_STEP = 64 * 2**20  # bytes that the heap grows by at least


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensors, instead of handing it back at once.

    By default every tensor above 32 MB is mapped anew and its pages are faulted in one by one,
    which takes longer than most operations on it. The price is that the process stays as large as
    it once was. Where the user has set glibc's own variables (`MALLOC_...`, `GLIBC_TUNABLES`),
    these stand.

    Returns:
        Whether anything was changed: false with another C library.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _STEP))
    return all(mallopt(option, value) == 1 for option, value in wanted)


def peak_memory(process: int | None = None) -> int:
    """Bytes that a process has taken at most so far; those of files that it maps included.

    Args:
        process: its number; None is this one.

    Raises:
        OSError: the system does not tell.
    """
    # ru_maxrss would begin with what the parent had
    status = Path(f"/proc/{process or 'self'}/status")
    for line in status.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{status} has no VmHWM")
