"""Every op of the `gencond` namespace: schema, shape function, dispatch and gradient."""

from gencond_fast.functional.ops.channels import batchnorm_distance, channel_moments
from gencond_fast.functional.ops.library import SCHEMAS
from gencond_fast.functional.ops.losses import class_centres, class_order, pair_loss
from gencond_fast.functional.ops.matching import moment_matching
from gencond_fast.functional.ops.moments import class_moments, class_moments_update_

__all__ = [
    "SCHEMAS",
    "batchnorm_distance",
    "channel_moments",
    "class_centres",
    "class_moments",
    "class_moments_update_",
    "class_order",
    "moment_matching",
    "pair_loss",
]
