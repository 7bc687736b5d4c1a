"""From a data set to a condensed file."""

from gencond_fast.condensation.run import condense

__all__ = ["condense"]
