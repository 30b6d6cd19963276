"""A model, a tokenizer and shards → the trainer that joins them, with what it is given from outside: evaluation,
samples, weights to save, a screen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yuwen.app import probe
from yuwen.app.progress import Progress
from yuwen.app.recipe import Recipe, write_recipe
from yuwen.data import Loader, Shards, Windows
from yuwen.errors import UserError
from yuwen.evaluation import Evaluator
from yuwen.generation import generate
from yuwen.interop import save_folder
from yuwen.models import LeftToRight, build
from yuwen.objectives import CausalObjective
from yuwen.tokens import Tokenizer
from yuwen.training import Hooks, Learner, Processes, Saved, Trainer, choose_precision
from yuwen.training.logging import cut_back


class Learning:
    """One run's training: builds the trainer, answers its hooks, shows how it goes."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        model: LeftToRight,
        tokenizer: Tokenizer,
        shards: Shards,
        evaluator: Evaluator | None,
        *,
        processes: Processes,
        say: Callable[[str], None],
        started: float,
        data: str,
    ) -> None:
        self.recipe, self.folder, self.model, self.tokenizer = recipe, run, model, tokenizer
        self.evaluator, self.processes, self.say = evaluator, processes, say
        dtype, why = choose_precision(recipe.train.precision)
        compiled, why_compiled = _compiles(recipe.train.compile)
        say(f"computing in {str(dtype).removeprefix('torch.')} ({why}), {why_compiled}")
        micro_batches, _ = recipe.train.micro_batches(processes.world)
        windows = Windows(shards, recipe.data.length, seed=recipe.train.seed)
        samples = recipe.train.batch_tokens // recipe.data.length // micro_batches
        self.learner = Learner(
            model.train(),
            CausalObjective(recipe.objective),
            recipe.optimizer,
            dtype=dtype,
            compile=compiled,
            processes=processes,
        )
        self.trainer = Trainer(
            self.learner,
            Loader(windows, samples, rank=processes.rank, world=processes.world),
            recipe.train,
            recipe.schedule,
            run=run,
            hooks=Hooks(self._evaluate, self._sample, self._save_model, self._logged, self._planned, say),
            micro_batches=micro_batches,
            started=started,
            data=data,
        )

    def resume(self, saved: Saved) -> None:
        """Takes up where a checkpoint stands; train.steps may have been raised since."""
        self.trainer.resume(saved)
        progress = self.trainer.progress
        progress.total_steps = self.recipe.train.steps or progress.total_steps
        if not self.trainer.finished:
            self.say(f"resuming {saved.folder} at step {progress.step}")

    def run(self, *, quiet: bool) -> None:
        """Trains to the end."""
        progress = self.trainer.progress
        if self.processes.first:
            write_recipe(self.recipe, self.folder / "recipe.yaml")
            cut_back(self.folder / "samples.jsonl", progress.step)
        with Progress(progress.total_steps, "training", quiet=quiet) as self.screen:
            self.trainer.run()

    def _evaluate(self) -> Mapping[str, float]:
        if self.evaluator is None:
            return {}
        score = self.evaluator(self.model)
        known = {} if score.bits_per_byte is None else {"bits_per_byte": score.bits_per_byte}
        return {"valid_loss": score.loss, **known}

    def _sample(self, step: int) -> None:
        config = self.recipe.sample
        prompts = [(prompt, self.tokenizer.encode(prompt)) for prompt in config.prompts]
        prompts = [(prompt, ids) for prompt, ids in prompts if ids]
        if not prompts:
            return
        results = generate(self.model, [ids for _, ids in prompts], config.sampling(), tokenizer=self.tokenizer)
        with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
            for (prompt, _), result in zip(prompts, results, strict=True):
                self.screen.sample(prompt, result.text)
                file.write(json.dumps({"step": step, "prompt": prompt, "text": result.text}, ensure_ascii=False) + "\n")

    def _save_model(self, folder: Path) -> None:
        model = _with_weights(self.model, self.learner.masters.named())
        save_folder(folder, model, self.tokenizer, generation={"yuwen": {"chat": False}})

    def _logged(self, metrics: Mapping[str, Any]) -> None:
        self.screen.step(metrics["step"], metrics)

    def _planned(self, steps: int) -> None:
        self.screen.plan(steps)
        self.say(f"{self.recipe.train.minutes:g} minutes are {steps} steps here")
        self.recipe = self.recipe.model_copy(update={"train": self.recipe.train.model_copy(update={"steps": steps})})
        if self.processes.first:
            write_recipe(self.recipe, self.folder / "recipe.yaml")


def _compiles(asked: str) -> tuple[bool, str]:
    if asked == "off":
        return False, "eager: asked for"
    verdict = probe.compiler_works()
    if asked == "on" and not verdict:
        raise UserError(f"train.compile=on, but {verdict.reason}: set train.compile=auto")
    return bool(verdict), f"compiled: {verdict.reason}" if verdict else f"eager: {verdict.reason}"


def _with_weights(model: LeftToRight, weights: Mapping[str, torch.Tensor]) -> LeftToRight:
    """A model of the same shape around the fp32 masters; nothing is copied."""
    with torch.device("meta"):
        shell: Any = build(model.config)
    for name, weight in weights.items():
        owner, _, leaf = name.rpartition(".")
        setattr(shell.get_submodule(owner), leaf, nn.Parameter(weight.detach(), requires_grad=False))
    if model.config.tied:
        shell.head.weight = shell.embedding.weight
    return shell
