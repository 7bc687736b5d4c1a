"""The search of tile configurations, as far as it can be tried without a GPU."""

from __future__ import annotations

import inspect

from gencond_fast.kernels import config

from benchmarks.tune_losses import SEARCHES


def test_every_function_searched_is_one_the_kernels_ask() -> None:
    for search in SEARCHES:
        function = inspect.signature(getattr(config, search.function))
        assert function.return_annotation == "Config"
        assert len(function.parameters) == 2  # as those that take their place during the search
