"""Losses and statistics of labelled features, as functions and as modules."""
