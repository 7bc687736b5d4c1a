"""Triton kernels, installed as `gencond_fast.kernels`; importing this does not import Triton."""

from .launch import TritonStatus, interpreting, triton_status

__all__ = ["TritonStatus", "interpreting", "triton_status"]
