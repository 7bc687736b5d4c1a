"""Tests; a package, so that `python -m tests.robustness.fuzz` finds what it runs."""
