"""gencond-fast: condense an image dataset into learned codes and what decodes them.

The public names are looked up when first used, so importing the package costs next to nothing and
pulls in neither PyTorch, Triton nor DALI.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencond_fast._version import __version__

if TYPE_CHECKING:
    from gencond_fast.config import AuditConfig, Config, EvaluateConfig
    from gencond_fast.evaluation import EvaluationResult
    from gencond_fast.evaluation.auditing import AuditResult
    from gencond_fast.functional.batchnorm import batchnorm_matching_loss
    from gencond_fast.functional.channels import ChannelMoments, channel_moments
    from gencond_fast.functional.covariance import (
        ClassCovariances,
        class_covariances,
        frechet_distance,
    )
    from gencond_fast.functional.layout import ClassLayout
    from gencond_fast.functional.losses import (
        ClassLosses,
        class_losses,
        inter_class_loss,
        intra_class_loss,
    )
    from gencond_fast.functional.matching import moment_matching_loss
    from gencond_fast.functional.moments import ClassMoments, class_moments
    from gencond_fast.store.artifact import load, save
    from gencond_fast.store.dataset import CondensedDataset

__all__ = [
    "AuditConfig",
    "AuditResult",
    "ChannelMoments",
    "ClassCovariances",
    "ClassLayout",
    "ClassLosses",
    "ClassMoments",
    "CondensedDataset",
    "Config",
    "EvaluateConfig",
    "EvaluationResult",
    "__version__",
    "audit",
    "batchnorm_matching_loss",
    "channel_moments",
    "class_covariances",
    "class_losses",
    "class_moments",
    "condense",
    "evaluate",
    "frechet_distance",
    "inter_class_loss",
    "intra_class_loss",
    "load",
    "moment_matching_loss",
    "save",
]

_HOMES = {
    "AuditConfig": "config",
    "AuditResult": "evaluation.auditing",
    "ChannelMoments": "functional.channels",
    "ClassCovariances": "functional.covariance",
    "ClassLayout": "functional.layout",
    "ClassLosses": "functional.losses",
    "ClassMoments": "functional.moments",
    "CondensedDataset": "store.dataset",
    "Config": "config",
    "EvaluateConfig": "config",
    "EvaluationResult": "evaluation",
    "batchnorm_matching_loss": "functional.batchnorm",
    "channel_moments": "functional.channels",
    "class_covariances": "functional.covariance",
    "class_losses": "functional.losses",
    "class_moments": "functional.moments",
    "frechet_distance": "functional.covariance",
    "inter_class_loss": "functional.losses",
    "intra_class_loss": "functional.losses",
    "load": "store.artifact",
    "moment_matching_loss": "functional.matching",
    "save": "store.artifact",
}


def audit(config: AuditConfig) -> AuditResult:
    """Attack a condensed file, or its making, by membership inference."""
    from gencond_fast.evaluation import auditing

    return auditing.audit(config)


def condense(config: Config) -> Path:
    """Condense a training set into one file, and return that file's path."""
    from gencond_fast import condensation

    return condensation.condense(config)


def evaluate(config: EvaluateConfig) -> EvaluationResult:
    """Train networks from scratch on a condensed file, and measure them on real test images."""
    from gencond_fast import evaluation

    return evaluation.evaluate(config)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
