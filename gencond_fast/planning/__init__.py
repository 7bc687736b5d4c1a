"""What a condensation and its evaluation will cost, before they are started.

Calibrate (a short real run), count (how often the full run does the same), multiply.
"""

from gencond_fast.planning.forecast import Plan, fit_minutes, plan

__all__ = ["Plan", "fit_minutes", "plan"]
