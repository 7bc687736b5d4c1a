"""The choices that `auto` makes, and the ones that cannot be had."""

from __future__ import annotations

import pytest
import torch

from gencond_fast.errors import InputError
from gencond_fast.models.registry import build_classifier
from gencond_fast.system import runtime as runtime_module
from gencond_fast.system.runtime import Runtime, choose_runtime

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@no_gpu
def test_cuda_without_a_gpu():
    with pytest.raises(InputError, match="option 'device' is cuda, but PyTorch sees no GPU"):
        choose_runtime("cuda", "auto", "auto", 32)


@no_gpu
def test_auto_takes_the_cpu():
    assert choose_runtime("auto", "float32", "off", 32).device == torch.device("cpu")


def test_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="option 'compile' is on, but there is no C"):
        choose_runtime("cpu", "float32", "on", 32)
    assert not choose_runtime("cpu", "float32", "auto", 32).compiled


def test_compiling_must_pay(monkeypatch):
    monkeypatch.setattr(runtime_module, "compiler_obstacle", lambda: None)
    assert choose_runtime("cpu", "float32", "auto", 64).compiled
    assert not choose_runtime("cpu", "float32", "auto", 8).compiled
    assert choose_runtime("cpu", "float32", "on", 8).compiled
    assert not choose_runtime("cpu", "float32", "off", 64).compiled


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_networks_run_in_the_chosen_precision(precision, dtype):
    runtime = choose_runtime("cpu", precision, "off", 8)
    network = runtime.place(build_classifier("convnet3", 1, 3, 8, seed=0, width=4))
    images = torch.randn(5, 1, 8, 8)
    with runtime.autocast():
        logits = network(runtime.arrange(images))
    assert logits.dtype == dtype
    assert torch.allclose(logits.float(), network(images), atol=0.05)
    assert precision in runtime.describe()


def test_compile_off_is_the_function_itself():
    runtime = choose_runtime("cpu", "float32", "off", 64)
    assert runtime.compile(len) is len
    assert runtime.describe() == "cpu, float32, eager"


class Shared(torch.nn.Module):
    """Networks of one class, as all classifiers and stored sets are, share their code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).sum() if torch.compiler.is_compiling() else x.new_zeros(())


def test_the_twelfth_network_of_a_process_is_still_compiled(monkeypatch):
    torch.compiler.reset()
    compiled = Runtime(torch.device("cpu"), low_precision=False, compiled=True)
    real = torch.compile
    # the same tracing, without the time of a code generator
    monkeypatch.setattr(
        torch, "compile", lambda function, **options: real(function, backend="eager", **options)
    )
    for width in range(1, 13):
        network = Shared(width).requires_grad_(False)
        torch.nn.init.ones_(network.layer.weight), torch.nn.init.zeros_(network.layer.bias)
        assert float(compiled.compile(network.forward)(torch.ones(1, width))) == 2 * width
