"""The optimisation loop: stages in turn, checkpoints, metrics, an ear for interruptions."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from gencond_fast.condensation.checkpoint import CHECKPOINTS, Checkpoint
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.guard import NonFiniteGuard
from gencond_fast.condensation.shards import owned_parameters, save_whole
from gencond_fast.condensation.stage import Stage, build_optimizer
from gencond_fast.condensation.state import materialise
from gencond_fast.condensation.task import Task
from gencond_fast.errors import InputError
from gencond_fast.store.store import StoredSet
from gencond_fast.system.files import write_text
from gencond_fast.system.interrupt import Interrupts, obey
from gencond_fast.system.progress import Phase
from gencond_fast.training.average import WeightAverage

PHASE = "matching"  # as the reporter is told


class Loop:
    """Takes a stored set through stages of steps, resuming where a checkpoint was left.

    Args:
        task: data, options, machine.
        store: the stored set, or what this rank keeps of it, on the device of the task.
        stages: in order.
        directory: of the run; holds `checkpoint/` and `metrics.jsonl`.
        saved: where an earlier start left off, of what this rank keeps; its tensors may be still
            to be fetched, which is done in the same order on all ranks.
        partition: who keeps what, and has which part of the steps; the first rank writes.
    """

    def __init__(
        self,
        task: Task,
        store: StoredSet,
        stages: list[Stage],
        directory: Path,
        saved: Checkpoint | None,
        partition: ClassPartition,
    ) -> None:
        self._task = task
        self._store = store
        self._stages = [stage for stage in stages if stage.steps > 0]
        self._directory = directory
        self._saved = saved
        self._partition = partition
        self._ranks = partition.ranks
        own = {id(each) for each in owned_parameters(store)} if partition.divided else set()
        self._owned = [each for each in store.parameters() if id(each) in own]
        self._summed = [each for each in store.parameters() if id(each) not in own]
        self._metrics = directory / "metrics.jsonl"
        self._options = task.config.training
        self._guard = NonFiniteGuard(task.runtime.device)
        self._average: WeightAverage | None = None

    def run(self) -> None:
        """Runs all steps that are still to be done.

        With `training.ema_decay` the stored set has averaged parameters afterwards.

        Raises:
            InputError: the checkpoint holds no state of this run.
            RunError: a term of the loss, or the gradient, stopped being a finite number.
            KeyboardInterrupt: the user interrupted; the state is saved.
            Terminated: the system asked to stop; the state is saved.
        """
        saved = self._saved
        done = saved.step if saved else 0
        if saved:
            _restore(self._store, saved.store, saved)
            self._task.reporter.message(f"resuming at step {saved.step}")
        self._average = self._start_average()
        if self._ranks.is_main:
            self._cut_metrics(done)
        total = sum(stage.steps for stage in self._stages)
        start = 0
        with (
            Interrupts() as interrupts,
            self._task.reporter.phase(PHASE, total, done) as progress,
        ):
            for stage in self._stages:
                first, start = start, start + stage.steps
                if done >= start:
                    continue
                optimizer = build_optimizer(self._store, stage)
                if saved and done > first:
                    _restore(optimizer, saved.optimizer, saved)
                    _restore(stage, saved.stage, saved)
                else:
                    stage.start()
                steps = range(max(first, done), start)
                run = _StageRun(stage, optimizer, first, steps, interrupts, progress)
                self._run_stage(run)
        if self._average:
            self._average.put_in_place()

    def _start_average(self) -> WeightAverage | None:
        """Of the parameters as they are now, or as an earlier start left it."""
        if not self._options.ema_decay:
            return None
        live = [parameter.detach() for parameter in self._store.parameters()]
        average = WeightAverage(live, self._options.ema_decay)
        if self._saved:
            _restore(average, self._saved.average, self._saved)
        return average

    def _run_stage(self, run: _StageRun) -> None:
        for number in run.steps:
            terms = self._step(run, number)
            done = number + 1
            last = done == run.steps.stop
            log = last or done % self._options.log_every == 0
            # the same on all ranks; a signal that comes later waits for the next step
            signal = self._ranks.max(run.interrupts.number)
            save = last or done % self._options.checkpoint_every == 0 or signal > 0
            if log or save:
                self._guard.check()
            if log and self._ranks.is_main:
                self._log(run, done, terms)
            if save:
                self._save(done, run)
            if signal:
                self._ranks.barrier()  # torchrun ends all of them when one has ended
                obey(signal)

    def _step(self, run: _StageRun, number: int) -> dict[str, Tensor]:
        local = number - run.first
        for group in run.optimizer.param_groups:
            group["lr"] = group["scale"] * run.stage.lr_at(local)
        terms = self._add_up(run.stage.terms(local), run.optimizer)
        norm = self._clip(run.stage)
        self._guard.watch(number + 1, {**terms, "gradient": norm})
        run.optimizer.step()
        run.stage.after_step(local)
        if self._average:
            self._average.update()
        return terms

    def _add_up(
        self, terms: dict[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> dict[str, Tensor]:
        """Fills the gradients, and returns the values of the terms, both summed over ranks.

        A rank that keeps a number alone has its whole gradient.
        """
        values = torch.stack(list(terms.values()))
        optimizer.zero_grad()
        if values.requires_grad:  # else none of the samples of the step belong to this rank
            values.sum().backward()
        total = values.detach()
        for each in self._store.parameters():  # of which this rank's part of the loss has none
            if each.grad is None and self._ranks.world_size > 1:
                each.grad = torch.zeros_like(each)
        self._ranks.all_reduce([total, *_gradients(self._summed)])
        return dict(zip(terms, total.unbind(), strict=True))

    def _clip(self, stage: Stage) -> Tensor:
        """Bounds the norm of the whole gradient where the stage wants it; returns what it was."""
        square = get_total_norm(_gradients(self._owned)).square()
        self._partition.add([square])
        norm = (square + get_total_norm(_gradients(self._summed)).square()).sqrt()
        if stage.clips:
            clip_grads_with_norm_(self._store.parameters(), self._options.clip, norm)
        return norm

    def _save(self, done: int, run: _StageRun) -> None:
        checkpoint = Checkpoint(
            done,
            self._task.source.fingerprint,
            asdict(self._partition.spec),
            self._store.state_dict(),
            run.optimizer.state_dict(),
            self._average.state_dict() if self._average else {},
            run.stage.state_dict(),
        )
        save_whole(self._directory / CHECKPOINTS, checkpoint, self._store, self._partition)

    def _log(self, run: _StageRun, done: int, terms: dict[str, Tensor]) -> None:
        values = {name: float(value) for name, value in terms.items()}
        steps, seconds = run.lap(done)
        speed = steps * run.stage.images_per_step / seconds
        line = {"step": done, "stage": run.stage.name, **values, "images_per_second": speed}
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        run.progress.advance(steps, {**values, "images/s": speed})

    def _cut_metrics(self, done: int) -> None:
        """Drops lines of steps that will be done again, so that each step stands once."""
        if not self._metrics.exists():
            return
        lines = self._metrics.read_text(encoding="utf-8", errors="replace").split("\n")
        kept = [line for line in lines if 1 <= _step_of(line) <= done]
        write_text(self._metrics, "".join(line + "\n" for line in kept))


def _restore(
    what: StoredSet | torch.optim.Optimizer | WeightAverage | Stage,
    state: dict[str, Any],
    saved: Checkpoint,
) -> None:
    state = materialise(state)
    try:
        what.load_state_dict(state)
    except Exception as error:  # of another version, or made by hand
        raise InputError(
            f"the checkpoint of step {saved.step} does not fit this run "
            f"({type(error).__name__}): remove it, or give another --out"
        ) from error


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [each.grad for each in parameters if each.grad is not None]


def _step_of(line: str) -> int:
    """The step of a line of metrics, 0 for one that was torn by a crash."""
    try:
        return json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return 0


class _StageRun:
    """One stage under way: its optimiser, its place among the steps, its clock."""

    def __init__(
        self,
        stage: Stage,
        optimizer: torch.optim.Optimizer,
        first: int,
        steps: range,
        interrupts: Interrupts,
        progress: Phase,
    ) -> None:
        self.stage = stage
        self.optimizer = optimizer
        self.first = first
        self.steps = steps
        self.interrupts = interrupts
        self.progress = progress
        self._since = time.perf_counter()
        self._step = steps.start

    def lap(self, done: int) -> tuple[int, float]:
        """Steps and seconds since the last lap."""
        now = time.perf_counter()
        result = done - self._step, now - self._since
        self._step, self._since = done, now
        return result
