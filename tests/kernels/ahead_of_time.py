"""Compile kernels for GPUs that are not here: launchers run on CPU tensors, nothing is launched.

Run as `python ahead_of_time.py '{"arch": 90, "kind": "rbf", ...}'` without TRITON_INTERPRET; prints
one JSON object for each kernel compiled.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# mnemonics of products on tensor cores
TENSOR_CORES = ("HMMA", "HGMMA", "UTCHMMA", "UTCQMMA", "UTCIMMA", "QGMMA")


def compile_for(arch: int, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Resources of every kernel that the cases launch, compiled in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    argument = json.dumps({"arch": arch, "cases": cases})
    with tempfile.TemporaryDirectory() as cache:
        environment["TRITON_CACHE_DIR"] = cache
        command = [sys.executable, __file__, argument]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-4000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


class _Target:
    """Stands for Triton's driver of a GPU of an architecture."""

    def __init__(self, arch: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target = GPUTarget("cuda", arch, 32)

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_benchmarker(self) -> None:
        return None


def _record(arch: int) -> list[tuple[str, Any]]:
    """Make every launch a compilation, whose result is added to the list that is returned."""
    import triton
    from gencond_fast.kernels import config
    from triton.runtime.jit import JITFunction

    triton.runtime.driver.set_active(_Target(arch))
    config.device_arch = lambda device: arch
    compiled: list[tuple[str, Any]] = []
    run = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, **kwargs: Any) -> Any:
        kernel = run(self, *args, **{**kwargs, "warmup": True})
        compiled.append((self.__name__, kernel))
        return kernel

    JITFunction.run = compile_only
    return compiled


def _launch(kind: str, precision: str, sizes: list[int], D: int, dtype: str) -> None:
    import torch
    from gencond_fast.kernels.pair_loss import pair_loss

    N = sum(sizes)
    features = torch.zeros(N, D, dtype=getattr(torch, dtype))
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    pair_loss(features, torch.arange(N), offsets, None, [], kind, 1.0, precision, True)


def _resources(name: str, kernel: Any) -> dict[str, Any]:
    from triton.backends import nvidia

    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(kernel.asm["cubin"])
        cubin.flush()
        used, sass = (
            subprocess.run([tool, flag, cubin.name], capture_output=True, text=True).stdout
            for flag in ("-res-usage", "-sass")
        )
    count = {m: len(re.findall(rf"\b{m}\b", sass)) for m in (*TENSOR_CORES, "LDL", "STL", "FFMA")}
    return {
        "kernel": name,
        "shared": kernel.metadata.shared,
        "registers": int(re.findall(r"REG:(\d+)", used)[0]),
        "stack": int(re.findall(r"STACK:(\d+)", used)[0]),
        "spills": count["LDL"] + count["STL"],
        "tensor": sum(count[m] for m in TENSOR_CORES),
        "wide_tensor": sum(count[m] for m in TENSOR_CORES[1:]),
        "FFMA": count["FFMA"],
    }


def main() -> None:
    """Compile the cases given as JSON and print what each kernel takes."""
    request = json.loads(sys.argv[1])
    compiled = _record(request["arch"])
    for case in request["cases"]:
        start = len(compiled)
        _launch(**case)
        for name, kernel in compiled[start:]:
            print(json.dumps({**case, **_resources(name, kernel)}), flush=True)


if __name__ == "__main__":
    main()
