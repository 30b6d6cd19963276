"""A recipe → a trained run: text, tokenizer, shards, model, loop, each step from its own folder of the library."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yuwen.app import machine, probe
from yuwen.app.progress import Progress
from yuwen.app.recipe import Recipe, read_recipe, write_recipe
from yuwen.app.run_folder import claim, refuse_change
from yuwen.data import Corpus, Loader, Shards, Windows, corpus, prepare, split
from yuwen.errors import UserError
from yuwen.evaluation import Evaluator
from yuwen.generation import generate
from yuwen.interop import load_folder, save_folder
from yuwen.models import Decoder, build
from yuwen.objectives import CausalObjective
from yuwen.tokens import Tokenizer
from yuwen.tokens.train import train as train_tokenizer
from yuwen.tokens.train import training_texts
from yuwen.training import Checkpoints, Hooks, Learner, Processes, Saved, Trainer, choose_precision
from yuwen.training.memory import activations_bytes, fitting_tokens, keep_freed_memory, weights_bytes


@dataclass
class Summary:
    """What a finished run came to; also `summary.json` in its folder."""

    run: str
    steps: int
    tokens: int
    seconds: float
    parameters: int
    best_loss: float | None
    stages: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)


def train(
    recipe: Recipe,
    run: Path,
    *,
    resume: str | None = None,
    quiet: bool = False,
    started: float | None = None,
) -> Summary:
    """Trains what the recipe says into the folder `run`.

    `resume` is "auto" (the newest whole checkpoint of `run`, or a fresh start) or a checkpoint folder of `run`.
    `started` is the moment, by time.perf_counter, from which seconds and a budget in minutes count. In a group of
    processes (torchrun) the first one writes. UserError for what the user can mend; nothing on disk is lost by it.
    """
    started = time.perf_counter() if started is None else started
    keep_freed_memory()
    processes = Processes.from_environment()
    say = Progress(0, "", quiet=quiet or not processes.first).message
    with ExitStack() as stack:
        if processes.first:
            stack.enter_context(claim(run))
        saved = _saved(run, resume, say)
        if saved is not None:
            recipe = refuse_change(recipe, run)
        job = _Job(recipe, run, processes, say, quiet or not processes.first)
        try:
            return job.execute(saved, started)
        except (RuntimeError, MemoryError) as error:
            raise _out_of_memory(error, recipe) from error
        finally:
            processes.leave()


class _Job:
    """The stages of one run, timed."""

    def __init__(
        self, recipe: Recipe, run: Path, processes: Processes, say: Callable[[str], None], quiet: bool
    ) -> None:
        self.recipe, self.run, self.processes, self.say, self.quiet = recipe, run, processes, say, quiet
        self.stages: dict[str, float] = {}

    def execute(self, saved: Saved | None, started: float) -> Summary:
        training_text, validation_text = self._stage("text", self._corpora)
        tokenizer = self._stage("tokens", lambda: self._tokenizer(training_text, saved))
        shards = self._stage("data", lambda: self._in_turn(lambda: self._shards(training_text, tokenizer, validation_text)))
        evaluator = None
        if validation_text is not None:
            evaluator = self._stage("data", lambda: _evaluator(tokenizer, validation_text, self.recipe.data.length))
        model = self._model(tokenizer, saved)
        trainer = self._trainer(model, tokenizer, shards, evaluator, saved, started)
        parameters = sum(p.numel() for p in model.parameters())
        self.say(
            f"{self.recipe.family} with {parameters:,} parameters, vocabulary {tokenizer.size}; "
            f"{len(shards.tokens):,} training tokens of {shards.meta.bytes:,} bytes"
        )
        if saved is None and self.processes.first:
            write_recipe(self.recipe, self.run / "recipe.yaml")
            (self.run / "samples.jsonl").unlink(missing_ok=True)
        total = trainer.progress.total_steps
        if saved is not None and total and trainer.progress.step >= total:
            self.say(f"{self.run} is finished: all {total} steps are done; raise train.steps to go on")
            return self._summary(trainer, tokenizer, shards, parameters)
        with Progress(total, "training", quiet=self.quiet) as self.progress:
            self._stage("training", trainer.run)
        summary = self._summary(trainer, tokenizer, shards, parameters)
        if self.processes.first:
            (self.run / "summary.json").write_text(json.dumps(vars(summary), ensure_ascii=False, indent=1), encoding="utf-8")
        return summary

    def _stage(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - began
        return result

    def _in_turn(self, work: Callable[[], Any]) -> Any:
        """The first process works, the others wait and then find what it made."""
        if self.processes.first:
            result = work()
        self.processes.wait()
        return result if self.processes.first else work()

    def _corpora(self) -> tuple[Corpus, Corpus | None]:
        data = self.recipe.data
        sources = [data.train] if isinstance(data.train, str) else list(data.train)
        whole = corpus(sources, field=data.field, encoding=data.encoding)
        if not data.valid:
            return whole, None
        held_out = data.valid if isinstance(data.valid, float) else corpus(data.valid, data.field, data.encoding)
        return split(whole, held_out)

    def _tokenizer(self, training_text: Corpus, saved: Saved | None) -> Tokenizer:
        if saved is not None:
            return Tokenizer.load(saved.folder)
        section, start = self.recipe.tokenizer, self.recipe.model.get("from")
        if section.from_ or start:
            from yuwen.app.sources import resolve

            return Tokenizer.load(resolve(str(section.from_ or start)))

        folder = self.run / "tokenizer"

        def learn() -> Tokenizer:
            if self.processes.first:
                self.say(f"learning a {section.kind} vocabulary")
                train_tokenizer(training_texts(training_text.documents()), section).save(folder)
            return Tokenizer.load(folder)

        return self._in_turn(learn)

    def _shards(self, training_text: Corpus, tokenizer: Tokenizer, validation_text: Corpus | None) -> Shards:
        data = self.recipe.data
        return prepare(
            training_text, tokenizer, text=data.text, deduplicate=data.deduplicate, exclude=validation_text
        )

    def _model(self, tokenizer: Tokenizer, saved: Saved | None) -> Decoder:
        start = saved.folder if saved is not None else None
        if start is None and self.recipe.model.get("from"):
            from yuwen.app.sources import resolve

            start = resolve(str(self.recipe.model["from"]))
        if start is not None:
            model, _ = load_folder(start)
            if saved is None:
                _refuse_other_shape(self.recipe, model)
            model = _unmapped(model)
        else:
            config = self.recipe.model_config_for(tokenizer.size)
            with torch.device("meta"):
                parameters = sum(p.numel() for p in build(config).parameters())
            self._refuse_too_large(config, parameters)
            generator = torch.Generator().manual_seed(self.recipe.train.seed)
            model = build(config, generator)
        return model

    def _refuse_too_large(self, config: Any, parameters: int) -> None:
        train = self.recipe.train
        element = choose_precision(train.precision)[0].itemsize
        fixed = weights_bytes(parameters, element, self.recipe.optimizer.name)
        tokens, length = self._micro_tokens(), self.recipe.data.length
        needed = fixed + activations_bytes(config, tokens, length, element)
        free = machine.memory()[1]
        if needed <= free:
            return
        fits = fitting_tokens(config, length, element, free - fixed)
        mend = (
            f"set train.micro_tokens={fits}" if fits else "choose a smaller model.width, model.layers or data.length"
        )
        raise UserError(
            f"this needs about {needed / 2**30:.1f} GiB ({parameters:,} parameters, {tokens} tokens at a time) and "
            f"{free / 2**30:.1f} GiB are free: {mend}"
        )

    def _micro_tokens(self) -> int:
        train = self.recipe.train
        return train.micro_tokens or train.batch_tokens // self.processes.world

    def _trainer(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        shards: Shards,
        evaluator: Evaluator | None,
        saved: Saved | None,
        started: float,
    ) -> Trainer:
        recipe, processes = self.recipe, self.processes
        dtype, why = choose_precision(recipe.train.precision)
        compiled, why_compiled = _compiles(recipe.train.compile)
        self.say(f"computing in {str(dtype).removeprefix('torch.')} ({why}), {why_compiled}")
        samples = recipe.train.batch_tokens // recipe.data.length
        micro = recipe.train.batch_tokens // processes.world // self._micro_tokens()
        windows = Windows(shards, recipe.data.length, seed=recipe.train.seed)
        loader = Loader(windows, samples // micro, rank=processes.rank, world=processes.world)
        model.train()
        learner = Learner(
            model, CausalObjective(recipe.objective), recipe.optimizer, dtype=dtype, compile=compiled, processes=processes
        )

        def evaluate() -> Mapping[str, float]:
            if evaluator is None:
                return {}
            score = evaluator(model)
            known = {} if score.bits_per_byte is None else {"bits_per_byte": score.bits_per_byte}
            return {"valid_loss": score.loss, **known}

        def sample(step: int) -> None:
            self._sample(step, model, tokenizer)

        def save_model(folder: Path) -> None:
            save_folder(folder, _with_weights(model, learner.masters.named()), tokenizer, generation={"yuwen": {"chat": False}})

        def planned(steps: int) -> None:
            self.progress.total = steps
            self.say(f"{recipe.train.minutes:g} minutes are {steps} steps here")
            if processes.first:
                self.recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": steps})})
                write_recipe(self.recipe, self.run / "recipe.yaml")

        hooks = Hooks(
            evaluate=evaluate,
            sample=sample,
            save_model=save_model,
            logged=lambda metrics: self.progress.step(metrics["step"], metrics),
            planned=planned,
            message=self.say,
        )
        trainer = Trainer(
            learner, loader, recipe.train, recipe.schedule, run=self.run, hooks=hooks, micro_batches=micro, started=started
        )
        if saved is not None:
            trainer.resume(saved)
            trainer.progress.total_steps = recipe.train.steps or trainer.progress.total_steps
            self.say(f"resuming {saved.folder} at step {trainer.progress.step}")
        return trainer

    def _sample(self, step: int, model: Decoder, tokenizer: Tokenizer) -> None:
        config = self.recipe.sample
        prompts = [(prompt, tokenizer.encode(prompt)) for prompt in config.prompts]
        prompts = [(prompt, ids) for prompt, ids in prompts if ids]
        if not prompts:
            return
        results = generate(model, [ids for _, ids in prompts], config.sampling(), tokenizer=tokenizer)
        with (self.run / "samples.jsonl").open("a", encoding="utf-8") as file:
            for (prompt, _), result in zip(prompts, results, strict=True):
                self.progress.sample(prompt, result.text)
                file.write(json.dumps({"step": step, "prompt": prompt, "text": result.text}, ensure_ascii=False) + "\n")

    def _summary(self, trainer: Trainer, tokenizer: Tokenizer, shards: Shards, parameters: int) -> Summary:
        progress, meta = trainer.progress, shards.meta
        best = progress.best_loss
        dropped = sum(meta.dropped.values())
        return Summary(
            run=str(self.run),
            steps=progress.step,
            tokens=progress.tokens,
            seconds=round(progress.seconds, 2),
            parameters=parameters,
            best_loss=None if best == float("inf") else best,
            stages={name: round(seconds, 2) for name, seconds in self.stages.items()},
            data={
                "source": self.recipe.data.train if isinstance(self.recipe.data.train, str) else " ".join(self.recipe.data.train),
                "documents": meta.documents + dropped,
                "kept": meta.documents,
                "bytes": meta.bytes,
                "tokens": meta.tokens,
                "dropped": dict(meta.dropped),
            },
            tokenizer={
                "kind": self.recipe.tokenizer.kind,
                "size": tokenizer.size,
                "bytes_per_token": round(meta.bytes / meta.tokens, 3),
            },
            model={"parameters": parameters, **_shape(trainer.learner.model)},
            machine={"processor": machine.processor(), "cores": machine.cores(), "torch": torch.__version__},
        )


def train_file(path: Path, run: Path | None, overrides: list[str], *, resume: str | None, quiet: bool) -> Summary:
    """`train` for a recipe file; the run folder defaults to runs/NAME."""
    started = time.perf_counter()
    recipe = read_recipe(path, overrides)
    return train(recipe, run or Path("runs") / path.stem, resume=resume, quiet=quiet, started=started)


def _saved(run: Path, resume: str | None, say: Callable[[str], None]) -> Saved | None:
    checkpoints = Checkpoints(run, warn=say)
    if resume is None:
        if checkpoints.steps():
            raise UserError(f"{run} holds a run already: add --resume auto to go on with it, or choose another --out")
        return None
    if resume == "auto":
        return checkpoints.load()
    folder = Path(resume).resolve()
    if folder.parent != run.resolve() or not folder.name.startswith("checkpoint-"):
        raise UserError(f"--resume {resume}: give a checkpoint-N folder of {run}, or auto")
    if not folder.is_dir():
        raise UserError(f"--resume {resume}: there is no such checkpoint")
    saved = checkpoints.load(int(folder.name.removeprefix("checkpoint-")))
    if saved is None or saved.folder.name != folder.name:
        raise UserError(f"--resume {resume}: that checkpoint is damaged; use --resume auto for the newest whole one")
    return saved


def _evaluator(tokenizer: Tokenizer, validation_text: Corpus, length: int) -> Evaluator:
    return Evaluator(tokenizer, validation_text.documents(), window=length, stride=length, refuse_unknown=False)


def _compiles(asked: str) -> tuple[bool, str]:
    if asked == "off":
        return False, "eager: asked for"
    verdict = probe.compiler_works()
    if asked == "on" and not verdict:
        raise UserError(f"train.compile=on, but {verdict.reason}: set train.compile=auto")
    return bool(verdict), f"compiled: {verdict.reason}" if verdict else f"eager: {verdict.reason}"


def _with_weights(model: Decoder, weights: Mapping[str, torch.Tensor]) -> Decoder:
    """A model of the same shape around the fp32 masters; nothing is copied."""
    with torch.device("meta"):
        shell = build(model.config)
    for name, weight in weights.items():
        owner, _, leaf = name.rpartition(".")
        setattr(shell.get_submodule(owner), leaf, nn.Parameter(weight.detach(), requires_grad=False))
    if model.config.tied:
        shell.head.weight = shell.embedding.weight
    return shell


def _unmapped(model: Decoder) -> Decoder:
    """The model with weights of its own, which may be written to."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
        parameter.requires_grad_(True)
    return model


def _shape(model: nn.Module) -> dict[str, Any]:
    config = model.config
    return {"family": config.MODEL_TYPE, **config.model_dump(mode="json")}


def _refuse_other_shape(recipe: Recipe, model: Decoder) -> None:
    for key, value in recipe.model.items():
        if key in ("from", "family"):
            continue
        if not hasattr(model.config, key) or getattr(model.config, key) != value:
            raise UserError(f"model.{key}={value!r}: the model that model.from names has another; leave the key out")


def _out_of_memory(error: BaseException, recipe: Recipe) -> BaseException:
    text = str(error)
    if not isinstance(error, MemoryError) and "not enough memory" not in text and "out of memory" not in text:
        return error
    now = recipe.train.micro_tokens or recipe.train.batch_tokens
    half = max(recipe.data.length, now // 2 // recipe.data.length * recipe.data.length)
    return UserError(f"out of memory: set train.micro_tokens={half} (now {now}), or choose a smaller model")
