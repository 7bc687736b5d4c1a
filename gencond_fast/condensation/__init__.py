"""From a data set to a condensed file."""

from gencond_fast.condensation.run import condense
from gencond_fast.condensation.statistics import Statistics, build_statistics

__all__ = ["Statistics", "build_statistics", "condense"]
