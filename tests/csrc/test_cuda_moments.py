"""The CUDA sources without a GPU: compiled by nvcc, and their arithmetic run on the CPU."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.cpp_extension import include_paths

from gencond_fast import reference

CSRC = Path(__file__).parents[2] / "csrc"
KERNEL = CSRC / "cuda" / "moments_kernel.cu"
TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")

EXPORTS = """
#include "cuda/moments_kernel.h"
using namespace gencond::cuda;
extern "C" {
int64_t workspace(int64_t n, int64_t d) { return workspace_elements(n, d); }
void forward(const MomentsInput* in, void* w, void* mean, void* m2) {
  class_moments(*in, w, mean, m2, nullptr);
}
void update(const MomentsInput* in, const int64_t* count, bool wide, void* w, void* mean,
            void* m2) {
  class_moments_update(*in, count, wide, w, mean, m2, nullptr);
}
void backward(const MomentsInput* in, const int64_t* labels, const void* grad_mean,
              const void* grad_m2, const void* mean, void* grad) {
  class_moments_backward(*in, labels, grad_mean, grad_m2, mean, grad, nullptr);
}
}
"""


class Input(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("features", ctypes.c_void_p),
        ("row_stride", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("order", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("classes", ctypes.c_int64),
    )


@pytest.fixture(scope="session")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels as C++, launches turned into loops."""
    folder = tmp_path_factory.mktemp("cuda on cpu")
    source = re.sub(r"#include <cuda_\w+\.h>\n", "", KERNEL.read_text())
    source, launches = re.subn(
        r"(\w+<T, A>)<<<(.*?), THREADS, 0, stream>>>\((.*?)\);",
        r"launch(\2, THREADS, [&] { \1(\3); });",
        source,
        flags=re.DOTALL,
    )
    assert launches == 3
    (folder / "kernel.cpp").write_text('#include "cuda_on_cpu.h"\n' + source + EXPORTS)
    (folder / "cuda_runtime_api.h").write_text("using cudaStream_t = void*;\n")
    library = folder / "kernel.so"
    command = ["g++", "-std=c++20", "-O2", "-shared", "-fPIC", "-Wno-unknown-pragmas"]
    paths = [f"-I{path}" for path in (folder, Path(__file__).parent, CSRC)]
    subprocess.run([*command, *paths, folder / "kernel.cpp", "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.workspace.restype = ctypes.c_int64
    loaded.workspace.argtypes = [ctypes.c_int64, ctypes.c_int64]
    return loaded


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def describe(x: Tensor, labels: Tensor, classes: int) -> tuple[Input, list[Tensor]]:
    """The input of the kernels, and what must live as long as it."""
    ordered, order = torch.sort(labels, stable=True)
    offsets = torch.searchsorted(ordered, torch.arange(classes + 1))
    described = Input(
        *(TYPES.index(x.dtype), pointer(x), x.shape[1], *x.shape),
        *(pointer(order), pointer(offsets), classes),
    )
    return described, [x, order, offsets]


shapes = {
    "n": st.sampled_from([0, 1, 7, 8, 255, 256, 257, 700, 2100]),
    "d": st.sampled_from([1, 3, 130]),
    "classes": st.sampled_from([1, 2, 7, 300]),
    "dtype": st.sampled_from(TYPES),
    "offset": st.sampled_from([0.0, 100.0]),
    "seed": st.integers(0, 2**31),
}


@given(**shapes)
def test_agrees_with_the_reference(on_cpu, n, d, classes, dtype, offset, seed) -> None:
    torch.manual_seed(seed)
    x = (torch.randn(n, d) + offset).to(dtype)
    labels = (torch.rand(n).square() * classes).long()  # ragged, with empty classes
    described, _alive = describe(x, labels, classes)
    wide = reference.accumulation_dtype(dtype)
    mean = torch.full((classes, d), torch.nan, dtype=wide)
    m2 = torch.full_like(mean, torch.nan)
    workspace = torch.full((on_cpu.workspace(n, d),), torch.nan, dtype=wide)
    on_cpu.forward(ctypes.byref(described), *map(pointer, (workspace, mean, m2)))

    exact = reference.class_moments(x.double(), labels, classes)
    torch.testing.assert_close(mean.double(), exact[1], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(m2.double(), exact[2], rtol=1e-5, atol=1e-4)

    grad_mean, grad_m2 = torch.randn_like(mean), torch.randn_like(mean)
    grad = torch.full_like(x, torch.nan)
    arguments = map(pointer, (labels, grad_mean, grad_m2, mean, grad))
    on_cpu.backward(ctypes.byref(described), *arguments)
    leaf = x.double().requires_grad_()
    found = reference.class_moments(leaf, labels, classes)[1:]
    (want,) = torch.autograd.grad(found, leaf, (grad_mean.double(), grad_m2.double()))
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(grad.double(), want, rtol=16 * eps, atol=1e-4 + 16 * eps)


@given(**shapes, cut=st.integers(0, 2100), table=st.sampled_from(TYPES[:2]))
def test_update_agrees_with_the_reference(
    on_cpu, n, d, classes, dtype, offset, seed, cut, table
) -> None:
    torch.manual_seed(seed)
    x = (torch.randn(n, d) + offset).to(dtype)
    labels = (torch.rand(n).square() * classes).long()
    count = torch.zeros(classes, dtype=torch.int64)
    mean, m2 = (torch.full((classes, d), torch.nan, dtype=table) for _ in range(2))
    for rows, own in ((x[:cut], labels[:cut]), (x[cut:], labels[cut:])):
        described, _alive = describe(rows, own, classes)
        workspace = torch.full((on_cpu.workspace(len(rows), d),), torch.nan, dtype=torch.float64)
        on_cpu.update(
            *(ctypes.byref(described), pointer(count), ctypes.c_bool(table == torch.float64)),
            *map(pointer, (workspace, mean, m2)),
        )
        count += own.bincount(minlength=classes)
    exact = reference.class_moments(x.double(), labels, classes)
    seen = count > 0
    assert torch.equal(count, exact[0])
    assert mean[~seen].isnan().all()  # a class in no batch is not touched
    torch.testing.assert_close(mean.double()[seen], exact[1][seen], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(m2.double()[seen], exact[2][seen], rtol=1e-4, atol=1e-3)


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_kernels_compile_without_spills(arch: str, tmp_path: Path) -> None:
    command = ["nvcc", "-std=c++20", f"-arch={arch}", "-Xptxas", "-v", f"-I{CSRC}", "-c"]
    done = subprocess.run(
        [*command, KERNEL, "-o", tmp_path / "kernel.o"], capture_output=True, text=True, check=True
    )
    found = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert len(found) == 28  # in four types: backward; two kernels, for three kinds of tables
    assert all(spills == ("0", "0") for spills in found)
    assert "warning" not in done.stderr


@needs_nvcc
def test_binding_compiles(tmp_path: Path) -> None:
    """Against PyTorch's headers; a CPU build leaves out one that says how it was configured."""
    generated = tmp_path / "c10" / "cuda" / "impl" / "cuda_cmake_macros.h"
    generated.parent.mkdir(parents=True)
    generated.write_text("#pragma once\n")
    system = [f"-isystem={path}" for path in (*include_paths(), tmp_path)]
    command = ["nvcc", "-std=c++20", "-Xcompiler=-Wall", f"-I{CSRC}", *system, "-c"]
    source = CSRC / "cuda" / "moments_cuda.cpp"
    done = subprocess.run(
        [*command, source, "-o", tmp_path / "binding.o"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
