"""A recipe → a trained run: text, tokenizer, shards, model, loop, each step from its own folder of the library."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from yuwen.app.loading.sources import tokenizer as tokenizer_of
from yuwen.app.machine import resources
from yuwen.app.progress import Progress
from yuwen.app.run import count
from yuwen.app.run.begin import begun_from, fresh, refuse_hopeless, resumed
from yuwen.app.run.feed import Feed, TextFeed, corpora, feed_of
from yuwen.app.run.folder import afresh, claim, refuse_change
from yuwen.app.run.learn import Learning
from yuwen.app.run.memory import out_of_memory
from yuwen.app.run.recipe import Recipe, read_recipe
from yuwen.app.run.summary import Summary
from yuwen.data import share_of
from yuwen.errors import UserError
from yuwen.interop import stored_config
from yuwen.models import FAMILIES, Classifier, Model, family
from yuwen.objectives import OBJECTIVES
from yuwen.tokens import Tokenizer
from yuwen.tokens.train import train as train_tokenizer
from yuwen.tokens.train import training_texts
from yuwen.training import Checkpoints, Processes, Saved
from yuwen.training.checkpoint import damaged, read
from yuwen.training.memory import keep_freed_memory

__all__ = ["Summary", "corpora", "train", "train_file"]


def train(
    recipe: Recipe,
    run: Path,
    *,
    resume: str | None = None,
    quiet: bool = False,
    started: float | None = None,
    preparation_counts: bool = True,
) -> Summary:
    """Trains what the recipe says into the folder `run`.

    `resume` is "auto" (the newest whole checkpoint of `run`, or a fresh start) or a checkpoint folder of `run`.
    `started` is the moment, by time.perf_counter, from which seconds and a budget in minutes count; where
    `preparation_counts` is False they count from when text, tokenizer and model are ready. In a group of processes
    (torchrun) the first one writes. UserError for what the user can mend; nothing on disk is lost by it.
    """
    started = time.perf_counter() if started is None else started
    keep_freed_memory()
    processes = Processes.from_environment()
    quiet = quiet or not processes.first
    say = Progress(0, "", quiet=quiet).message
    job: _Job | None = None
    with ExitStack() as stack:
        stack.callback(processes.leave)
        try:
            if processes.first:
                stack.enter_context(claim(run))
            saved = _saved(run, resume, say)
            if saved is not None:
                recipe = refuse_change(recipe, run)
            else:
                recipe = afresh(recipe, run) if resume else recipe
                one_budget(recipe)
            job = _Job(recipe, run, processes, say, quiet)
            return job.execute(saved, started if preparation_counts else None)
        except (RuntimeError, MemoryError, OSError) as error:
            settled = recipe if job is None else job.recipe
            mended = out_of_memory(error, settled, processes.world) or _no_room(error, run) or processes.lost(error)
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
        self.origin: Path | None = None  # of the model that model.from names

    def execute(self, saved: Saved | None, started: float | None) -> Summary:
        if saved is None:
            self._begin_from()
        # what a count would ignore, processes cannot share or no memory holds is refused before any text is read
        if FAMILIES[self.recipe.family].config.COUNTS:
            count.settings(self.recipe, 1)
        _refuse_shares(self.recipe, self.processes.world)
        if saved is None and self.origin is None and not FAMILIES[self.recipe.family].config.COUNTS:
            refuse_hopeless(self.recipe, self.processes.world)
        feed = self._stage("text", lambda: feed_of(self.recipe))
        tokenizer = self._stage("tokens", lambda: self._tokenizer(feed, saved))
        self._stage("data", lambda: self._in_turn(lambda: feed.prepare(tokenizer)))
        if FAMILIES[self.recipe.family].config.COUNTS:
            return self._counted(tokenizer, feed, saved)
        model = self._model(tokenizer, feed, saved)
        parameters = sum(p.numel() for p in model.parameters())
        self.say(
            f"{family(model.config.MODEL_TYPE).name} with {parameters:,} parameters, vocabulary {tokenizer.size}; "
            f"{feed.meta.tokens:,} training tokens of {feed.meta.bytes:,} bytes"
        )
        learning = self._stage("data", lambda: self._learning(model, tokenizer, feed, started))
        if saved is not None:
            learning.resume(saved)
            if learning.trainer.finished:
                step = learning.trainer.progress.step
                self.say(f"{self.run} is finished after {step} steps: raise train.steps or train.patience to go on")
                return self._told(self._learnt(learning, tokenizer, feed, parameters), again=True)
        self._stage("training", lambda: learning.run(quiet=self.quiet))
        return self._told(self._learnt(learning, tokenizer, feed, parameters))

    def _told(self, summary: Summary, *, again: bool = False) -> Summary:
        """The summary, written down; `again`, of a run that was finished before: only where its end was interrupted."""
        if self.processes.first and not (again and summary.is_written):
            summary.write()
        return summary

    def _counted(self, tokenizer: Tokenizer, feed: Feed, saved: Saved | None) -> Summary:
        """The road of a model that is counted in one pass."""
        assert isinstance(feed, TextFeed)
        if saved is not None:
            self.say(f"{self.run} is finished: a text is counted once")
            counted = count.finished(saved, feed)
        else:
            counted = self._stage("training", lambda: count.fit(self.recipe, self.run, tokenizer, feed, self.say))
        summary = self._summary(
            tokenizer,
            feed,
            count.settings(self.recipe, tokenizer.size),
            steps=counted.step,
            tokens=counted.tokens,
            seconds=counted.seconds,
            parameters=counted.parameters,
            best_loss=counted.valid_loss,
        )
        summary.model["orders"] = counted.orders
        return self._told(summary, again=saved is not None)

    def _learnt(self, learning: Learning, tokenizer: Tokenizer, feed: Feed, parameters: int) -> Summary:
        progress = learning.trainer.progress
        return self._summary(
            tokenizer,
            feed,
            learning.model.config,
            steps=progress.step,
            tokens=progress.tokens,
            seconds=progress.seconds,
            parameters=parameters,
            best_loss=None if progress.best_saved == float("inf") else progress.best_saved,
            flops_per_token=learning.flops_per_token,
        )

    def _begin_from(self) -> None:
        """Finds the model that the run begins from, and settles the recipe by its settings: before any text is read."""
        if start := self.recipe.model.get("from"):
            from yuwen.app.loading.sources import resolve

            self.origin = resolve(str(start))
            if self.origin.is_file():
                raise UserError(
                    f"model.from: {start} is one file of weights to use: give a folder that can be trained on"
                )
            config = stored_config(self.origin)
            if config.COUNTS:
                raise UserError(f"model.from: {start} was counted, and counts learn no further: leave model.from out")
            named, given = family(config.MODEL_TYPE).name, self.recipe.model.get("family")
            if given not in (None, named):
                raise UserError(f"model.family={given}: model.from={start} is a {named}: leave model.family out")
            self.recipe = self.recipe.settled(config)

    def _learning(self, model: Model | Classifier, tokenizer: Tokenizer, feed: Feed, started: float | None) -> Learning:
        return Learning(
            self.recipe, self.run, model, tokenizer, feed, processes=self.processes, say=self.say, started=started
        )

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

    def _tokenizer(self, feed: Feed, saved: Saved | None) -> Tokenizer:
        if saved is not None:
            return Tokenizer.load(saved.folder)
        section = self.recipe.tokenizer
        if section.from_:
            given = tokenizer_of(section.from_)
            bound = self.origin is not None and (self.origin / "tokenizer.json").is_file()
            if self.origin is not None and bound and Tokenizer.load(self.origin).fingerprint != given.fingerprint:
                raise UserError(
                    f"tokenizer.from={section.from_}: model.from learnt with another tokenizer, whose ids it knows: "
                    "leave tokenizer.from out"
                )
            return given
        if self.origin is not None:
            return Tokenizer.load(self.origin)

        folder = self.run / "tokenizer"

        def learn() -> Tokenizer:
            if self.processes.first:
                self.say(f"learning a {section.kind} vocabulary")
                train_tokenizer(training_texts(feed.documents()), section).save(folder)
            return Tokenizer.load(folder)

        return self._in_turn(learn)

    def _model(self, tokenizer: Tokenizer, feed: Feed, saved: Saved | None) -> Model | Classifier:
        if saved is not None:
            return resumed(self.recipe, saved.folder)
        assert self.recipe.objective is not None
        labels = feed.labels if self.recipe.objective.name == "classify" else None
        if self.origin is not None:
            return begun_from(self.recipe, self.origin, tokenizer, labels, self.processes.world, self.say)
        return fresh(self.recipe, tokenizer, labels, self.processes.world)

    def _summary(
        self, tokenizer: Tokenizer, feed: Feed, config: Any, *, seconds: float, parameters: int, **figures: Any
    ) -> Summary:
        meta, sources = feed.meta, self.recipe.data.train
        assert self.recipe.objective is not None
        return Summary(
            run=str(self.run),
            **figures,
            seconds=round(seconds, 2),
            parameters=parameters,
            objective=self.recipe.objective.name,
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
                "kind": tokenizer.kind,
                "size": tokenizer.size,
                "bytes_per_token": round(meta.bytes / meta.tokens, 3),
            },
            model={"parameters": parameters, "family": config.MODEL_TYPE, **config.model_dump(mode="json")},
            machine=resources.described(),
        )


def train_file(path: Path, run: Path | None, overrides: list[str], *, resume: str | None, quiet: bool) -> Summary:
    """`train` for a recipe file; the run folder defaults to runs/NAME, and of a run's own recipe to that run."""
    started = time.perf_counter()
    recipe = read_recipe(path, overrides)
    own = path.name == "recipe.yaml" and Checkpoints(path.parent).steps()
    run = run or (path.parent if own else Path("runs") / path.stem)
    return train(recipe, run, resume=resume, quiet=quiet, started=started)


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


def one_budget(recipe: Recipe) -> None:
    """UserError for a recipe that says twice how long it takes."""
    given = [name for name in ("steps", "minutes", "flops") if getattr(recipe.train, name)]
    if len(given) > 1:
        zero = " or ".join(f"train.{name}=0" for name in given)
        raise UserError(f"train: give {' or '.join(given)}, not both: set {zero}")


def _refuse_shares(recipe: Recipe, world: int) -> None:
    """UserError for what so many processes cannot share."""
    if world == 1:
        return
    if FAMILIES[recipe.family].config.COUNTS:
        raise UserError(f"model.family={recipe.family} is counted by one process: start it without torchrun")
    assert recipe.objective is not None
    length, name = recipe.data.length, recipe.objective.name
    micro_batches, _ = recipe.train.micro_batches(world)
    share = share_of(recipe.train.batch_tokens // length // micro_batches, world)
    # those that compare a whole batch gather what all processes read
    fewest = max((kind.fewest for kind in OBJECTIVES[name] if not kind.together), default=1)
    if share < fewest:
        raise UserError(
            f"objective.name={name} reads one text beside another, and each of {world} processes reads {share} at a"
            f" time: set train.batch_tokens to {fewest * length * world} at least"
        )


def _no_room(error: BaseException, run: Path) -> UserError | None:
    """A disk that was full outside a checkpoint, such as under a line of metrics."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return UserError(
        f"{error.filename or run}: {error.strerror}; checkpoints are whole: make room and continue with --resume auto"
    )
