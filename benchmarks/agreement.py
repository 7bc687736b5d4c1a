"""Whether rivals compute the same: against float64, within what a plain rival errs by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.peers.centres import index_add
from benchmarks.peers.loop import loop
from benchmarks.peers.padded import padded
from benchmarks.precision import Precision, precision_of_products
from benchmarks.problem import Problem
