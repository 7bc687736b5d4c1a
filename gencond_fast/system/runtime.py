"""The machine a run is on: device, precision, compilation, memory allocator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from gencond_fast.config import Device, Precision, Switch
from gencond_fast.errors import InputError
from gencond_fast.system.compiler import compiler_obstacle
from gencond_fast.system.memory import keep_freed_memory

M = TypeVar("M", bound=torch.nn.Module)
F = TypeVar("F", bound=Callable[..., object])

_GRAPHS = 256  # of one function that a process compiles at most
_LIGHT_SIDE = 16  # below this side a step is too short to repay compiling it


@dataclass(frozen=True)
class Runtime:
    """Choices made for one run.

    Attributes:
        device: where tensors live.
        low_precision: whether networks run in bfloat16.
        compiled: whether functions go through `torch.compile`.
    """

    device: torch.device
    low_precision: bool
    compiled: bool

    def autocast(self) -> AbstractContextManager[None]:
        """Runs the networks inside in bfloat16 if that was chosen."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.low_precision)

    def compile(self, function: F) -> F:
        """`torch.compile` if that was chosen, else the function itself."""
        # few shapes occur (a batch and its remainder), and each is faster with a graph of its own
        if not self.compiled:
            return function
        # networks of all architectures and stored sets of all runs of a process share their code,
        # and PyTorch gives up after eight graphs of one code, without a word but a warning
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, _GRAPHS)
        limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, 4 * _GRAPHS)
        return torch.compile(function, dynamic=False)  # type: ignore[return-value]

    @property
    def layout(self) -> torch.memory_format:
        """Channels last where networks are compiled: eager group norm undoes it in each layer."""
        return torch.channels_last if self.compiled else torch.contiguous_format

    def place(self, network: M) -> M:
        """Moves a network to the device and its weights to the layout."""
        return network.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]

    def arrange(self, images: Tensor) -> Tensor:
        """Brings images [B, channels, H, W] to the layout."""
        if images.shape[1] == 1:  # in both layouts at once: strides would be any, and each a graph
            images = images.contiguous().view(images.shape)
        return images.contiguous(memory_format=self.layout)

    def describe(self) -> str:
        """`cpu, bfloat16, compiled`."""
        precision = "bfloat16" if self.low_precision else "float32"
        return f"{self.device.type}, {precision}, {'compiled' if self.compiled else 'eager'}"


def choose_runtime(
    device: Device,
    precision: Precision,
    compile_switch: Switch,
    image_size: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Runtime:
    """Resolves the `auto` options for this machine and image size.

    Args:
        device: option `device`.
        precision: option `precision`.
        compile_switch: option `compile`.
        image_size: side of the images in pixels.
        tell: called with a line where something is slower than it could be.

    Raises:
        InputError: a GPU or a compiler is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("option 'device' is cuda, but PyTorch sees no GPU here: use --device cpu")
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    low = precision == "bfloat16" or (precision == "auto" and _native_bfloat16(on_gpu))
    heavy = on_gpu or image_size >= _LIGHT_SIDE
    compiled = compile_switch == "on" or (compile_switch == "auto" and heavy)
    obstacle = compiler_obstacle() if compiled else None
    if obstacle is not None:
        if compile_switch == "on":
            raise InputError(f"option 'compile' is on, but {obstacle}: set compile=off")
        tell(f"note: networks are not compiled, which is slower: {obstacle}")
        compiled = False
    if not on_gpu:
        keep_freed_memory()
    return Runtime(torch.device("cuda" if on_gpu else "cpu"), low, compiled)


def _native_bfloat16(on_gpu: bool) -> bool:
    if on_gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # PyTorch 2.11 cannot be asked yet
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
