"""Several processes started by torchrun: who they are, what they share, how they end together.

What is small (which tables are missing, who has failed) goes through torchrun's key-value store,
so that a rank that waits for another one notices when that has failed. Tables and gradients go
through `torch.distributed`, gloo between CPUs and NCCL between GPUs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gencond_fast.distributed import collectives
from gencond_fast.distributed.collectives import RankLost
from gencond_fast.distributed.failure import packed_error, unpacked_error
from gencond_fast.distributed.rendezvous import find_store, own_gpu, unreachable, world_size
from gencond_fast.errors import InputError
from gencond_fast.system.interrupt import Terminated

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
    from torch.distributed import Store

_PATIENCE = timedelta(hours=1)  # with ranks that neither arrive nor fail
_POLL = 0.05  # seconds
_LOOK_EVERY = 1.0  # seconds between two looks for ranks that have failed
_LAST_WORDS = 20.0  # seconds that a failed rank waits for the others to hear of it
_HEAD_START = 0.5  # seconds that the first rank has to say so before torchrun ends it


class Ranks:
    """The ranks of one job, as one of them sees it; alone by default.

    Attributes:
        rank: this one, 0 ... world_size - 1.
        world_size: how many there are.
    """

    def __init__(self, rank: int = 0, world: int = 1, store: Store | None = None) -> None:
        self.rank = rank
        self.world_size = world
        self._store = store
        self._meetings = 0
        self._looked = 0.0

    @property
    def is_main(self) -> bool:
        """Whether this rank writes and prints."""
        return self.rank == 0

    def shard(self, length: int) -> slice:
        """The part of a sequence that falls to this rank, as long as the others' to within one."""
        return slice(*(length * place // self.world_size for place in (self.rank, self.rank + 1)))

    def share(self, rows: np.ndarray) -> np.ndarray:
        """The rows that fall to this rank: a stretch of them."""
        return rows[self.shard(len(rows))]

    def broadcast_object(self, value: Any) -> Any:
        """The value of the first rank, on every rank; it must survive JSON.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is None:
            return value
        self._meetings += 1
        key = f"value {self._meetings}"
        if self.is_main:
            self._store.set(key, json.dumps(value))
        while not self._store.check([key]):
            self._pause()
        return json.loads(self._store.get(key))

    def all_gather_object(self, value: Any) -> list[Any]:
        """The values of all ranks in their order, on every rank; they must survive JSON.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is None:
            return [value]
        self._meetings += 1
        keys = [f"value {self._meetings} of {rank}" for rank in range(self.world_size)]
        self._store.set(keys[self.rank], json.dumps(value))
        while not self._store.check(keys):
            self._pause()
        return [json.loads(self._store.get(key)) for key in keys]

    def check_same_data(self, data: str, fingerprint: str) -> None:
        """Raises InputError unless all ranks have opened the same data."""
        if self.broadcast_object(fingerprint) != fingerprint:
            raise InputError(
                f"{data} is not the same on rank {self.rank} as on the first one: give all ranks "
                "the same data, with its times of modification"
            )

    def check_same_runtime(self, described: str) -> None:
        """Raises InputError unless all ranks compute alike."""
        if (first := self.broadcast_object(described)) != described:
            raise InputError(
                f"rank {self.rank} runs on {described} and the first one on {first}: give device, "
                "precision and compile with values that fit all machines"
            )

    def barrier(self) -> None:
        """Waits until every rank is here.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is None:
            return
        self._meetings += 1
        key = f"arrived {self._meetings}"
        self._store.add(key, 1)
        while self._store.add(key, 0) < self.world_size:
            self._pause()

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Lets the first rank through alone, and the others when it has come out."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def check_failures(self) -> None:
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
            own = torch.device("cuda", own_gpu(torch.cuda.device_count()))
            torch.cuda.set_device(own)
        self.barrier()
        try:
            dist.init_process_group(
                "gloo" if own is None else "cpu:gloo,cuda:nccl",
                store=dist.PrefixStore("tables", self._store),
                rank=self.rank,
                world_size=self.world_size,
                timeout=_PATIENCE,
                device_id=own,
            )
        except (RuntimeError, ValueError) as error:
            raise unreachable(self.rank, error) from None

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all ranks in their order on the first one, nothing on the others.

        Args:
            tensor: contiguous, of the same shape and dtype on every rank, on the CPU or the device
                that `connect` was given.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is None:
            return [tensor]
        return collectives.gather(
            tensor, self.world_size if self.is_main else 0, self._raise_failure
        )

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Puts the sum over all ranks into each tensor, in place; see `collectives.all_reduce`.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if self._store is not None:
            collectives.all_reduce(tensors, self._raise_failure)

    def max(self, number: int) -> int:
        """The largest of the numbers that the ranks have, on every rank; errors as `all_reduce`."""
        return number if self._store is None else collectives.maximum(number, self._raise_failure)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """A tensor of the first rank, on the CPU of every rank; errors as `all_reduce`.

        Args:
            tensor: on the others one of that shape and dtype, on the device `meta` perhaps.
        """
        if self._store is None:
            return tensor
        import torch

        held = tensor if self.is_main else torch.empty(tensor.shape, dtype=tensor.dtype)
        held = held.cpu().contiguous()
        collectives.broadcast(held, self._raise_failure)
        return held

    def broadcast_state(self, values: dict[str, Any]) -> dict[str, Any]:
        """Plain values and small tensors of the first rank, on every rank; errors as `all_reduce`.

        Alone they stay as they are, else tensors come back on the CPU or the device `meta`.
        """
        if self._store is None:
            return values
        content = collectives.packed(values) if self.is_main else None
        length = self.broadcast_object(None if content is None else len(content))
        return collectives.unpacked(
            collectives.broadcast_bytes(content, length, self._raise_failure)
        )

    def fail(self, error: BaseException) -> None:
        """Tells the other ranks that this one has failed, and lets the first one say so.

        Not for them but for torchrun it waits: that ends all ranks as soon as one has ended.
        """
        if self._store is None:
            return
        with suppress(RuntimeError):  # the store may have gone with the ranks that failed first
            self._store.compare_set("failure", "", json.dumps(packed_error(error, self.rank)))
            self._store.add("ended", 1)
            if isinstance(error, KeyboardInterrupt | Terminated | RankLost):
                return  # all ranks are told by signals, or one of them has been killed
            give_up = time.monotonic() + _LAST_WORDS
            while self._store.add("ended", 0) < self.world_size and time.monotonic() < give_up:
                time.sleep(_POLL)
            if not self.is_main:
                time.sleep(_HEAD_START)

    def failure(self) -> BaseException | None:
        """What a rank has said that it failed with, if one has."""
        if self._store is None or not self._store.check(["failure"]):
            return None
        return unpacked_error(json.loads(self._store.get("failure")))

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
    world = world_size()
    ranks = Ranks()
    if world > 1:
        rank, store = find_store()
        ranks = Ranks(rank, world, store)
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
        if ranks.world_size > 1:
            import torch.distributed as dist

            if dist.is_initialized():
                dist.destroy_process_group()


def _said(ranks: Ranks) -> BaseException | None:
    with suppress(RuntimeError):  # the store may have gone
        return ranks.failure()
    return None
