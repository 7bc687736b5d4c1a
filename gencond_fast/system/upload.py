"""Host tensors on their way to the device."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """`tensor.to(device)`, for which the host does not wait where the device is a GPU.

    A copy from ordinary memory lets the host wait for all that the GPU has yet to do. One from
    pinned memory takes its place among the kernels, and PyTorch keeps that memory until it is done.
    """
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
