"""`condense --minutes`: as many steps as fit into the time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gencond_fast.config import Config
from gencond_fast.config.options import read_run_config
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.system.progress import Reporter


def with_minutes(config: Config, minutes: float, reporter: Reporter, ranks: Ranks) -> Config:
    """The config with numbers of steps that take about so many minutes on this machine.

    A run that was started keeps the steps that it was started with. Of several ranks the first
    one decides.

    Args:
        config: all options.
        minutes: above 0.
        reporter: told of progress.
        ranks: those that share the work, all of which call this.

    Raises:
        InputError: the data or an option cannot be used, or the run directory is damaged.
    """
    steps = ranks.broadcast_object(
        _decide(config, minutes, reporter) if ranks.is_main else (None, 0)
    )
    return _with_steps(config, *steps)


def _decide(config: Config, minutes: float, reporter: Reporter) -> tuple[int | None, int]:
    """Steps of matching and of trajectories."""
    started = Path(config.out) / "config.yaml"
    if started.exists():
        found = read_run_config(started)
    else:
        from gencond_fast import planning  # imports half the program

        found = planning.fit_minutes(config, minutes, reporter)
    return found.training.steps, found.trajectory.steps


def _with_steps(config: Config, matching: int | None, trajectory: int) -> Config:
    return replace(
        config,
        training=replace(config.training, steps=matching),
        trajectory=replace(config.trajectory, steps=trajectory),
    )
