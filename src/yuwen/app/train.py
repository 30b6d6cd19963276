"""A recipe → a trained run: text, tokenizer, shards, model, loop, each step from its own folder of the library."""

from __future__ import annotations

import errno
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from yuwen.app import machine
from yuwen.app.learn import Learning
from yuwen.app.memory import out_of_memory, refuse_too_large
from yuwen.app.progress import Progress
from yuwen.app.recipe import DataConfig, Recipe, read_recipe
from yuwen.app.run_folder import claim, refuse_change
from yuwen.data import Corpus, Shards, corpus, prepare, split
from yuwen.errors import UserError
from yuwen.evaluation import Evaluator
from yuwen.interop import load_folder
from yuwen.models import LeftToRight, build, left_to_right
from yuwen.tokens import Tokenizer
from yuwen.tokens.train import train as train_tokenizer
from yuwen.tokens.train import training_texts
from yuwen.training import Checkpoints, Processes, Saved, Trainer
from yuwen.training.checkpoint import damaged, read
from yuwen.training.memory import keep_freed_memory

_LEARN = "be trained on the next token"


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
    quiet = quiet or not processes.first
    say = Progress(0, "", quiet=quiet).message
    with ExitStack() as stack:
        stack.callback(processes.leave)
        try:
            if processes.first:
                stack.enter_context(claim(run))
            saved = _saved(run, resume, say)
            if saved is not None:
                recipe = refuse_change(recipe, run)
            elif recipe.train.steps and recipe.train.minutes:
                raise UserError("train: give steps or minutes, not both: set train.steps=0 or train.minutes=0")
            return _Job(recipe, run, processes, say, quiet).execute(saved, started)
        except (RuntimeError, MemoryError, OSError) as error:
            mended = out_of_memory(error, recipe, processes.world) or _no_room(error, run) or processes.lost(error)
            if mended is None:
                raise
            raise mended from error


class _Job:
    """The stages of one run, timed."""

    def __init__(
        self, recipe: Recipe, run: Path, processes: Processes, say: Callable[[str], None], quiet: bool
    ) -> None:
        self.recipe, self.run, self.processes, self.say, self.quiet = recipe, run, processes, say, quiet
        self.stages: dict[str, float] = {}

    def execute(self, saved: Saved | None, started: float) -> Summary:
        training_text, validation_text = self._stage("text", lambda: corpora(self.recipe.data))
        tokenizer = self._stage("tokens", lambda: self._tokenizer(training_text, saved))
        shards = self._stage(
            "data", lambda: self._in_turn(lambda: self._shards(training_text, tokenizer, validation_text))
        )
        evaluator, texts = None, [training_text]
        if validation_text is not None:
            texts.append(validation_text)
            evaluator = self._stage("data", lambda: _evaluator(tokenizer, validation_text, self.recipe.data.length))
        model = self._model(tokenizer, saved)
        parameters = sum(p.numel() for p in model.parameters())
        self.say(
            f"{self.recipe.family} with {parameters:,} parameters, vocabulary {tokenizer.size}; "
            f"{len(shards.tokens):,} training tokens of {shards.meta.bytes:,} bytes"
        )
        learning = Learning(
            self.recipe,
            self.run,
            model,
            tokenizer,
            shards,
            evaluator,
            processes=self.processes,
            say=self.say,
            started=started,
            data=" ".join(text.identity for text in texts),
        )
        if saved is not None:
            learning.resume(saved)
            if learning.trainer.finished:
                step = learning.trainer.progress.step
                self.say(f"{self.run} is finished after {step} steps: raise train.steps or train.patience to go on")
                return self._summary(learning.trainer, tokenizer, shards, parameters)
        self._stage("training", lambda: learning.run(quiet=self.quiet))
        summary = self._summary(learning.trainer, tokenizer, shards, parameters)
        if self.processes.first:
            (self.run / "summary.json").write_text(
                json.dumps(vars(summary), ensure_ascii=False, indent=1), encoding="utf-8"
            )
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
        return prepare(training_text, tokenizer, text=data.text, deduplicate=data.deduplicate, exclude=validation_text)

    def _model(self, tokenizer: Tokenizer, saved: Saved | None) -> LeftToRight:
        start = saved.folder if saved is not None else None
        if start is None and self.recipe.model.get("from"):
            from yuwen.app.sources import resolve

            start = resolve(str(self.recipe.model["from"]))
        if start is not None:
            model = left_to_right(load_folder(start)[0], _LEARN)
            if saved is None:
                _refuse_other_shape(self.recipe, model)
            return _own(model, self.recipe.model)
        config = self.recipe.model_config_for(tokenizer.size)
        with torch.device("meta"):
            parameters = sum(p.numel() for p in build(config).parameters())
        refuse_too_large(self.recipe, config, parameters, self.processes.world)
        return left_to_right(build(config, torch.Generator().manual_seed(self.recipe.train.seed)), _LEARN)

    def _summary(self, trainer: Trainer, tokenizer: Tokenizer, shards: Shards, parameters: int) -> Summary:
        progress, meta = trainer.progress, shards.meta
        config: Any = trainer.learner.model.config
        sources = self.recipe.data.train
        return Summary(
            run=str(self.run),
            steps=progress.step,
            tokens=progress.tokens,
            seconds=round(progress.seconds, 2),
            parameters=parameters,
            best_loss=None if progress.best_loss == float("inf") else progress.best_loss,
            stages={name: round(seconds, 2) for name, seconds in self.stages.items()},
            data={
                "source": sources if isinstance(sources, str) else " ".join(sources),
                "documents": meta.documents + sum(meta.dropped.values()),
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
            model={"parameters": parameters, "family": config.MODEL_TYPE, **config.model_dump(mode="json")},
            machine={"processor": machine.processor(), "cores": machine.cores(), "torch": torch.__version__},
        )


def train_file(path: Path, run: Path | None, overrides: list[str], *, resume: str | None, quiet: bool) -> Summary:
    """`train` for a recipe file; the run folder defaults to runs/NAME."""
    started = time.perf_counter()
    recipe = read_recipe(path, overrides)
    return train(recipe, run or Path("runs") / path.stem, resume=resume, quiet=quiet, started=started)


def corpora(data: DataConfig) -> tuple[Corpus, Corpus | None]:
    """(what is learnt from, what is only measured) of a recipe; no validation where `data.valid` is 0."""
    sources = [data.train] if isinstance(data.train, str) else list(data.train)
    whole = corpus(sources, field=data.field, encoding=data.encoding)
    if not data.valid:
        return whole, None
    held_out = data.valid if isinstance(data.valid, float) else corpus(data.valid, data.field, data.encoding)
    return split(whole, held_out)


def _saved(run: Path, resume: str | None, say: Callable[[str], None]) -> Saved | None:
    checkpoints = Checkpoints(run, warn=say)
    if resume is None:
        if checkpoints.steps():
            raise UserError(f"{run} holds a run already: add --resume auto to go on with it, or choose another --out")
        return None
    if resume == "auto":
        return checkpoints.load()
    folder = Path(resume).resolve()
    if folder.parent != run.resolve() or not re.fullmatch(r"checkpoint-\d+", folder.name):
        raise UserError(f"--resume {resume}: give a checkpoint-N folder of {run}, or auto")
    if not folder.is_dir():
        raise UserError(f"--resume {resume}: there is no such checkpoint")
    if (damage := damaged(folder)) is not None:
        raise UserError(f"--resume {resume}: damaged ({damage}); use --resume auto for the newest whole one")
    return read(folder)


def _evaluator(tokenizer: Tokenizer, validation_text: Corpus, length: int) -> Evaluator:
    stride = max(1, length - 1)  # windows share one token, so that every token but the very first is scored
    return Evaluator(tokenizer, validation_text.documents(), window=length, stride=stride, refuse_unknown=False)


def _own(model: LeftToRight, settings: Mapping[str, Any]) -> LeftToRight:
    """A loaded model with weights of its own, which may be written to, and with what no config.json holds: dropout."""
    kept = {key: value for key, value in settings.items() if _is_unpublished(model, key)}
    own = build(type(model.config).parse("model", {**model.config.model_dump(), **kept}))
    own.load_state_dict(model.state_dict())
    return left_to_right(own, _LEARN)


def _is_unpublished(model: LeftToRight, key: str) -> bool:
    return key in type(model.config).model_fields and key not in model.config.PUBLISHED


def _refuse_other_shape(recipe: Recipe, model: LeftToRight) -> None:
    for key, value in recipe.model.items():
        if key in ("from", "family") or _is_unpublished(model, key):
            continue
        if not hasattr(model.config, key) or getattr(model.config, key) != value:
            raise UserError(f"model.{key}={value!r}: the model that model.from names has another; leave the key out")


def _no_room(error: BaseException, run: Path) -> UserError | None:
    """A disk that was full outside a checkpoint, such as under a line of metrics."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return UserError(
        f"{error.filename or run}: {error.strerror}; checkpoints are whole: make room and continue with --resume auto"
    )
