"""Every option and its default, once; and the presets."""

from gencond_fast.config.condensing import Config
from gencond_fast.config.judging import (
    BASELINES,
    AttackConfig,
    AuditConfig,
    BaselineConfig,
    EvaluateConfig,
    ScoreConfig,
)
from gencond_fast.config.parts import (
    LabelConfig,
    LossConfig,
    NetworkConfig,
    StoreConfig,
    TeacherConfig,
    TrainingConfig,
    TrajectoryConfig,
)
from gencond_fast.config.presets import METHODS, OBJECTIVES, PRESET_TEXTS, PRESETS
from gencond_fast.config.privacy import PRIVATE, PrivacyConfig
from gencond_fast.config.running import RunOptions, run_options
from gencond_fast.config.types import (
    DISCREPANCY_NAMES,
    OPERATIONS,
    Count,
    Device,
    Fraction,
    OnBadImage,
    Precision,
    ReaderName,
    Switch,
    Transparency,
)

__all__ = [
    "BASELINES",
    "DISCREPANCY_NAMES",
    "METHODS",
    "OBJECTIVES",
    "OPERATIONS",
    "PRESETS",
    "PRESET_TEXTS",
    "PRIVATE",
    "AttackConfig",
    "AuditConfig",
    "BaselineConfig",
    "Config",
    "Count",
    "Device",
    "EvaluateConfig",
    "Fraction",
    "LabelConfig",
    "LossConfig",
    "NetworkConfig",
    "OnBadImage",
    "Precision",
    "PrivacyConfig",
    "ReaderName",
    "RunOptions",
    "ScoreConfig",
    "StoreConfig",
    "Switch",
    "TeacherConfig",
    "TrainingConfig",
    "TrajectoryConfig",
    "Transparency",
    "run_options",
]
