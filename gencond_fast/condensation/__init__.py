"""From a data set to a condensed file."""

from gencond_fast.condensation.relabel import relabel
from gencond_fast.condensation.run import condense
from gencond_fast.condensation.statistics import Statistics, build_statistics
from gencond_fast.condensation.teachers import Teachers, train_teachers

__all__ = [
    "Statistics",
    "Teachers",
    "build_statistics",
    "condense",
    "relabel",
    "train_teachers",
]
