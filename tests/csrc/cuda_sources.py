"""CUDA sources without a GPU: their kernels as C++ on the CPU, and what nvcc makes of them."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from torch import Tensor
from torch.utils.cpp_extension import include_paths

CSRC = Path(__file__).parents[2] / "csrc"

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")


def load_on_cpu(kernel: Path, exports: str, launches: int, folder: Path) -> ctypes.CDLL:
    """The kernels as C++, launches turned into loops, and `exports` to call them by."""
    source, found = re.subn(
        r"(\w+<T, A>)<<<(.*?), THREADS, 0, stream>>>\((.*?)\);",
        r"launch(\2, THREADS, [&] { \1(\3); });",
        kernel.read_text(),
        flags=re.DOTALL,
    )
    assert found == launches
    (folder / "kernel.cpp").write_text('#include "cuda_on_cpu.h"\n' + source + exports)
    (folder / "cuda_runtime_api.h").write_text("using cudaStream_t = void*;\n")
    for header in ("cuda_bf16.h", "cuda_fp16.h"):
        (folder / header).write_text("#pragma once\n")
    library = folder / "kernel.so"
    command = ["g++", "-std=c++20", "-O2", "-shared", "-fPIC", "-Wno-unknown-pragmas"]
    paths = [f"-I{path}" for path in (folder, Path(__file__).parent, CSRC)]
    subprocess.run([*command, *paths, folder / "kernel.cpp", "-o", library], check=True)
    return ctypes.CDLL(str(library))


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def assert_compiles_without_spills(source: Path, arch: str, kernels: int, folder: Path) -> None:
    command = ["nvcc", "-std=c++20", f"-arch={arch}", "-Xptxas", "-v", f"-I{CSRC}", "-c"]
    done = subprocess.run(
        [*command, source, "-o", folder / "kernel.o"], capture_output=True, text=True, check=True
    )
    found = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert len(found) == kernels
    assert all(spills == ("0", "0") for spills in found)
    assert "warning" not in done.stderr


def assert_binding_compiles(source: Path, folder: Path) -> None:
    """Against PyTorch's headers; a CPU build leaves out one that says how it was configured."""
    generated = folder / "c10" / "cuda" / "impl" / "cuda_cmake_macros.h"
    generated.parent.mkdir(parents=True)
    generated.write_text("#pragma once\n")
    system = [f"-isystem={path}" for path in (*include_paths(), folder)]
    command = ["nvcc", "-std=c++20", "-Xcompiler=-Wall", f"-I{CSRC}", *system, "-c"]
    done = subprocess.run(
        [*command, source, "-o", folder / "binding.o"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
