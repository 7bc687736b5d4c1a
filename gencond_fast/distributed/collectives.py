"""Sums and copies over all ranks that do not wait for a rank that has failed.

While a rank waits for the others it looks, every second, whether one of them has said that it
failed. A rank that was killed says nothing, but its connections close.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gencond_fast.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Work

_LOOK_EVERY = timedelta(seconds=1)

Look = Callable[[], None]
"""Raises what another rank has failed with, if one has."""


class RankLost(RunError):
    """Another rank was killed, or cannot be reached any more."""


def all_reduce(tensors: Sequence[Tensor], look: Look) -> None:
    """Puts the sum over all ranks into each tensor, in place; the same bits on every rank.

    Args:
        tensors: contiguous, of the same shapes, dtypes and devices on every rank.
        look: called every second while this rank waits. On a GPU nobody waits, the stream does.
    """
    import torch.distributed as dist

    # all under way at once
    _finish([(each, dist.all_reduce(each, async_op=True)) for each in tensors], look)


def maximum(number: int, look: Look) -> int:
    """The largest of the numbers that the ranks have, on every rank; no GPU has a part in it."""
    import torch
    import torch.distributed as dist

    held = torch.tensor(number)
    work = dist.all_reduce(held, op=dist.ReduceOp.MAX, async_op=True)
    _finish([(held, work)], look)
    return int(held)


def gather(tensor: Tensor, parts: int, look: Look) -> list[Tensor]:
    """The tensors of all ranks in their order on the first one, nothing on the others.

    Args:
        tensor: contiguous, of the same shape and dtype on every rank.
        parts: number of ranks on the first one, 0 on the others.
        look: see `add`.
    """
    import torch
    import torch.distributed as dist

    found = [torch.empty_like(tensor) for _ in range(parts)]
    _finish([(tensor, dist.gather(tensor, found or None, dst=0, async_op=True))], look)
    return found


def broadcast_bytes(content: bytes | None, length: int, look: Look) -> bytes:
    """The bytes of the first rank, on every rank.

    Args:
        content: on the first rank; None on the others.
        length: of it, on every rank.
        look: see `add`.
    """
    import torch
    import torch.distributed as dist

    held = torch.empty(length, dtype=torch.uint8)
    if content is not None:
        held.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    _finish([(held, dist.broadcast(held, src=0, async_op=True))], look)
    return held.numpy().tobytes()


def broadcast(tensor: Tensor, look: Look) -> None:
    """Puts the values that the first rank has into the tensor of every rank."""
    import torch.distributed as dist

    _finish([(tensor, dist.broadcast(tensor, src=0, async_op=True))], look)


def packed(values: dict[str, Any]) -> bytes:
    """Tensors and plain values as bytes for `spread`."""
    import torch

    content = io.BytesIO()
    torch.save(values, content)
    return content.getvalue()


def unpacked(content: bytes) -> dict[str, Any]:
    """What was `packed`, on the CPU."""
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _finish(works: Sequence[tuple[Tensor, Work]], look: Look) -> None:
    for held, work in works:
        if held.is_cuda:
            work.wait()
        else:
            _wait(work, look)


def _wait(work: Work, look: Look) -> None:
    while True:
        # asked before the waiting: what ends between a time-out and a question has not failed
        ended = work.is_completed()
        try:
            work.wait(_LOOK_EVERY)
            return
        except RuntimeError as error:
            look()  # what another rank says goes before what the connection says
            if ended:
                reason = (str(error).splitlines() or [""])[0]
                raise RankLost(
                    f"another rank has ended without a word ({reason}): run the same command "
                    "again to continue"
                ) from None
