"""Several processes started by torchrun: who they are, what they share, how they end together.

What is small (which tables are missing, who has failed) goes through torchrun's key-value store,
so that a rank that waits for another one notices when that has failed. Tables and gradients go
through `torch.distributed`, gloo between CPUs and NCCL between GPUs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gencond_fast import collectives
from gencond_fast.collectives import RankLost
from gencond_fast.errors import InputError, RunError
from gencond_fast.interrupt import Terminated

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
    from torch.distributed import Store

_CONNECT = timedelta(minutes=5)  # for machines that do not start at the same moment
_PATIENCE = timedelta(hours=1)  # with ranks that neither arrive nor fail
_POLL = 0.05  # seconds
_LOOK_EVERY = 1.0  # seconds between two looks for ranks that have failed
_LAST_WORDS = 20.0  # seconds that a failed rank waits for the others to hear of it
_HEAD_START = 0.5  # seconds that the first rank has to say so before torchrun ends it


class Ranks:
    """The ranks of one job, as one of them sees it; alone by default.

    Attributes:
        rank: this one, 0 ... world - 1.
        world: how many there are.
    """

    def __init__(self, rank: int = 0, world: int = 1, store: Store | None = None) -> None:
        self.rank = rank
        self.world = world
        self._store = store
        self._meetings = 0
        self._looked = 0.0

    @property
    def first(self) -> bool:
        """Whether this rank writes and prints."""
        return self.rank == 0

    def stretch(self, length: int) -> slice:
        """The part of a sequence that falls to this rank, as long as the others' to within one."""
        return slice(*(length * place // self.world for place in (self.rank, self.rank + 1)))

    def share(self, rows: np.ndarray) -> np.ndarray:
        """The rows that fall to this rank: a stretch of them."""
        return rows[self.stretch(len(rows))]

    def tell(self, value: Any) -> Any:
        """The value of the first rank, on every rank; it must survive JSON.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is None:
            return value
        self._meetings += 1
        key = f"value {self._meetings}"
        if self.first:
            self._store.set(key, json.dumps(value))
        while not self._store.check([key]):
            self._pause()
        return json.loads(self._store.get(key))

    def meet(self) -> None:
        """Waits until every rank is here.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is None:
            return
        self._meetings += 1
        key = f"arrived {self._meetings}"
        self._store.add(key, 1)
        while self._store.add(key, 0) < self.world:
            self._pause()

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Lets the first rank through alone, and the others when it has come out."""
        if not self.first:
            self.meet()
        yield
        if self.first:
            self.meet()

    def look(self) -> None:
        """Ends this rank if another one has failed; cheap enough for every batch.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is not None and time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            self._raise_failure()

    def connect(self, device: torch.device) -> None:
        """Joins the ranks for all that follows; each takes the GPU of its local rank.

        Args:
            device: where the tensors to gather and to add will be.

        Raises:
            InputError: there is no GPU for this rank, or the others cannot be reached.
        """
        if self._store is None:
            return
        import torch
        import torch.distributed as dist

        own = None
        if device.type == "cuda":
            own = torch.device("cuda", _own_gpu(torch.cuda.device_count()))
            torch.cuda.set_device(own)
        self.meet()
        try:
            dist.init_process_group(
                "gloo" if own is None else "cpu:gloo,cuda:nccl",
                store=dist.PrefixStore("tables", self._store),
                rank=self.rank,
                world_size=self.world,
                timeout=_PATIENCE,
                device_id=own,
            )
        except (RuntimeError, ValueError) as error:
            raise _unreachable(self.rank, error) from None

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all ranks in their order on the first one, nothing on the others.

        Args:
            tensor: contiguous, of the same shape and dtype on every rank, on the device that
                `connect` was given.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is None:
            return [tensor]
        import torch
        import torch.distributed as dist

        self.meet()
        found = [torch.empty_like(tensor) for _ in range(self.world)] if self.first else []
        dist.gather(tensor, found if self.first else None, dst=0)
        return found

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Puts the sum over all ranks into each tensor, in place; see `collectives.add`.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is not None:
            collectives.add(tensors, self._raise_failure)

    def largest(self, number: int) -> int:
        """The largest of the numbers that the ranks have, on every rank; errors as `add`."""
        return number if self._store is None else collectives.largest(number, self._raise_failure)

    def spread(self, values: dict[str, Any]) -> dict[str, Any]:
        """Tensors and plain values of the first rank, on every rank; errors as `add`.

        Alone they stay as they are, else tensors come back on the CPU.
        """
        if self._store is None:
            return values
        content = collectives.packed(values) if self.first else None
        length = self.tell(None if content is None else len(content))
        return collectives.unpacked(collectives.spread(content, length, self._raise_failure))

    def fail(self, error: BaseException) -> None:
        """Tells the other ranks that this one has failed, and lets the first one say so.

        Not for them but for torchrun it waits: that ends all ranks as soon as one has ended.
        """
        if self._store is None:
            return
        with suppress(RuntimeError):  # the store may have gone with the ranks that failed first
            self._store.compare_set("failure", "", json.dumps(_packed(error, self.rank)))
            self._store.add("ended", 1)
            if isinstance(error, KeyboardInterrupt | Terminated | RankLost):
                return  # all ranks are told by signals, or one of them has been killed
            give_up = time.monotonic() + _LAST_WORDS
            while self._store.add("ended", 0) < self.world and time.monotonic() < give_up:
                time.sleep(_POLL)
            if not self.first:
                time.sleep(_HEAD_START)

    def failure(self) -> BaseException | None:
        """What a rank has said that it failed with, if one has."""
        if self._store is None or not self._store.check(["failure"]):
            return None
        return _unpacked(json.loads(self._store.get("failure")))

    def _pause(self) -> None:
        self._raise_failure()
        time.sleep(_POLL)

    def _raise_failure(self) -> None:
        if (failure := self.failure()) is not None:
            raise failure


@contextmanager
def torchrun() -> Iterator[Ranks]:
    """The ranks that torchrun started, for the whole of a command; one rank without torchrun.

    An error in one rank is raised in all of them.

    Raises:
        InputError: torchrun's environment is not complete, or the others cannot be reached.
    """
    ranks = _from_environment()
    try:
        yield ranks
    except Terminated as error:  # by torchrun perhaps, since another rank has failed
        failure = _said(ranks)
        ranks.fail(error)
        raise (failure or error) from None
    except BaseException as error:
        ranks.fail(error)
        raise
    finally:
        if ranks.world > 1:
            import torch.distributed as dist

            if dist.is_initialized():
                dist.destroy_process_group()


def world_size() -> int:
    """The number of ranks that torchrun started, 1 without it.

    Raises:
        InputError: the variable WORLD_SIZE is no number.
    """
    return _number("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1


def speaks() -> bool:
    """Whether this process tells the user of errors; one of several ranks is enough."""
    given = ("WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID")
    alone = any(name not in os.environ for name in given)
    return alone or os.environ.get("RANK", "0") == "0"


def _said(ranks: Ranks) -> BaseException | None:
    with suppress(RuntimeError):  # the store may have gone
        return ranks.failure()
    return None


def _from_environment() -> Ranks:
    world = world_size()
    if world == 1:
        return Ranks()
    rank = _number("RANK")
    if rank >= world:
        raise InputError(f"RANK is {rank} and WORLD_SIZE {world}: start all ranks with torchrun")
    import torch.distributed as dist

    if not dist.is_available():
        raise InputError("this PyTorch was built without torch.distributed: run without torchrun")
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=_CONNECT))
    except (RuntimeError, ValueError) as error:
        raise _unreachable(rank, error) from None
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Ranks(rank, world, dist.PrefixStore(f"gencond_fast {restart}", store))


def _own_gpu(there: int) -> int:
    local = _number("LOCAL_RANK")
    if local >= there:
        raise InputError(
            f"rank {local} of this machine has no GPU of its own, there are {there}: give "
            f"torchrun --nproc-per-node {there}, or the command --device cpu"
        )
    return local


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        said = f"{name} is {text!r}" if text else f"{name} is not set"
        raise InputError(f"{said}, although this is to be one of several ranks: use torchrun")
    return int(text)


def _unreachable(rank: int, error: Exception) -> InputError:
    place = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(
        f"rank {rank} cannot reach the others at {place} ({reason}): start all ranks with the "
        "same torchrun command"
    )


def _packed(error: BaseException, rank: int) -> dict[str, Any]:
    if isinstance(error, InputError):
        return {"input": str(error)}
    if isinstance(error, OSError):
        filename = None if error.filename is None else str(error.filename)
        return {"os": (error.errno, error.strerror or str(error), filename)}
    if isinstance(error, RunError):
        return {"run": str(error)}
    if isinstance(error, KeyboardInterrupt | Terminated):
        return {"asked": type(error).__name__}
    return {"rank": rank, "ended": f"{type(error).__name__} {error}".strip()}


def _unpacked(packed: dict[str, Any]) -> BaseException:
    if "input" in packed:
        return InputError(packed["input"])
    if "os" in packed:
        return OSError(*packed["os"])
    if "run" in packed:
        return RunError(packed["run"])
    if "asked" in packed:
        return Terminated() if packed["asked"] == "Terminated" else KeyboardInterrupt()
    return RunError(
        f"rank {packed['rank']} ended ({packed['ended']}): run the same command again to continue"
    )
