"""What a task needs of a loaded model, and what it takes as input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from yuwen.errors import UserError
from yuwen.text import Document
from yuwen.tokens import Tokenizer

Input = str | Document


class Usable(Protocol):
    """A model ready for use, as `yuwen.load` gives it."""

    @property
    def path(self) -> Path: ...
    @property
    def family(self) -> str: ...
    @property
    def model(self) -> Any: ...
    @property
    def tokenizer(self) -> Tokenizer | None: ...
    @property
    def encoder(self) -> bool: ...
    @property
    def classifier(self) -> Any:
        """The model with its own head for classes (`models.Classifier`), if it was trained with one."""
        ...

    @property
    def chat(self) -> bool: ...
    @property
    def end_ids(self) -> Sequence[int]: ...
    def hidden(self, ids_BT: Any, keep: Any = None) -> Tensor: ...


class Pooling(Protocol):
    """How token states become one vector, as a sentence encoder's folder says (`interop.sentence.read_pooling`)."""

    @property
    def mode(self) -> str: ...
    @property
    def normalize(self) -> bool: ...
    @property
    def length(self) -> int: ...
    @property
    def lower(self) -> bool: ...


def tokenizer_of(loaded: Usable) -> Tokenizer:
    """The model's tokenizer. UserError if it came without one."""
    if loaded.tokenizer is None:
        raise UserError(f"{loaded.path}: the model comes without a tokenizer, so text has no ids")
    return loaded.tokenizer


def answers_sources(loaded: Usable) -> bool:
    """Whether it is an encoder–decoder: it writes a target for a source, and continues nothing."""
    return bool(loaded.model.config.reads == "pairs")


def need_writer(loaded: Usable, task: str) -> None:
    """UserError for a model that writes nothing: one trained to tell classes, and an encoder."""
    if loaded.classifier is not None:
        raise UserError(f"{loaded.path}: {task} needs a model that writes, and this one tells classes: use classify")
    if loaded.encoder:
        raise UserError(
            f"{loaded.path}: {task} needs a model that writes, and {loaded.family} only reads: give a decoder "
            "(llama, qwen3, gemma3 …)"
        )


def need_decoder(loaded: Usable, task: str) -> None:
    """UserError for a model that does not continue text: one that writes nothing, and an encoder–decoder."""
    need_writer(loaded, task)
    if answers_sources(loaded):
        raise UserError(
            f"{loaded.path}: {task} needs a model that continues text, and {loaded.family} answers a source as it was "
            "trained to: ask it by complete"
        )


def refuse(task: str, kind: str, **settings: Any) -> None:
    """UserError for the first setting that was given and means nothing to this kind of model."""
    for name, value in settings.items():
        if value is not None:
            raise UserError(f"{task}: {name} means nothing for {kind}, which would ignore it: leave it out")


def documents(inputs: Iterable[Input]) -> Iterator[Document]:
    """Inputs with a place to name when one of them is wrong; plain strings are numbered."""
    for number, item in enumerate(inputs, 1):
        yield Document(item, "input", number) if isinstance(item, str) else item


def place(document: Document) -> str:
    """Where an input stood: file:line."""
    return f"{document.source}:{document.line}"
