"""gencond_fast: condense an image dataset into one small file that trains networks from scratch.

    import gencond_fast as gf

    path = gf.condense("cifar10/", out="runs/c10", ipc=1)
    result = gf.evaluate(path, data="cifar10/", baselines=["random"])
    data = gf.CondensedDataset(path)  # for a DataLoader

Public names are looked up at their first use: importing the package costs next to nothing and loads
neither PyTorch nor Triton nor DALI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gencond_fast._version import __version__

if TYPE_CHECKING:
    from gencond_fast.api import audit, condense, evaluate, export, plan, relabel, report, score
    from gencond_fast.config import AuditConfig, Config, EvaluateConfig, ScoreConfig
    from gencond_fast.errors import InputError, RunError
    from gencond_fast.evaluation import EvaluationResult
    from gencond_fast.evaluation.auditing import AuditResult
    from gencond_fast.evaluation.score import Scores
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
    from gencond_fast.functional.modules import (
        BatchNormMatchingLoss,
        InterClassLoss,
        IntraClassLoss,
        IntraInterClassLoss,
        MomentMatchingLoss,
    )
    from gencond_fast.functional.moments import ClassMoments, class_moments
    from gencond_fast.store.artifact import load, save
    from gencond_fast.store.dataset import CondensedDataset

__all__ = [
    "AuditConfig",
    "AuditResult",
    "BatchNormMatchingLoss",
    "ChannelMoments",
    "ClassCovariances",
    "ClassLayout",
    "ClassLosses",
    "ClassMoments",
    "CondensedDataset",
    "Config",
    "EvaluateConfig",
    "EvaluationResult",
    "InputError",
    "InterClassLoss",
    "IntraClassLoss",
    "IntraInterClassLoss",
    "MomentMatchingLoss",
    "RunError",
    "ScoreConfig",
    "Scores",
    "__version__",
    "audit",
    "batchnorm_matching_loss",
    "channel_moments",
    "class_covariances",
    "class_losses",
    "class_moments",
    "condense",
    "evaluate",
    "export",
    "frechet_distance",
    "inter_class_loss",
    "intra_class_loss",
    "load",
    "moment_matching_loss",
    "plan",
    "relabel",
    "report",
    "save",
    "score",
]

_HOMES = {
    "AuditConfig": "config",
    "AuditResult": "evaluation.auditing",
    "BatchNormMatchingLoss": "functional.modules",
    "ChannelMoments": "functional.channels",
    "ClassCovariances": "functional.covariance",
    "ClassLayout": "functional.layout",
    "ClassLosses": "functional.losses",
    "ClassMoments": "functional.moments",
    "CondensedDataset": "store.dataset",
    "Config": "config",
    "EvaluateConfig": "config",
    "EvaluationResult": "evaluation",
    "InputError": "errors",
    "InterClassLoss": "functional.modules",
    "IntraClassLoss": "functional.modules",
    "IntraInterClassLoss": "functional.modules",
    "MomentMatchingLoss": "functional.modules",
    "RunError": "errors",
    "ScoreConfig": "config",
    "Scores": "evaluation.score",
    "audit": "api",
    "batchnorm_matching_loss": "functional.batchnorm",
    "channel_moments": "functional.channels",
    "class_covariances": "functional.covariance",
    "class_losses": "functional.losses",
    "class_moments": "functional.moments",
    "condense": "api",
    "evaluate": "api",
    "export": "api",
    "frechet_distance": "functional.covariance",
    "inter_class_loss": "functional.losses",
    "intra_class_loss": "functional.losses",
    "load": "store.artifact",
    "moment_matching_loss": "functional.matching",
    "plan": "api",
    "relabel": "api",
    "report": "api",
    "save": "store.artifact",
    "score": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
