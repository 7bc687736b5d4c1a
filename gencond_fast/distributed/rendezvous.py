"""What torchrun tells each of its processes through the environment."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from gencond_fast.errors import InputError

if TYPE_CHECKING:
    from torch.distributed import Store

CONNECT = timedelta(minutes=5)  # for machines that do not start at the same moment


def world_size() -> int:
    """The number of ranks that torchrun started, 1 without it.

    Raises:
        InputError: the variable WORLD_SIZE is no number.
    """
    return number_of("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1


def speaks() -> bool:
    """Whether this process tells the user of errors; one of several ranks is enough."""
    given = ("WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID")
    alone = any(name not in os.environ for name in given)
    return alone or os.environ.get("RANK", "0") == "0"


def find_store() -> tuple[int, Store]:
    """The place of this process among several, and their key-value store.

    Raises:
        InputError: torchrun's environment is not complete, or the others cannot be reached.
    """
    rank, world = number_of("RANK"), world_size()
    if rank >= world:
        raise InputError(f"RANK is {rank} and WORLD_SIZE {world}: start all ranks with torchrun")
    import torch.distributed as dist

    if not dist.is_available():
        raise InputError("this PyTorch was built without torch.distributed: run without torchrun")
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=CONNECT))
    except (RuntimeError, ValueError) as error:
        raise unreachable(rank, error) from None
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return rank, dist.PrefixStore(f"gencond_fast {restart}", store)


def own_gpu(there: int) -> int:
    """The GPU of this rank, of so many on its machine.

    Raises:
        InputError: there is none for it.
    """
    local = number_of("LOCAL_RANK")
    if local >= there:
        raise InputError(
            f"rank {local} of this machine has no GPU of its own, there are {there}: give "
            f"torchrun --nproc-per-node {there}, or the command --device cpu"
        )
    return local


def number_of(name: str) -> int:
    """A variable of torchrun.

    Raises:
        InputError: it is not set, or is no number.
    """
    text = os.environ.get(name, "")
    if not text.isdecimal():
        said = f"{name} is {text!r}" if text else f"{name} is not set"
        raise InputError(f"{said}, although this is to be one of several ranks: use torchrun")
    return int(text)


def unreachable(rank: int, error: Exception) -> InputError:
    """What to say of ranks that cannot be reached."""
    place = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(
        f"rank {rank} cannot reach the others at {place} ({reason}): start all ranks with the "
        "same torchrun command"
    )
