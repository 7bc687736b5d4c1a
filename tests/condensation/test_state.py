"""States on the disk against what was put in, and what is held in memory meanwhile."""

from __future__ import annotations

import hashlib
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.condensation.state import (
    LazyTensor,
    load_state,
    materialise,
    open_state,
    save_state,
)

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


def laid_out(way: str, dtype: torch.dtype, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    whole = torch.randint(0, 2, (4, 6, 5, 3), generator=rng).to(dtype)
    ways = {
        "plain": lambda: whole,
        "turned": lambda: whole.permute(3, 1, 0, 2),
        "gaps": lambda: whole[::2, :, 1::2],
        "overlap": lambda: whole[:1].expand(7, 6, 5, 3),
        "channels last": lambda: whole.contiguous(memory_format=torch.channels_last),
        "empty": lambda: whole[:, :0],
        "number": lambda: whole[0, 0, 0, 0],
        "parameter": lambda: torch.nn.Parameter(whole, requires_grad=dtype.is_floating_point),
    }
    return ways[way]()


WAYS = ("plain", "turned", "gaps", "overlap", "channels last", "empty", "number", "parameter")


@given(
    st.lists(
        st.tuples(st.sampled_from(WAYS), st.sampled_from(DTYPES), st.integers(0, 99)), max_size=6
    ),
    st.booleans(),
)
def test_what_is_saved_comes_back(tmp_path_factory, tensors, later):
    path = tmp_path_factory.mktemp("states") / "state"
    made = [laid_out(*each) for each in tensors]
    given_ = (
        [LazyTensor(each.to("meta"), lambda each=each: each) for each in made] if later else made
    )
    values = {"list": given_, "nested": {3: (0.5, None, given_[:1])}, "text": "ä", "none": []}
    save_state(path, values)
    found = load_state(path)
    assert found.keys() == values.keys()
    assert (found["text"], found["none"], found["nested"][3][:2]) == ("ä", [], (0.5, None))
    for got, want in zip(found["list"] + found["nested"][3][2], made + made[:1], strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)
        if want.numel() and torch.empty_like(want).stride() == want.stride():  # else it had gaps
            assert got.stride() == want.stride()


def test_tensors_are_fetched_one_after_the_other(tmp_path):
    """None is held while the next one is fetched, neither in writing nor in reading."""
    alive, most = set(), []

    def fetch(number):
        tensor = torch.full((1000,), float(number))
        alive.add(number)
        torch.utils.weak.weakref.finalize(tensor, alive.discard, number)
        most.append(len(alive))
        return tensor

    outline = torch.empty(1000, device="meta")
    values = {n: LazyTensor(outline, lambda n=n: fetch(n)) for n in range(5)}
    save_state(tmp_path / "state", values)
    assert most == [1] * 5
    opened = open_state(tmp_path / "state")
    assert all(isinstance(each, LazyTensor) for each in opened.values())
    for number, each in opened.items():
        assert torch.equal(materialise(each), torch.full((1000,), float(number)))


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "state"
    save_state(path, {"a": torch.zeros(1000)})
    opened = open_state(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(OSError, match="while it was read|Invalid argument"):
        materialise(opened)


@pytest.mark.parametrize(
    "outline",
    [
        {"a": torch.zeros(3)},  # with its content in the outline
        {"a": torch.empty(3, device="meta")},  # and nowhere
        {"a": torch.empty(2**40, 2**20, device="meta")},
        {"a": torch.empty(11, dtype=torch.uint8, device="meta").as_strided((11,), (0,))},
        {"a": torch.empty(30, dtype=torch.uint8, device="meta").as_strided((11,), (2,))},
        [torch.empty(0, device="meta")],
        None,
    ],
)
@pytest.mark.parametrize("content", [b"", bytes(11), bytes(13)])
def test_what_does_not_go_together_is_no_state(tmp_path, outline, content):
    torch.save(outline, tmp_path / "outline")
    inner = (tmp_path / "outline").read_bytes()
    for length in (len(inner), len(inner) + len(content) + 1, 2**63, 0):
        whole = struct.pack("<Q", length) + inner + content
        (tmp_path / "state").write_bytes(whole + hashlib.sha256(whole).digest())
        assert load_state(tmp_path / "state") is None
