"""How well networks learn from a condensed set."""

from gencond_fast.evaluation.result import EvaluationResult, Row
from gencond_fast.evaluation.run import evaluate

__all__ = ["EvaluationResult", "Row", "evaluate"]
