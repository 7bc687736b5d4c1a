"""Losses and statistics of labelled features, as functions."""
