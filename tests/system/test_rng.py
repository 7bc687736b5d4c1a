"""Named random numbers: the same for the same name, strangers to each other otherwise."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.system.rng import derive_seed, named_rng

names = st.lists(st.text("abc", max_size=4) | st.integers(0, 99), max_size=3)


@given(seed=st.integers(0, 2**63), names=names)
def test_seed_is_the_documented_function(seed, names):
    text = ":".join([str(seed), *map(str, names)])
    digest = hashlib.sha256(text.encode()).digest()
    got = derive_seed(seed, *names)
    assert got == int.from_bytes(digest[:8], "little") // 2
    assert 0 <= got < 2**63


def test_seeds_are_the_same_in_another_process():
    code = "from gencond_fast.system.rng import derive_seed; print(derive_seed(3, 'match', 17))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == derive_seed(3, "match", 17)


def test_names_and_seeds_are_told_apart():
    seeds = {derive_seed(s, "match", step) for s in range(20) for step in range(500)}
    seeds |= {derive_seed(s, "warm start", step) for s in range(20) for step in range(500)}
    assert len(seeds) == 20_000


def test_draws_do_not_depend_on_what_was_drawn_before():
    first = torch.rand(5, generator=named_rng(1, "x", 3))
    torch.rand(100)
    named_rng(1, "x", 2)
    assert torch.equal(first, torch.rand(5, generator=named_rng(1, "x", 3)))
    assert not torch.equal(first, torch.rand(5, generator=named_rng(1, "x", 4)))


def test_the_global_state_is_left_alone():
    before = torch.get_rng_state()
    torch.rand(5, generator=named_rng(1, "x"))
    assert torch.equal(before, torch.get_rng_state())


def test_neighbours_are_uncorrelated():
    draws = torch.stack([torch.randn(4000, generator=named_rng(0, "s", i)) for i in range(8)])
    correlation = torch.corrcoef(draws) - torch.eye(8)
    assert correlation.abs().max() < 0.08  # five standard deviations
