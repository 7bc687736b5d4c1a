"""Levels come back as they were put in, in about as many bytes as the laws promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gencond_fast.store import law, level_coder
from gencond_fast.store.blocks import bands_of
from gencond_fast.store.context import ContextModel


def model_of(bands: int, classes: int, seed: int = 0, block: int = 8) -> ContextModel:
    torch.manual_seed(seed)
    zone = [bands - bands // 3, bands // 3]
    return ContextModel(bands_of(zone, block), classes)


def levels_of(shape: tuple[int, ...], size: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=generator) * size
    wide = torch.rand(shape, generator=generator) < 0.02
    largest = level_coder.LARGEST
    return torch.where(wide, 200 * drawn, drawn).round().clamp(-largest, largest).short()


@given(
    samples=st.integers(1, 9),
    bands=st.integers(1, 30),
    grid=st.integers(1, 5),
    classes=st.integers(1, 4),
    size=st.sampled_from([0.0, 0.3, 2.0, 60.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_round_trip(samples, bands, grid, classes, size, seed):
    model = model_of(bands, classes, seed)
    levels = levels_of((samples, bands, grid, grid), size, seed)
    labels = torch.arange(samples) % classes
    streams = level_coder.encode(model, levels, labels)
    assert torch.equal(level_coder.decode(model, streams, labels, grid), levels)


def test_size_is_that_of_the_streams() -> None:
    model, labels = model_of(40, 3), torch.arange(60) % 3
    levels = torch.randn(60, 40, 4, 4).round().short()  # none that the model thinks impossible
    streams = level_coder.encode(model, levels, labels)
    written = len(streams.flags) + len(streams.values)
    assert written == pytest.approx(level_coder.size(model, levels, labels), rel=5e-3)


def test_bits_of_training_promise_that_size() -> None:
    model, labels = model_of(40, 3), torch.arange(60) % 3
    levels = torch.randn(60, 40, 4, 4).round()
    with torch.no_grad():
        promised = float(law.bits(levels, model(levels, labels)).sum()) / 8
    assert level_coder.size(model, levels.short(), labels) == pytest.approx(promised, rel=0.02)


def test_damage_is_noticed() -> None:
    model, labels = model_of(20, 2), torch.arange(10) % 2
    levels = levels_of((10, 20, 3, 3), 1.5, 2)
    streams = level_coder.encode(model, levels, labels)
    flags = bytearray(streams.flags)
    flags[5] ^= 0x40
    with pytest.raises(ValueError, match="its codes"):
        level_coder.decode(model, streams._replace(flags=bytes(flags)), labels, 3)


def test_laws_of_decoding_are_those_of_encoding_band_by_band() -> None:
    # the features of a level must not look at what is decoded later
    model, labels = model_of(30, 2), torch.arange(4) % 2
    levels = levels_of((4, 30, 4, 4), 2.0, 3).float()
    whole = model(levels, labels)
    changed = levels.clone()
    changed[:, 17, 2, 1] += 3  # of band 17, at this block and behind it
    again = model(changed, labels)
    for one, other in zip(whole, again, strict=True):
        differs = (one != other).any(0)
        assert not differs[:17].any()
        assert not differs[17, :2].any()
        assert not differs[17, 2, :2].any()
        assert differs[17:].any()


_SCRIPT = """
import sys, numpy, torch
from test_level_coder import levels_of, model_of
from gencond_fast.store import level_coder
torch.set_num_threads(int(sys.argv[3]))
model, labels = model_of(40, 3), torch.arange(30) % 3
levels = levels_of((30, 40, 4, 4), 1.5, 4)
if sys.argv[1] == "encode":
    numpy.savez(sys.argv[2], *level_coder.encode(model, levels, labels))
else:
    saved = numpy.load(sys.argv[2])
    streams = level_coder.Streams(*(saved[name].tobytes() for name in saved))
    assert torch.equal(level_coder.decode(model, streams, labels, 4), levels)
"""


def test_other_instruction_sets_and_threads_decode_the_same(tmp_path: Path) -> None:
    for step, capability, threads in (("encode", "default", 1), ("decode", "avx2", 2)):
        subprocess.run(
            [sys.executable, "-c", _SCRIPT, step, str(tmp_path / "streams.npz"), str(threads)],
            check=True,
            cwd=Path(__file__).parent,
            env=os.environ | {"ATEN_CPU_CAPABILITY": capability, "NPY_DISABLE_CPU_FEATURES": ""},
        )


def test_nothing_but_zeros_takes_hardly_a_byte() -> None:
    model, labels = model_of(20, 2), torch.arange(100) % 2
    levels = torch.zeros(100, 20, 2, 2, dtype=torch.int16)
    with torch.no_grad():  # a law that expects them
        model.last_bias.value.copy_(torch.tensor([0.0, -8.0, 8.0]))
    streams = level_coder.encode(model, levels, labels)
    assert len(streams.flags) + len(streams.values) < 100
    assert torch.equal(level_coder.decode(model, streams, labels, 2), levels)
    assert np.isfinite(level_coder.size(model, levels, labels))
