"""The kernels that a step launches on a GPU, counted without one and without running them.

Inductor generates code for sm_90. Each of its kernels is told to the recorder as `inductor`,
each Triton kernel of the package as `triton`. The ops that stay eager are told as usual. As none of
the compiled kernels runs, values mean nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

# views, and what reserves memory: they launch nothing
_FREE = (
    *("view", "reshape", "as_strided", "expand", "permute", "select", "slice", "alias", "detach"),
    *(
        "transpose",
        "unsqueeze",
        "squeeze",
        "split",
        "unbind",
        "empty",
        "set_",
        "unfold",
        "diagonal",
    ),
    *("t", "lift", "resize_", "numpy_T", "_unsafe_view", "record_stream", "is_pinned"),
)
KINDS = ("op", "h2d", "h2d_async", "h2d_pinned", "d2h", "sync", "inductor", "triton")


def launches(events: list[Any]) -> Counter[str]:
    """Launches by kind: `op` of eager ops that compute, copies, `inductor`, `triton`."""
    return Counter(kind for kind, name, *_ in events if kind in KINDS and not _is_free(kind, name))


def _is_free(kind: str, name: str) -> bool:
    op = name.split("::")[-1].split(".")[0].removeprefix("_")
    return kind == "op" and any(op == free or op.startswith(f"{free}_") for free in _FREE)


def generate_only(torch: Any, recorder: Any) -> None:
    """Lets Inductor and Triton tell of each launch instead of making it."""
    import triton
    from triton.backends.compiler import GPUTarget

    class Target:
        target = GPUTarget("cuda", 90, 32)

        def get_current_target(self) -> GPUTarget:
            return self.target

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

        def get_device_interface(self) -> Any:
            return torch.cuda

        def get_active_torch_device(self) -> Any:
            return torch.device("cuda", 0)

        def get_benchmarker(self) -> None: ...

    class Kernel:
        def __init__(self, name: str) -> None:
            self._name = name

        def run(self, *_: object, **__: object) -> None:
            recorder("inductor", self._name, "")

    triton.runtime.driver.set_active(Target())
    triton.runtime.jit.JITFunction.run = lambda self, *_, **__: recorder(
        "triton", self.__name__, ""
    )
    torch._C._cuda_getCurrentRawStream = lambda device: 0
    torch._C._dynamo.guards._empty_strided_cuda = lambda size, stride, dtype: torch.empty_strided(
        size, stride, dtype=dtype, device="cuda"
    )
    from torch._inductor import config
    from torch._inductor.async_compile import AsyncCompile

    AsyncCompile.triton = lambda self, name, source, device_str="cuda": Kernel(name)
    AsyncCompile.wait = lambda self, scope: None
    AsyncCompile.warm_pool = classmethod(lambda cls: None)
    config.compile_threads, config.fx_graph_cache = 1, False
    config.size_asserts = config.alignment_asserts = config.nan_asserts = False
    _accept_any_number(torch)


def _accept_any_number(torch: Any) -> None:
    """Values are those of memory nobody wrote: nothing may be refused for them."""
    from gencond_fast.condensation import experts, guard
    from gencond_fast.training import trainer

    def trajectory(
        task: Any, network: Any, protocol: Any, *, epochs: int, parts: int = 0, **_: Any
    ):
        weights = experts.weights_of(network)
        return [weights + 0.01 * (1 + i) * torch.ones_like(weights) for i in range(epochs * parts)]

    guard.NonFiniteGuard.check = lambda self: None
    trainer.Trainer.check = lambda self, name: None
    experts.train_on_all = trajectory
