"""A model, a tokenizer and what it reads → the trainer that joins them, with what it is given from outside: evaluation,
samples, weights to save, a screen."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from yuwen.app.machine import probe
from yuwen.app.progress import Progress
from yuwen.app.run.feed import Feed, identity
from yuwen.app.run.flops import flops_per_token
from yuwen.app.run.own import readings_more
from yuwen.app.run.recipe import Recipe, read_recipe, write_recipe
from yuwen.app.run.speak import speaker
from yuwen.data import Loader
from yuwen.data.loader import Source
from yuwen.errors import UserError
from yuwen.interop import save_folder
from yuwen.interop.fitting import assign
from yuwen.models import Classifier, Model, shell
from yuwen.models.inference import inference
from yuwen.nn import Attention, fused
from yuwen.objectives import Batch, Objective, build_objective
from yuwen.objectives.classify import ClassifyObjective
from yuwen.tokens import Tokenizer
from yuwen.training import Hooks, Learner, Processes, Saved, Trainer, choose_precision
from yuwen.training.logging import cut_back

_COUNTED = 4  # samples of a batch whose operations are counted
_GROUPS = 16  # batches of rows from which they are taken: each is of like length, and all together of many


class Learning:
    """One run's training: builds the trainer, answers its hooks, shows how it goes."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        model: Model | Classifier,
        tokenizer: Tokenizer,
        feed: Feed,
        *,
        processes: Processes,
        say: Callable[[str], None],
        started: float | None,
    ) -> None:
        assert recipe.objective is not None
        self.folder, self.model, self.tokenizer = run, model, tokenizer
        self.processes, self.say = processes, say
        dtype, why = _precision(recipe.train.precision, processes)
        compiled, why_compiled = _compiles(recipe.train.compile)
        say(f"computing in {str(dtype).removeprefix('torch.')} ({why}), {why_compiled}")
        attends = any(isinstance(part, Attention) for part in model.modules())
        if compiled and dtype == torch.bfloat16 and attends and (reason := fused.prepare()) is not None:
            say(f"attention without its own kernel, which is slower: {reason}")
        micro_batches, _ = recipe.train.micro_batches(processes.world)
        samples = recipe.train.batch_tokens // recipe.data.length // micro_batches
        objective = build_objective(recipe.objective, tokenizer, model.config.reads)
        if isinstance(objective, ClassifyObjective) and isinstance(model, Classifier):
            objective.check(model.config.labels, feed.labels)
        source = feed.source()
        self._objective = objective
        self._counted, self._tokens_per_sample = _some(objective, source, samples)
        self.recipe = recipe
        if recipe.train.flops:  # counted now only where the budget asks: PyTorch takes a second to make ready for it
            self.recipe = _in_steps(recipe, self._flops_per_step(), say)
        self.validation = feed.validation(objective, tokenizer)
        self.speak = speaker(model, tokenizer, recipe.sample, run, recipe.objective.name)
        if self.speak is None and recipe.sample.prompts:
            say(f"a {model.config.MODEL_TYPE} that learns by {recipe.objective.name} writes nothing: no samples")
        self.learner = Learner(
            model.train(), objective, recipe.optimizer, dtype=dtype, compile=compiled, processes=processes
        )
        self.trainer = Trainer(
            self.learner,
            Loader(source, samples, rank=processes.rank, world=processes.world),
            self.recipe.train,
            recipe.schedule,
            run=run,
            hooks=Hooks(self._evaluate, self._sample, self._save_model, self._logged, self._planned, say),
            micro_batches=micro_batches,
            started=started,
            data=identity(feed),
        )

    @functools.cached_property
    def flops_per_token(self) -> float:
        """Operations of one token, forward and backward; the model is as it was, in training or not."""
        with inference(self.model):  # and so not within compiled blocks, where nobody could count
            once = flops_per_token(self.model, self._objective, *self._counted)
        return once * readings_more(self.recipe.objective)

    def _flops_per_step(self) -> float:
        samples = self.recipe.train.batch_tokens // self.recipe.data.length  # of which rows hold less than the length
        return self.flops_per_token * self._tokens_per_sample * samples

    def resume(self, saved: Saved) -> None:
        """Takes up where a checkpoint stands; train.steps may have been raised since."""
        self.trainer.resume(saved)
        progress, given = self.trainer.progress, self.recipe.train.steps
        before = read_recipe(self.folder / "recipe.yaml").train.steps
        if given and given < before:
            self.say(f"{given} steps in all, where it was to be {before}: the schedule from here on is that of {given}")
        if given and self.recipe.train.minutes:
            progress.fixed = True
        progress.total_steps = given or progress.total_steps
        self.recipe = _with_steps(self.recipe, progress.total_steps)
        if not self.trainer.finished:
            self.say(f"resuming {saved.folder} at step {progress.step}")

    def run(self, *, quiet: bool) -> None:
        """Trains to the end."""
        progress = self.trainer.progress
        self.trainer.rewind()
        if self.processes.first:
            write_recipe(self.recipe, self.folder / "recipe.yaml")
            cut_back(self.folder / "samples.jsonl", progress.step)
        with Progress(progress.total_steps, "training", quiet=quiet) as self.screen:
            self.trainer.run()

    def _evaluate(self) -> Mapping[str, float]:
        return {} if self.validation is None else self.validation(self.model)

    def _sample(self, step: int) -> None:
        if self.speak is None:
            return
        with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
            for prompt, text in self.speak():
                self.screen.sample(prompt, text)
                file.write(json.dumps({"step": step, "prompt": prompt, "text": text}, ensure_ascii=False) + "\n")

    def _save_model(self, folder: Path) -> None:
        model = _with_weights(self.model, self.learner.masters.named())
        save_folder(folder, model, self.tokenizer, generation={"yuwen": {"chat": False}})

    def _logged(self, metrics: Mapping[str, Any]) -> None:
        self.screen.step(metrics["step"], metrics)

    def _planned(self, steps: int) -> None:
        self.screen.plan(steps)
        if not self.recipe.train.steps:
            self.say(f"{self.recipe.train.minutes:g} minutes are {steps} steps at this pace")
        self.recipe = _with_steps(self.recipe, steps)
        if self.processes.first:
            write_recipe(self.recipe, self.folder / "recipe.yaml")


def _some(objective: Objective, source: Source, samples: int) -> tuple[list[Batch], float]:
    """Some of what will be learnt from, and how many tokens a sample of it has: a few windows, which are all alike, or
    rows from the shortest to the longest of several batches."""
    groups, few = (_GROUPS if objective.rows else 1), min(samples, _COUNTED)
    places = np.linspace(0, samples - 1, few).astype(np.int64) if objective.rows else np.arange(few)
    batches = [
        objective.prepare(source.samples(start + places), np.random.default_rng(start))
        for start in range(0, groups * samples, samples)
    ]
    return batches, sum(batch.tokens for batch in batches) / (groups * few)


def _precision(asked: str, processes: Processes) -> tuple[torch.dtype, str]:
    """What all processes compute in: weights that some learn in other numbers would drift apart."""
    dtype, why = choose_precision(asked)
    half = processes.sum_counts({"half": float(dtype == torch.bfloat16)})["half"]
    if half in (0, processes.world):
        return dtype, why
    return torch.float32, "not every process has a processor that multiplies bfloat16"


def _compiles(asked: str) -> tuple[bool, str]:
    if asked == "off":
        return False, "eager: asked for"
    verdict = probe.compiler_works()
    if asked == "on" and not verdict:
        raise UserError(f"train.compile=on, but {verdict.reason}: set train.compile=auto")
    return bool(verdict), f"compiled: {verdict.reason}" if verdict else f"eager: {verdict.reason}"


def _in_steps(recipe: Recipe, flops_per_step: float, say: Callable[[str], None]) -> Recipe:
    """The recipe with the number of steps that a budget in operations comes to."""
    train = recipe.train
    if not train.flops or train.steps:
        return recipe
    steps = max(1, int(train.flops / flops_per_step))
    say(f"{train.flops:g} operations are {steps} steps here, of {flops_per_step:.3g} each")
    return _with_steps(recipe, steps)


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": steps})})


def _with_weights(model: Model | Classifier, weights: Mapping[str, torch.Tensor]) -> Model | Classifier:
    """A model of the same shape around the fp32 masters; nothing is copied."""
    empty = shell(model)
    assign(empty, {name: weight.detach() for name, weight in weights.items()})
    return empty
