"""The CUDA sources without a GPU: compiled by nvcc, and their arithmetic run on the CPU."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch
from cuda_sources import (
    CSRC,
    assert_binding_compiles,
    assert_compiles_without_spills,
    load_on_cpu,
    needs_nvcc,
    pointer,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gencond_fast.functional import reference

KERNEL = CSRC / "cuda" / "moments_kernel.cu"
TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

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
    folder = tmp_path_factory.mktemp("cuda on cpu")
    loaded = load_on_cpu(KERNEL, EXPORTS, 3, folder)
    loaded.workspace.restype = ctypes.c_int64
    loaded.workspace.argtypes = [ctypes.c_int64, ctypes.c_int64]
    return loaded


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
    # in four types: backward; two kernels, for three kinds of tables
    assert_compiles_without_spills(KERNEL, arch, 28, tmp_path)


@pytest.mark.slow
@needs_nvcc
def test_binding_compiles(tmp_path: Path) -> None:
    assert_binding_compiles(CSRC / "cuda" / "moments_cuda.cpp", tmp_path)
