"""Readers inside workers that may start no processes: of a DataLoader, of a Pool."""

from __future__ import annotations

import multiprocessing

import torch
from image_builders import pictures, write_tree
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from gencond_fast.data import open_source, stream, training_batches

OPTIONS = {"channels": 3, "image_size": 16, "batch_size": 4}


class Epoch(IterableDataset):
    def __init__(self, source) -> None:
        self.source = source

    def __iter__(self):
        worker = get_worker_info()
        part = {"seed": 0, "epoch": 0, "rank": worker.id, "world": worker.num_workers}
        for batch in training_batches(self.source.train, **part, **OPTIONS):
            yield batch.labels


def streamed(data: str) -> list[int]:
    source = open_source(data, reader="processes")
    return torch.cat([batch.labels for batch in stream(source.train, **OPTIONS)]).tolist()


def test_training_batches_in_the_workers_of_a_data_loader(tmp_path):
    data = str(write_tree(tmp_path / "d", pictures(7)))
    source = open_source(data, reader="processes")
    seen = torch.cat(list(DataLoader(Epoch(source), batch_size=None, num_workers=2)))
    assert sorted(seen.tolist()) == sorted(source.train.labels.tolist())


def test_a_stream_in_the_workers_of_a_pool(tmp_path):
    data = str(write_tree(tmp_path / "d", pictures(7)))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(streamed, [data, data]) == [streamed(data)] * 2
