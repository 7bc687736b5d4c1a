"""Goes through one shuffled epoch and notes what it sees, from where its last run was stopped.

    python trainee.py DATA FOLDER

Every image of a batch becomes a line `DONE ROW CRC` of FOLDER/PROCESS.RANK.seen, on the disk
before FOLDER/RANK.position says that the batch is done.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from pathlib import Path

import torch
import torch.distributed as dist

from gencond_fast.data import open_source, training, training_batches
from gencond_fast.system.files import write_text

OPTIONS = {"channels": 3, "image_size": 12, "batch_size": 7, "seed": 5, "epoch": 3, "crop": True}
POOL_BYTES = 20_000
PAUSE = 0.02  # seconds a step


def crcs(batch) -> list[tuple[int, int, int]]:
    """Position, row and check sum of each image."""
    return [
        (batch.done, row, zlib.crc32(image.numpy().tobytes()))
        for row, image in zip(batch.indices.tolist(), batch.images, strict=True)
    ]


def run(data: str, folder: Path) -> None:
    rank, world = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1))
    )
    if world > 1:
        dist.init_process_group("gloo")
    training._POOL_BYTES = POOL_BYTES
    position = folder / f"{rank}.position"
    start = int(position.read_text()) if position.exists() else 0
    with open(folder / f"{os.getpid()}.{rank}.seen", "w") as seen:
        for batch in training_batches(
            open_source(data).train, start=start, rank=rank, world=world, **OPTIONS
        ):
            seen.write("".join(f"{a} {b} {c}\n" for a, b, c in crcs(batch)))
            seen.flush()
            os.fsync(seen.fileno())
            if world > 1:  # stands still if another rank takes fewer steps
                dist.all_reduce(torch.ones(1))
            write_text(position, str(batch.done))
            time.sleep(PAUSE)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
