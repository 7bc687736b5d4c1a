"""The CUDA sources of channel_moments: compiled by nvcc, and their arithmetic run on the CPU."""

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

KERNEL = CSRC / "cuda" / "channel_kernel.cu"
TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

EXPORTS = """
#include "cuda/channel_kernel.h"
using namespace gencond::cuda;
extern "C" {
int64_t workspace(const ChannelInput* in) { return channel_workspace_elements(*in); }
void forward(const ChannelInput* in, void* w, void* mean, void* m2) {
  channel_moments(*in, w, mean, m2, nullptr);
}
void backward(const ChannelInput* in, const void* grad_mean, const void* grad_m2, const void* mean,
              void* grad, int64_t sample_stride, int64_t channel_stride) {
  channel_moments_backward(*in, grad_mean, grad_m2, mean, {grad, sample_stride, channel_stride},
                           nullptr);
}
}
"""


class Input(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("x", ctypes.c_void_p),
        ("samples", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("size", ctypes.c_int64),
        ("sample_stride", ctypes.c_int64),
        ("channel_stride", ctypes.c_int64),
    )


@pytest.fixture(scope="session")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    loaded = load_on_cpu(KERNEL, EXPORTS, 3, tmp_path_factory.mktemp("channels on cpu"))
    loaded.workspace.restype = ctypes.c_int64
    return loaded


def describe(x: Tensor, side_by_side: bool) -> Input:
    samples, channels, size = x.shape
    if side_by_side:
        layout = (samples * size, channels, 1, x.stride(2) if size > 1 else x.stride(0), 1)
    else:
        layout = (samples, channels, size, x.stride(0), x.stride(1))
    return Input(TYPES.index(x.dtype), x.data_ptr(), *layout)


@given(
    shape=st.sampled_from(
        [(1, 1, 1), (3, 2, 5), (2, 3, 4097), (70, 2, 49), (9, 130, 7), (700, 3, 2), (40, 300, 1)]
    ),
    side_by_side=st.booleans(),
    gap=st.booleans(),
    dtype=st.sampled_from(TYPES),
    offset=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 2**31),
)
def test_agrees_with_the_reference(on_cpu, shape, side_by_side, gap, dtype, offset, seed) -> None:
    torch.manual_seed(seed)
    n, c, size = shape
    x = (torch.randn(n, c + gap, size) + offset).to(dtype)
    if side_by_side:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    x = x[:, :c]
    given_input = describe(x, side_by_side)
    wide = reference.accumulation_dtype(dtype)
    mean = torch.full((c,), torch.nan, dtype=wide)
    m2 = torch.full_like(mean, torch.nan)
    workspace = torch.full((on_cpu.workspace(ctypes.byref(given_input)),), torch.nan, dtype=wide)
    on_cpu.forward(ctypes.byref(given_input), *map(pointer, (workspace, mean, m2)))

    exact = reference.channel_moments(x.double())
    torch.testing.assert_close(mean.double(), exact[0], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(m2.double(), exact[1], rtol=1e-5, atol=1e-4)

    grad_mean, grad_m2 = torch.randn_like(mean), torch.randn_like(mean)
    grad = torch.full_like(x, torch.nan)
    strides = describe(grad, side_by_side)
    on_cpu.backward(
        ctypes.byref(given_input),
        *map(pointer, (grad_mean, grad_m2, mean, grad)),
        *map(ctypes.c_int64, (strides.sample_stride, strides.channel_stride)),
    )
    leaf = x.double().requires_grad_()
    found = reference.channel_moments(leaf)
    (want,) = torch.autograd.grad(found, leaf, (grad_mean.double(), grad_m2.double()))
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(grad.double(), want, rtol=16 * eps, atol=1e-4 + 16 * eps)


def test_not_finite_stays_in_its_channel(on_cpu) -> None:
    for bad in (torch.nan, torch.inf):
        for position in (0, 4999):
            x = torch.randn(1, 3, 5000)
            x[0, 1, position] = bad
            mean, m2 = torch.zeros(2, 3)
            given_input = describe(x, side_by_side=False)
            workspace = torch.zeros(on_cpu.workspace(ctypes.byref(given_input)))
            on_cpu.forward(ctypes.byref(given_input), *map(pointer, (workspace, mean, m2)))
            assert mean.isfinite().tolist() == [True, False, True]
            assert m2.isfinite().tolist() == [True, False, True]


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_kernels_compile_without_spills(arch: str, tmp_path: Path) -> None:
    assert_compiles_without_spills(KERNEL, arch, 12, tmp_path)  # three kernels in four types


@pytest.mark.slow
@needs_nvcc
def test_binding_compiles(tmp_path: Path) -> None:
    assert_binding_compiles(CSRC / "cuda" / "channel_cuda.cpp", tmp_path)
