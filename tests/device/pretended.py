"""A CUDA device that is host memory: dry runs on `cuda` with a CPU build of PyTorch.

    python pretended.py LIBRARY RECORD condense --data digits --out runs/x --device cuda ...

runs one command of the program, and writes what it told the recorder to the file RECORD as JSON.
Before the command may stand `--count-launches` (launches.py) or `--stop PLACE` (stopped.py).

Every op on a tensor of `cuda` is dispatched as on a GPU: the package's own ops reach their CUDA
side (Triton kernels by Triton's interpreter), autograd runs in a thread of the device, and autocast
is that of CUDA. An op whose tensors lie on two devices raises as on a GPU. Values are those of the
CPU's kernels, hence real. A recorder is told of each op, and of what waits for a GPU: copies from
ordinary host memory (`h2d`), copies back (`d2h`), ops whose result is a number on the host or of a
size that values decide (`sync`).

It knows nothing of speed, the numerics of a GPU, streams, CUDA graphs, NCCL, and generators on the
device. The C++ (backend.cpp) must be loaded before PyTorch is imported, hence the processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

WAITS = ("h2d", "d2h", "sync")
_MODULE = "pretended_cuda"
_MEMORY = 139 * 2**30


class Recorder:
    """What happened on the device, and from where in the package.

    Attributes:
        events: [kind, op, shapes, places], the innermost place first, as `data/augment.py augment`;
            threads of the backward pass have none.
        steps: [name of the stage, number, first event, event behind the last] of every step.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.events: list[tuple[str, str, str, list[str]]] = []
        self.steps: list[tuple[str, int, int, int]] = []

    def __call__(self, kind: str, name: str, detail: str) -> None:
        frame, places = sys._getframe().f_back, []
        while frame is not None:
            file = Path(frame.f_code.co_filename)
            if {"gencond_fast", "kernels"} & set(file.parts) and "site-packages" not in file.parts:
                places.append(f"{file.parent.name}/{file.name} {frame.f_code.co_name}")
            frame = frame.f_back
        self.events.append((kind, name, detail, places))

    def __enter__(self) -> Recorder:
        self._backend.listen(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.listen(None)

    def save(self, file: Path) -> None:
        file.write_text(json.dumps({"events": self.events, "steps": self.steps}))


def install(library: Path) -> tuple[ModuleType, Any]:
    """Loads the backend before PyTorch is imported; returns PyTorch and the backend."""
    if "torch" in sys.modules:
        raise RuntimeError("the pretended device must come before torch")
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    for name in ("torch_global_deps", "c10", "torch_cpu", "torch", "shm", "torch_python"):
        part = Path(found.origin).parent / "lib" / f"lib{name}.so"
        if part.exists():
            ctypes.CDLL(str(part), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library))
    import torch

    spec = importlib.util.spec_from_file_location(_MODULE, library)
    assert spec is not None
    assert spec.loader is not None
    backend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backend)
    _patch(torch, backend)
    return torch, backend


class _Properties:
    name, major, minor, total_memory = "pretended H200", 9, 0, _MEMORY
    multi_processor_count, warp_size, regs_per_multiprocessor = 132, 32, 65536
    shared_memory_per_block_optin, shared_memory_per_multiprocessor = 232448, 233472
    max_threads_per_multi_processor, max_threads_per_block = 2048, 1024
    L2_cache_size, gcnArchName, is_integrated, is_multi_gpu_board = 60 * 2**20, "", 0, 0


class _Event:
    def __init__(self, **_: object) -> None: ...
    def record(self, stream: object = None) -> None: ...
    def wait(self, stream: object = None) -> None: ...
    def synchronize(self) -> None: ...
    def query(self) -> bool:
        return True

    def elapsed_time(self, other: object) -> float:
        return 1.0


def _patch(torch: Any, backend: Any) -> None:
    """Lets torch.cuda say that there are two such devices."""

    def index(device: Any) -> int:
        if isinstance(device, int):
            return device
        found = None if device is None else torch.device(device).index
        return backend.current_device() if found is None else found

    class Stream:
        cuda_stream = 0

        def __init__(self, device: Any = None, **_: object) -> None:
            self.device = torch.device("cuda", index(device))

        def __enter__(self) -> Stream:
            return self

        def __exit__(self, *_: object) -> None: ...
        def synchronize(self) -> None: ...
        def wait_stream(self, other: object) -> None: ...
        def wait_event(self, event: object) -> None: ...
        def query(self) -> bool:
            return True

        def record_event(self, event: object = None) -> object:
            return event or _Event()

    class Device(contextlib.ContextDecorator):
        def __init__(self, device: Any) -> None:
            self.index = index(device)

        def __enter__(self) -> None:
            self.before = backend.set_device(self.index)

        def __exit__(self, *_: object) -> None:
            backend.set_device(self.before)

    def nothing() -> Any:  # each a function of its own: Dynamo knows functions by identity
        return lambda *_, **__: None

    def setter() -> Any:
        return lambda device: backend.set_device(index(device))

    found = {
        "_lazy_init": nothing(),
        "_initialized": True,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 2,
        "current_device": lambda: backend.current_device(),
        "set_device": lambda device: backend.set_device(index(device)) and None,
        "_exchange_device": setter(),
        "_maybe_exchange_device": setter(),
        "device": Device,
        "get_device_name": lambda device=None: _Properties.name,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: _Properties(),
        "is_bf16_supported": lambda including_emulation=True: True,
        "synchronize": nothing(),
        "current_stream": Stream,
        "default_stream": Stream,
        "Stream": Stream,
        "Event": _Event,
        "stream": lambda stream: contextlib.nullcontext(),
        "is_current_stream_capturing": lambda: False,
        "memory_allocated": lambda device=None: backend.held(),
        "max_memory_allocated": lambda device=None: backend.peak(),
        "memory_reserved": lambda device=None: backend.held(),
        "max_memory_reserved": lambda device=None: backend.peak(),
        "reset_peak_memory_stats": lambda device=None: backend.reset_peak(),
        "mem_get_info": lambda device=None: (_MEMORY - backend.held(), _MEMORY),
        "empty_cache": nothing(),
        "manual_seed": nothing(),
        "manual_seed_all": nothing(),
        "_is_in_bad_fork": lambda: False,
        "get_rng_state": lambda device="cuda": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": nothing(),
    }
    for name, value in found.items():
        setattr(torch.cuda, name, value)
    torch.cuda.random.manual_seed, torch.cuda.random.manual_seed_all = nothing(), nothing()
    torch._C._cuda_getDevice = lambda: backend.current_device()
    torch._C._cuda_setDevice = lambda i: backend.set_device(i) and None
    torch._C._cuda_exchangeDevice = setter()
    torch._C._cuda_maybeExchangeDevice = setter()
    torch._C._cuda_isCurrentStreamCapturing = lambda: False
    clone = torch.UntypedStorage.clone

    def cloned(self: Any) -> Any:  # a storage of the device cannot be made without a tensor
        if self.device.type != "cuda":
            return clone(self)
        whole = torch.empty(0, dtype=torch.uint8, device=self.device).set_(self)
        return whole.clone().untyped_storage()

    torch.UntypedStorage.clone = cloned


def watch_steps(recorder: Recorder) -> None:
    """Notes where steps of a condensation, and steps and epochs of a student, begin and end."""
    from gencond_fast.condensation import loop
    from gencond_fast.training import trainer

    def watched(owner: Any, name: str, label: Any) -> None:
        method = getattr(owner, name)

        def marked(self: Any, *arguments: Any, **options: Any) -> Any:
            start = len(recorder.events)
            result = method(self, *arguments, **options)
            recorder.steps.append((*label(*arguments), start, len(recorder.events)))
            return result

        setattr(owner, name, marked)

    watched(loop.Loop, "_step", lambda run, number: (run.stage.name, number))
    watched(trainer.Trainer, "_step", lambda *_: ("student", 0))
    watched(trainer.Trainer, "run_epoch", lambda epoch, *_: ("epoch", epoch))  # batches as well


def run(library: Path, record: Path, arguments: list[str]) -> int:
    """One command of the program; returns its exit code."""
    counting = arguments[0] == "--count-launches"
    if not counting:
        os.environ.setdefault("TRITON_INTERPRET", "1")
    torch, backend = install(library)
    torch.set_num_threads(1)
    recorder = Recorder(backend)
    if counting:
        os.environ.pop("TRITON_INTERPRET", None)
        from launches import generate_only

        generate_only(torch, recorder)
        arguments = arguments[1:]
    watch_steps(recorder)
    from gencond_fast.cli import main as cli

    call = partial(cli.main, arguments)
    if arguments[0] == "--stop":
        sys.path.append(str(Path(__file__).parents[1]))
        import stopped

        call = partial(stopped.run, signal.SIGTERM, arguments[1], arguments[2:])
    code: Any = 0
    with recorder if str(record) != os.devnull else contextlib.nullcontext():
        try:
            call()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 99
    recorder.save(record)
    return int(code)


if __name__ == "__main__":
    status = run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of the device would not let the interpreter end in order
