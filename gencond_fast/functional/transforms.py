"""Whether derivatives are wanted that the ops do not have, and plain PyTorch has."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def transformed(*tensors: Tensor) -> bool:
    """Whether a transform of torch.func is at work, or a tensor has a tangent of forward mode.

    The ops know neither: they would raise, or leave a tangent out.
    """
    if torch._C._are_functorch_transforms_active():
        return True
    if forward_ad._current_level < 0:
        return False
    return any(forward_ad.unpack_dual(each).tangent is not None for each in tensors)
