"""What a condensation and an evaluation will cost, before they are started."""

from gencond_fast.planning.plan import Forecast, Plan, make_plan

__all__ = ["Forecast", "Plan", "make_plan"]
