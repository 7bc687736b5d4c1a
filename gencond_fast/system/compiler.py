"""Whether `torch.compile` has all that it needs: C++, headers of Python, a locale."""

from __future__ import annotations

import codecs
import functools
import locale
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

_SOURCE = "#include <Python.h>\n#include <cmath>\nint main() { return 0; }\n"
_SECONDS = 60  # for a few lines of C++, on a machine that is busy


def compiler_obstacle() -> str | None:
    """Why functions cannot be compiled here, as a clause; None if they can.

    The first call builds a few lines as `torch.compile` would, since a compiler without the headers
    of Python, as a machine without python3-dev has it, fails in the first step of a run.
    """
    if codecs.lookup(locale.getpreferredencoding(False)).name == "ascii":
        return "PyTorch cannot read its own files in an ASCII locale (set PYTHONUTF8=1)"
    return _obstacle(os.environ.get("CXX", "g++"), os.environ.get("PATH", ""))


@functools.cache
def _obstacle(compiler: str, path: str) -> str | None:
    found = shutil.which(compiler, path=path)
    if found is None:
        return f"there is no C++ compiler ({compiler})"
    with tempfile.TemporaryDirectory(prefix="gencond-compiler-") as folder:
        source = Path(folder, "try.cpp")
        source.write_text(_SOURCE, encoding="utf-8")
        include = f"-I{sysconfig.get_paths()['include']}"
        command = [found, "-shared", "-fPIC", include, str(source), "-o", f"{folder}/try.so"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the C++ compiler {found} does not run ({error})"
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace").splitlines()
    if any("Python.h" in line for line in said):
        return f"{compiler} does not find Python.h (install python3-dev)"
    reason = next((line.strip() for line in said if "error" in line), "no word why")
    return f"{compiler} does not build a library ({reason})"
