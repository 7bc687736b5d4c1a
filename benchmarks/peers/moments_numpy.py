"""Mean and sum of squared deviations of every class with NumPy and SciPy, on one core.

The functions are those of `peers.moments`, on tensors that share their memory with arrays.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from benchmarks.peers.moments import Moments

Array = NDArray[np.floating]


def add_at(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """Two passes of np.add.at."""
    x, y = features.numpy(), labels.numpy()
    mean, m2 = np.zeros((2, classes, x.shape[1]), x.dtype)
    np.add.at(mean, y, x)
    mean /= np.bincount(y, minlength=classes).clip(1)[:, None].astype(x.dtype)
    np.add.at(m2, y, np.square(x - mean[y]))
    return torch.from_numpy(mean), torch.from_numpy(m2)


def reduceat(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """Two passes of np.add.reduceat over rows class after class."""
    x, y = features.numpy(), labels.numpy()
    if not ordered:
        order = np.argsort(y, kind="stable")
        x, y = x[order], y[order]
    present, start, count = np.unique(y, return_index=True, return_counts=True)
    mean, m2 = np.zeros((2, classes, x.shape[1]), x.dtype)
    if len(present):
        mean[present] = np.add.reduceat(x, start, axis=0) / count[:, None].astype(x.dtype)
        m2[present] = np.add.reduceat(np.square(x - mean[y]), start, axis=0)
    return torch.from_numpy(mean), torch.from_numpy(m2)


def labelled(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """scipy.ndimage's mean and variance by label, which take one column at a time."""
    x, y = features.numpy(), labels.numpy()
    count = np.bincount(y, minlength=classes)
    present = count.nonzero()[0]
    mean, m2 = np.zeros((2, classes, x.shape[1]), x.dtype)
    with np.errstate(invalid="ignore"):  # it divides by the counts of absent labels, too
        for j in range(x.shape[1]):
            mean[present, j] = ndimage.mean(x[:, j], y, present)
            m2[present, j] = ndimage.variance(x[:, j], y, present)
    return torch.from_numpy(mean), torch.from_numpy(m2 * count[:, None].astype(x.dtype))
