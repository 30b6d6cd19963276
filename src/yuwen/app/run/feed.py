"""What a run learns from and is measured on, by kind: running text, or rows of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from torch import nn

from yuwen.app.run.recipe import DataConfig, Recipe
from yuwen.data import (
    RAW,
    Corpus,
    Frame,
    Records,
    RowShards,
    Shards,
    Streams,
    Windows,
    corpus,
    field_texts,
    in_order,
    prepare,
    prepare_rows,
    split,
)
from yuwen.data.loader import Source
from yuwen.data.records import RowMeta
from yuwen.data.shards import Meta
from yuwen.errors import UserError
from yuwen.evaluation import Evaluator
from yuwen.evaluation.classification import evaluate_rows
from yuwen.models.inference import inference
from yuwen.objectives import OBJECTIVES, Objective
from yuwen.objectives.classify import ClassifyObjective
from yuwen.text import Document
from yuwen.tokens import Tokenizer

Validation = Callable[[Any], Mapping[str, float]]

_MEASURED = 4096  # tokens that are measured at a time


class Feed(Protocol):
    """A recipe's data, from documents to samples."""

    training: Corpus
    held_out: Corpus | None

    @property
    def meta(self) -> Meta | RowMeta:
        """What the shards hold, once they are made."""
        ...

    @property
    def labels(self) -> list[str]:
        """Names of the classes, where rows have some."""
        ...

    def documents(self) -> Iterator[Document]:
        """What a tokenizer learns from."""
        ...

    def prepare(self, tokenizer: Tokenizer) -> None:
        """Makes the shards, or finds them made."""
        ...

    def source(self) -> Source:
        """Where a loader draws from."""
        ...

    def validation(self, objective: Objective, tokenizer: Tokenizer) -> Validation | None:
        """How a model is measured while it learns; None where nothing is held out."""
        ...


def identity(feed: Feed) -> str:
    """What a run learns from and is measured on, by content: another text has another."""
    return " ".join(text.identity for text in (feed.training, feed.held_out) if text is not None)


def feed_of(recipe: Recipe) -> Feed:
    """The feed of a recipe whose objective is settled."""
    return RowFeed(recipe) if recipe.data.fields is not None else TextFeed(recipe)


class TextFeed:
    """Running text in windows: shuffled, or in streams that read on."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.training, self.held_out = corpora(recipe.data)
        self.shards: Shards

    @property
    def meta(self) -> Meta:
        return self.shards.meta

    @property
    def labels(self) -> list[str]:
        return []

    def documents(self) -> Iterator[Document]:
        return self.training.documents()

    def prepare(self, tokenizer: Tokenizer) -> None:
        data = self.recipe.data
        self.shards = prepare(
            self.training,
            tokenizer,
            text=data.text,
            deduplicate=data.deduplicate,
            exclude=self.held_out,
            words=data.words,
        )

    def source(self) -> Source:
        data, train = self.recipe.data, self.recipe.train
        if data.order == "stream":
            return Streams(self.shards, data.length, rows=train.batch_tokens // data.length, seed=train.seed)
        return Windows(self.shards, data.length, seed=train.seed)

    def validation(self, objective: Objective, tokenizer: Tokenizer) -> Validation | None:
        if self.held_out is None:
            return None
        data, seed = self.recipe.data, self.recipe.train.seed
        if self.recipe.objective is not None and self.recipe.objective.name == "causal":
            return Exact(tokenizer, self.held_out, data.length)
        shards = prepare(self.held_out, tokenizer, text=RAW, deduplicate=False, words=data.words)
        if (held := len(shards.tokens)) <= data.length:
            raise UserError(
                f"data.valid holds out {held} tokens, fewer than one window of data.length + 1 = {data.length + 1}:"
                " hold out more, or use a smaller data.length"
            )
        samples = _measured_at_once(data.length)
        if data.order == "stream":  # what came before is remembered, as in training
            streams = Streams(shards, data.length, rows=min(samples, (held - 1) // data.length))
            steps = np.arange(-(-streams.per_epoch // streams.rows))[:, None] * streams.rows
            return ObjectiveLoss(objective, lambda: map(streams.samples, steps + np.arange(streams.rows)), seed)
        windows = Windows(shards, data.length)
        total = max(2, windows.per_epoch)  # two at least: a second sentence comes from another window
        parts = np.array_split(np.arange(total), max(1, total // samples))
        return ObjectiveLoss(objective, lambda: map(windows.samples, parts), seed)


class RowFeed:
    """Records, each of some texts and perhaps a label or a score."""

    def __init__(self, recipe: Recipe) -> None:
        assert recipe.data.fields is not None
        self.recipe, self.fields = recipe, recipe.data.fields
        self.training, self.held_out = corpora(recipe.data)
        self.shards: RowShards

    @property
    def meta(self) -> RowMeta:
        return self.shards.meta

    @property
    def labels(self) -> list[str]:
        return self.shards.meta.labels

    def documents(self) -> Iterator[Document]:
        return field_texts(self.training, self.fields)

    def prepare(self, tokenizer: Tokenizer) -> None:
        data = self.recipe.data
        self.shards = prepare_rows(
            self.training,
            self.fields,
            tokenizer,
            text=data.text,
            deduplicate=data.deduplicate,
            exclude=self.held_out,
        )

    def source(self) -> Source:
        assert self.recipe.objective is not None
        length, train, name = self.recipe.data.length, self.recipe.train, self.recipe.objective.name
        group, there = train.batch_tokens // length, len(self.shards)  # a step's rows, in parts or not
        together = any(kind.together for kind in OBJECTIVES[name])
        if together and there < group:
            raise UserError(
                f"objective.name={name} compares the {group} rows of a batch, and there are {there}: rows would meet"
                f" themselves; set train.batch_tokens to {there * length} at most"
            )
        return Records(self.shards, length, group, train.seed, whole=together)  # or a row would stand against itself

    def validation(self, objective: Objective, tokenizer: Tokenizer) -> Validation | None:
        if self.held_out is None:
            return None
        data, known = self.recipe.data, self.shards.meta.labels or None
        # what is split off the training rows has their copies and contradictions; a DATA of its own is as it is, but
        # for rows that are compared with each other: of two alike each would be the other's wrong answer
        once = data.deduplicate and (_by_share(data.valid) or objective.together)
        rows = prepare_rows(self.held_out, self.fields, tokenizer, text=RAW, deduplicate=once, labels=known)
        length, samples = data.length, _measured_at_once(data.length)
        if objective.together and len(rows) < 2:
            raise UserError(f"data.valid={data.valid} holds out one row, with none to be compared with: hold out more")
        if isinstance(objective, ClassifyObjective):
            return Told(rows, objective.frame, length)
        return ObjectiveLoss(objective, lambda: in_order(rows, length, samples), self.recipe.train.seed)


class Exact:
    """Nats per token and bits per byte, from left to right, over all that is held out."""

    def __init__(self, tokenizer: Tokenizer, held_out: Corpus, length: int) -> None:
        stride = max(1, length - 1)  # windows share one token, so that every token but the very first is scored
        self.evaluator = Evaluator(tokenizer, held_out.documents(), window=length, stride=stride, refuse_unknown=False)

    def __call__(self, model: Any) -> dict[str, float]:
        score = self.evaluator(model)
        known = {} if score.bits_per_byte is None else {"bits_per_byte": score.bits_per_byte}
        return {"valid_loss": score.loss, **known}


class Told:
    """How often a classifier is right about all that is held out."""

    def __init__(self, rows: RowShards, frame: Frame, length: int) -> None:
        self.rows, self.frame, self.length = rows, frame, length

    def __call__(self, model: Any) -> dict[str, float]:
        found = evaluate_rows(model, self.rows, self.frame, self.length)
        return {"valid_loss": found.loss, "accuracy": found.accuracy, "macro_f1": found.macro_f1}


class ObjectiveLoss:
    """The objective's own loss over all that is held out, which is prepared the same way every time it is measured.

    Terms are summed over everything, divided by their counts, and added up by their weights, as in training.
    """

    def __init__(self, objective: Objective, batches: Callable[[], Iterator[Any]], seed: int) -> None:
        self.objective, self.batches, self.seed = objective, batches, seed

    def __call__(self, model: nn.Module) -> dict[str, float]:
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        weights: dict[str, float] = {}
        state: dict[str, Any] = {}
        with inference(model):
            for number, samples in enumerate(self.batches()):
                batch = self.objective.prepare(samples, np.random.default_rng([self.seed, number]))
                for name, term in self.objective.loss(model, batch, state).items():
                    sums[name] = sums.get(name, 0.0) + float(term.sum)
                    counts[name] = counts.get(name, 0) + term.count
                    weights[name] = term.weight
        means = {name: sums[name] / max(1, counts[name]) for name in sums}
        parts = {f"valid_{name}": mean for name, mean in means.items()} if len(means) > 1 else {}
        return {"valid_loss": sum(weights[name] * mean for name, mean in means.items()), **parts}


def _measured_at_once(length: int) -> int:
    """Windows or rows of a batch that is only measured: never those of a step, whose size may change when a run goes
    on, for what chance hides in them depends on it."""
    return max(2, _MEASURED // length)


def corpora(data: DataConfig) -> tuple[Corpus, Corpus | None]:
    """(what is learnt from, what is only measured) of a recipe; no validation where `data.valid` is 0."""
    sources = [data.train] if isinstance(data.train, str) else list(data.train)
    field = data.field if data.fields is None else data.fields.first
    whole = corpus(sources, field=field, encoding=data.encoding)
    if not data.valid:
        return whole, None
    if _by_share(data.valid):
        return split(whole, data.valid)
    return split(whole, corpus(str(data.valid), field, data.encoding))


def _by_share(valid: str | float) -> bool:
    return isinstance(valid, float) or valid.startswith("hash:")
