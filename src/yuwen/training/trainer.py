"""The loop: one for every objective and family, resumable to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from yuwen.config import Config
from yuwen.errors import UserError
from yuwen.objectives import Batch
from yuwen.training.checkpoint import Checkpoints, Saved
from yuwen.training.learner import Learner, Step
from yuwen.training.logging import MetricsLog
from yuwen.training.plan import Plans
from yuwen.training.progress import Progress
from yuwen.training.schedules import ScheduleConfig

if TYPE_CHECKING:
    from yuwen.data import Loader


class TrainConfig(Config):
    """How long, in which batches, and what is written down on the way.

    `steps`, `minutes` or `flops`: a budget in minutes is turned into steps after the first few, and again halfway
    through what is left (`plan`); one in floating point operations (forward and backward) before the first.
    `batch_tokens` is the whole batch of one step over all processes; `micro_tokens` bounds what one process computes at
    a time (0: all at once). `log_every`, `evaluate_every`, `sample_every` and `checkpoint_every` count steps (0, which
    `log_every` cannot be: only at the end). `patience` ends a run after so many evaluations without a better one (0:
    never); each better one is then saved. Given with another budget, `steps` are what an earlier start made of that.
    """

    steps: int = Field(default=0, ge=0)
    minutes: float = Field(default=0, ge=0)
    flops: float = Field(default=0, ge=0)
    batch_tokens: int = Field(default=4096, gt=0)
    micro_tokens: int = Field(default=0, ge=0)
    evaluate_every: int = Field(default=100, ge=0)
    sample_every: int = Field(default=0, ge=0)
    checkpoint_every: int = Field(default=200, ge=0)
    log_every: int = Field(default=10, gt=0)
    keep: int = Field(default=2, gt=0)
    patience: int = Field(default=0, ge=0)
    seed: int = Field(default=1, ge=0, lt=2**63)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    tensorboard: bool = True

    @field_validator("compile", mode="before")
    @classmethod
    def _on_or_off(cls, value: Any) -> Any:
        """In YAML, on and off are true and false."""
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value

    def micro_batches(self, world: int) -> tuple[int, int]:
        """(micro-batches of one process in a step, tokens in each). UserError if the batch cannot be shared so."""
        share = self.batch_tokens // world
        micro = min(self.micro_tokens or share, share)
        if share * world != self.batch_tokens or share % micro:
            raise UserError(
                f"train.batch_tokens={self.batch_tokens} cannot be shared by {world} processes in micro-batches of "
                f"train.micro_tokens={self.micro_tokens}: choose a multiple of both"
            )
        return share // micro, micro


@dataclass(slots=True)
class Hooks:
    """What the loop is given from outside: it knows nothing of files formats, evaluators or screens.

    `evaluate` returns valid_loss and bits_per_byte (empty: no validation); `sample` shows what the model writes;
    `save_model` writes the weights into a folder; `logged` sees every line of metrics; `planned` hears the number of
    steps that a budget in minutes comes to, whenever it changes.
    """

    evaluate: Callable[[], Mapping[str, float]]
    sample: Callable[[int], None]
    save_model: Callable[[Path], None]
    logged: Callable[[Mapping[str, Any]], None]
    planned: Callable[[int], None]
    message: Callable[[str], None]


_UNPLANNED = 1000  # steps assumed for the schedule, at least, until a budget in minutes is planned,
_SHARE = 0.05  # and that those done are no larger a part of them


class Trainer:
    """Runs a learner over a loader, for as long as the settings say.

    Randomness has no history: every step seeds its generators from (seed, step), the loader's order is a function of
    (seed, position). So a resumed run is the undisturbed one, to the bit. `data` names what the loader reads: a
    checkpoint of other data is refused.
    """

    def __init__(
        self,
        learner: Learner,
        loader: Loader,
        config: TrainConfig,
        schedule: ScheduleConfig,
        *,
        run: Path,
        hooks: Hooks,
        micro_batches: int = 1,
        started: float | None = None,
        data: str = "",
    ) -> None:
        self.learner, self.loader, self.config, self.schedule = learner, loader, config, schedule
        self.run_folder, self.hooks, self.micro_batches, self.data = run, hooks, micro_batches, data
        self.processes = learner.processes
        self.checkpoints = Checkpoints(run, keep=config.keep, warn=hooks.message)
        self.progress = Progress(total_steps=config.steps)
        self.plans = Plans(config.minutes, run, self.processes) if config.minutes else None
        self._before = started if started is not None else time.perf_counter()

    def resume(self, saved: Saved) -> None:
        """Takes up where a checkpoint stands: weights are loaded by the caller, all else here.

        UserError if the data is not what the checkpoint learnt from.
        """
        if saved.state["data"] != self.data:
            raise UserError(
                f"{saved.folder}: the text has changed since this run began, and a run goes on as it began: "
                "bring it back, or choose another --out"
            )
        self.progress = Progress(**saved.state["progress"])
        self.loader.load_state_dict(saved.state["loader"])
        self.learner.optimizers.load_state(_part(saved.tensors, "optimizer/"))
        self.learner.state = {**saved.state["objective"], **_part(saved.tensors, "objective/")}
        self._before = time.perf_counter() - self.progress.seconds

    def rewind(self) -> None:
        """Makes the checkpoint that was taken up the run's `last`: before what was logged later is cut off."""
        progress = self.progress
        if progress.step:
            kept = self._writes and self.checkpoints.rewind(progress.step, progress.best_step)
            if not self.processes.first_says(float(kept)):  # the next that is measured is the best there is
                progress.best_saved, progress.best_step = math.inf, 0

    def run(self) -> Progress:
        """Trains to the end; always leaves a final checkpoint. Who goes on from one calls `rewind` before."""
        progress, config = self.progress, self.config
        log = (
            MetricsLog(self.run_folder, resumed_at=progress.step, tensorboard=config.tensorboard)
            if self._writes
            else None
        )
        if self.plans is not None:
            self.plans.begin(progress.step)
        try:
            self._warn_of_warmup()
            if progress.step == 0:
                untrained = self._evaluate() if config.evaluate_every or config.minutes else {}
                self._report(log, {"step": 0, "tokens": 0, "seconds": self._seconds(), **untrained})
            while not self.finished:
                began = time.perf_counter()
                factor = self._factor()
                step = self._step(factor)
                seconds = time.perf_counter() - began
                if self.plans is not None and self.plans.after(
                    progress, seconds, self._seconds(), progress.evaluation_seconds, config.evaluate_every
                ):
                    self.hooks.planned(progress.total_steps)
                    self._warn_of_warmup()
                last = self.finished
                metrics: dict[str, float] = {}
                if last or _due(config.evaluate_every, progress.step):
                    metrics = self._evaluate()
                    last = self.finished
                if last or metrics or _due(config.log_every, progress.step):
                    self._report(log, {**self._line(step, factor, seconds), **metrics})
                better = bool(config.patience and metrics) and progress.since_best == 0
                try:
                    if self._writes and (last or _due(config.sample_every, progress.step)):
                        self.hooks.sample(progress.step)
                finally:  # what was learnt is kept, whatever becomes of its words
                    if last or (self.planned and (better or _due(config.checkpoint_every, progress.step))):
                        self._save(metrics.get("valid_loss"))
        finally:
            if log is not None:
                log.close()
        return progress

    @property
    def finished(self) -> bool:
        """Are all steps done, or patience at its end?"""
        progress, patience = self.progress, self.config.patience
        spent = bool(progress.total_steps) and progress.step >= progress.total_steps
        return spent or bool(patience and progress.since_best >= patience)

    @property
    def planned(self) -> bool:
        """Is it known how many steps there will be? Before, no checkpoint is written: it could not be resumed to the
        bit, since the schedule of an undisturbed run changes once it is known."""
        return bool(self.progress.total_steps)

    @property
    def _writes(self) -> bool:
        return self.processes.first

    def _factor(self) -> float:
        step = self.progress.step  # unplanned, it is no further than a share of the way
        return self.schedule.factor(step, self.progress.total_steps or max(_UNPLANNED, round(step / _SHARE)))

    def _warn_of_warmup(self) -> None:
        total = self.progress.total_steps
        if total and (rise := self.schedule.rise(total)) >= total:
            self.hooks.message(
                f"schedule.warmup is {rise} steps long and the run {total}: optimizer.lr is never reached; below 1 it"
                " is a share of the steps"
            )

    def _step(self, factor: float) -> Step:
        progress = self.progress
        torch.manual_seed(_mixed(self.config.seed, progress.step, self.processes.rank))
        batches = [self._prepare() for _ in range(self.micro_batches)]
        step = self.learner.step(batches, factor)
        progress.step += 1
        if not (math.isfinite(step.loss) and math.isfinite(step.gradient_norm)):
            raise UserError(
                f"step {progress.step}: the loss or its gradient is no longer a number: the run has diverged; lower "
                "optimizer.lr or lengthen schedule.warmup, and choose another --out"
            )
        progress.tokens += step.tokens
        progress.seconds = self._seconds()
        return step

    def _prepare(self) -> Batch:
        samples = self.loader.next_batch()
        rng = np.random.default_rng([self.config.seed, self.loader.position, self.processes.rank])
        return self.learner.objective.prepare(samples, rng)

    def _evaluate(self) -> dict[str, float]:
        began = time.perf_counter()
        metrics = dict(self.hooks.evaluate())
        self.progress.evaluation_seconds = time.perf_counter() - began
        if "valid_loss" in metrics:
            metrics["valid_loss"] = self.processes.first_says(metrics["valid_loss"])  # all must decide alike
            progress = self.progress
            better = metrics["valid_loss"] < progress.best_loss
            progress.best_loss = min(progress.best_loss, metrics["valid_loss"])
            progress.since_best = 0 if better else progress.since_best + 1
        return metrics

    def _line(self, step: Step, factor: float, seconds: float) -> dict[str, Any]:
        progress = self.progress
        parts = step.terms if len(step.terms) > 1 else {}
        return {
            "step": progress.step,
            "tokens": progress.tokens,
            "seconds": round(progress.seconds, 3),
            "loss": step.loss,
            **{f"loss_{name}": value for name, value in parts.items()},
            "lr": factor * self.learner.optimizers.config.lr,
            "grad_norm": step.gradient_norm,
            "tokens_per_second": round(step.tokens / seconds, 1),
        }

    def _report(self, log: MetricsLog | None, metrics: dict[str, Any]) -> None:
        if log is not None:
            log.write(metrics)
            self.hooks.logged(metrics)

    def _save(self, loss: float | None) -> None:
        """A checkpoint; `best` among those that were evaluated as they were saved."""
        best = loss is not None and loss < self.progress.best_saved
        if loss is not None and best:
            self.progress.best_saved, self.progress.best_step = loss, self.progress.step
        carried = self._carried()
        if self._writes:
            state = {
                "data": self.data,
                "progress": asdict(self.progress),
                "loader": self.loader.state_dict(),
                "objective": {name: value for name, value in self.learner.state.items() if name not in carried},
            }
            tensors = {f"optimizer/{name}": t for name, t in self.learner.optimizers.state().items()}
            tensors |= {f"objective/{name}": t for name, t in carried.items()}
            self.checkpoints.save(self.progress.step, self.hooks.save_model, state, tensors, best=best)
        self.processes.wait()

    def _carried(self) -> dict[str, torch.Tensor]:
        """The tensors in the objective's state: a row for each stream, each from the process that reads it."""
        carried = {name: t.clone() for name, t in self.learner.state.items() if isinstance(t, torch.Tensor)}
        for tensor in carried.values():
            tensor[torch.from_numpy(~self.loader.own(len(tensor)))] = 0
        self.processes.fill_in(carried.values())
        return carried

    def _seconds(self) -> float:
        return time.perf_counter() - self._before


def _due(every: int, step: int) -> bool:
    return bool(every) and step % every == 0


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _mixed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)
