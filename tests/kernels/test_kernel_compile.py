"""Kernels compiled ahead of time at their shipped block sizes: resources and tensor cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ahead_of_time import compile_for

KIB = 1024
SHARED = {80: 163 * KIB, 90: 227 * KIB, 100: 227 * KIB}
MULTIPLY = ("pair_small_kernel", "row_sweep_kernel", "pair_weights_kernel", "pair_gradient_kernel")


def case(kind: str, precision: str, dtype: str = "float32") -> dict[str, Any]:
    return {"kind": kind, "precision": precision, "sizes": [300, 20], "D": 512, "dtype": dtype}


def check_resources(arch: int, kernel: dict[str, Any]) -> None:
    assert kernel["shared"] <= SHARED[arch], kernel
    assert kernel["spills"] == kernel["stack"] == 0, kernel
    if kernel["kernel"] in MULTIPLY and kernel["precision"] != "ieee":
        assert kernel["tensor"] > 0, kernel
        # warp group products of Hopper and Blackwell
        assert arch < 90 or kernel["wide_tensor"] > 0, kernel


@pytest.mark.slow
def test_of_the_default_kind() -> None:
    kernels = compile_for(90, [case("infonce", "bf16")])
    assert {*MULTIPLY, "operands_kernel", "class_sums_kernel"} <= {k["kernel"] for k in kernels}
    for kernel in kernels:
        check_resources(90, kernel)


@pytest.mark.slow
def test_of_other_kinds_precisions_and_architectures() -> None:
    asked = [
        (80, [case("infonce", "bf16")]),
        (90, [case("infonce", "tf32x3")]),
        (90, [case("hinge", "tf32", dtype="bfloat16")]),
        (100, [case("infonce", "bf16"), case("rbf", "bf16")]),
        (100, [case("infonce", "tf32")]),
        (100, [case("infonce", "tf32x3")]),
    ]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda one: compile_for(*one), asked))
    for (arch, _), kernels in zip(asked, results, strict=True):
        for kernel in kernels:
            check_resources(arch, kernel)
