"""Which reader decodes, what is said of it, and what hangs on it."""

from __future__ import annotations

import multiprocessing
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from image_builders import pictures, write_npz, write_tree

from gencond_fast.condensation.networks import network_key, plan_networks
from gencond_fast.condensation.task import open_config, set_up
from gencond_fast.config.options import resolve
from gencond_fast.data import open_source, stream
from gencond_fast.data.readers import choice
from gencond_fast.data.readers.choice import reader_of
from gencond_fast.data.readers.processes import read_in_processes
from gencond_fast.data.readers.threads import read_in_threads
from gencond_fast.errors import InputError
from gencond_fast.system.progress import Reporter


@pytest.fixture
def data(tmp_path):
    return str(write_tree(tmp_path / "d", pictures(5)))


@pytest.fixture
def arrays(tmp_path):
    return str(write_npz(tmp_path / "d.npz", pictures(5)))


def machine(monkeypatch, *, cores=1, gpu=False, obstacle=None):
    """A machine of so many cores, and DALI with an obstacle or without; None was asked."""
    asked = []

    def dali_obstacle():
        asked.append(1)
        return obstacle

    dali = ModuleType("dali")
    dali.dali_obstacle = dali_obstacle
    dali.read_with_dali = read_in_threads
    monkeypatch.setitem(sys.modules, "gencond_fast.data.readers.dali", dali)
    monkeypatch.setattr(choice, "own_cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    return asked


def opened(data, **options):
    told = []
    source = open_source(data, tell=told.append, **options)
    return source, told


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 64])
def test_without_a_gpu_the_number_of_cores_decides(data, monkeypatch, cores):
    asked = machine(monkeypatch, cores=cores)
    source, told = opened(data, val_fraction=0.4)
    name = "processes" if cores >= choice._CORES_FOR_PROCESSES else "threads"
    assert source.train.reader == source.val.reader == name
    plural = "core" if cores == 1 else "cores"
    assert told == [
        f"images: read with Pillow in {cores} {name} ({cores} {plural}; --reader changes it)"
    ]
    assert not asked  # it takes seconds to import


@pytest.mark.parametrize("name", ["threads", "processes", "dali"])
def test_what_is_asked_for_is_taken(data, monkeypatch, name):
    machine(monkeypatch, cores=3)
    source, told = opened(data, reader=name)
    assert source.train.reader == name
    how = "DALI" if name == "dali" else f"Pillow in 3 {name}"
    assert told == [f"images: read with {how} (as asked for; --reader changes it)"]


def test_a_gpu_decodes_unless_the_job_is_for_the_cpu(data, monkeypatch):
    machine(monkeypatch, gpu=True)
    source, told = opened(data)
    assert source.train.reader == "dali"
    assert told == ["images: read with DALI (on the GPU; --reader changes it)"]
    assert opened(data, device="cpu")[0].train.reader == "threads"
    assert opened(data, reader="processes")[0].train.reader == "processes"


def test_what_keeps_dali_from_a_gpu_is_said(data, monkeypatch):
    machine(monkeypatch, gpu=True, obstacle="it is not installed")
    source, told = opened(data)
    assert source.train.reader == "threads"
    assert "(1 core; DALI is not used: it is not installed; --reader changes it)" in told[0]
    with pytest.raises(InputError, match=r"'reader' is dali, but DALI .*: it is not installed: "):
        opened(data, reader="dali")


@pytest.mark.parametrize("reader", ["auto", "dali"])
def test_arrays_need_no_reader(arrays, monkeypatch, reader):
    machine(monkeypatch, cores=64, gpu=True, obstacle="it is not installed")
    source, told = opened(arrays, reader=reader)
    assert told == []
    assert source.decoder is None
    assert len(list(stream(source.train, channels=3, image_size=5, batch_size=7))) == 3


@pytest.mark.parametrize("name", ["threads", "processes", "dali"])
def test_the_chosen_reader_reads(data, monkeypatch, name):
    machine(monkeypatch)
    called = []

    def noted(*arguments):
        called.append(arguments)
        return read_in_threads(*arguments)

    monkeypatch.setattr(choice, "read_in_threads", noted if name == "threads" else None)
    monkeypatch.setattr(choice, "read_in_processes", noted if name == "processes" else None)
    monkeypatch.setattr(
        sys.modules["gencond_fast.data.readers.dali"],
        "read_with_dali",
        noted if name == "dali" else None,
    )
    split = open_source(data, reader=name).train
    batches = list(stream(split, channels=3, image_size=8, batch_size=4, workers=3))
    assert [batch.done for batch in batches] == [4, 8, 12, 15]
    assert len(called) == 1
    assert called[0][-1] == 3


def test_what_is_kept_of_other_pixels_has_another_name(data, monkeypatch):
    keys = {}
    for name, gpu in (("threads", False), ("processes", False), ("dali", False), ("dali", True)):
        machine(monkeypatch, gpu=gpu)
        config = resolve({"data": data, "out": "", "reader": name, "device": "cpu"})
        setting = set_up(config, open_config(config, Reporter()), 8, Reporter())
        keys[name, gpu] = network_key(setting, plan_networks(setting.config.networks)[-1])
    assert keys["threads", False] == keys["processes", False]
    assert len(set(keys.values())) == 3


class _Daemonic:
    daemon = True


def test_what_may_start_no_process_reads_in_threads(monkeypatch):
    images = SimpleNamespace(reader="processes")
    assert reader_of(images) is read_in_processes
    monkeypatch.setattr(multiprocessing, "current_process", _Daemonic)
    assert reader_of(images) is read_in_threads
    assert reader_of(SimpleNamespace(reader="threads")) is read_in_threads
