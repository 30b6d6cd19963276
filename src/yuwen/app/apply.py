"""A task applied: the model's published pooling and the files that settings name, brought to the task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from yuwen import tasks
from yuwen.app.loading.pooling import published_pooling
from yuwen.app.run.measure import learnt_by
from yuwen.errors import UserError
from yuwen.tasks.answer import asked_of
from yuwen.tasks.contract import place
from yuwen.tasks.extract import read_schema
from yuwen.tasks.files import read_context, read_of, settings_shown
from yuwen.tasks.prompts import Prompt
from yuwen.tasks.trained import judged_of

if TYPE_CHECKING:
    from yuwen.app.loading.load import Loaded
    from yuwen.text import Document

_FILES: dict[str, Callable[[str], Any]] = {
    "shots": tasks.read_inputs,
    "candidates": tasks.read_inputs,
    "context": read_context,
    "schema": read_schema,
}
_PROMPTS = ("prompt", "label_prompt")


def check(task: str, settings: Mapping[str, Any]) -> None:
    """UserError for a setting that the task would ignore, for one it needs and lacks, and for a file that is not there.

    No model is needed for this: what it may cost to fetch and load one is not spent on a mistyped name.
    """
    known = tasks.settings_of(task)
    ignored = sorted(set(settings) - known)
    if ignored:
        raise UserError(f"{task} would ignore {', '.join(map(_option, ignored))}: leave it out")
    for name in ("candidates", "schema"):
        if name in known and name not in settings:
            raise UserError(f"{task} needs {_option(name)} FILE")
    for name, value in settings.items():
        if name in _PROMPTS:
            Prompt.of(task, value)
        elif name in _FILES and isinstance(value, str):
            _FILES[name](value)


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as a file of results remembers them: of files that they name, the content."""
    return settings_shown(settings, {*_FILES, *_PROMPTS})


def apply(
    loaded: Loaded, task: str, inputs: Iterable[Document], settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The task's rows; `settings` as the command line gives them, with files by their paths."""
    values = {name: _FILES[name](value) if isinstance(value, str) and name in _FILES else value
              for name, value in settings.items()}  # fmt: skip
    if "pooling" in tasks.settings_of(task):
        values["pooling"] = published_pooling(loaded)
    return tasks.task(task)(loaded, inputs, **values)


def as_learnt(loaded: Loaded, inputs: Iterable[Document], file: str | None) -> Iterable[Document]:
    """The inputs as a classifier's run read its rows: of a `file` whose column nobody chose the one it learnt from,
    and each row's second text under the name that tasks know, or none where it learnt from one. UserError for a row
    that lacks it: judged by its first alone, it would get a label all the same."""
    recipe = None if loaded.classifier is None else learnt_by(loaded.path)
    if recipe is None or recipe.data.fields is None:
        return inputs
    fields = recipe.data.fields
    if file is not None and _has(file, fields.first):
        inputs = tasks.read_inputs(file, fields.first)
    if fields.pair is None:
        return map(_without_pair, inputs)
    return (_with_pair(document, str(fields.pair)) for document in inputs)


def recognised(loaded: Loaded, task: str) -> Callable[[Document], Mapping[str, Any]]:
    """What of an input a result row repeats, so that a file can be gone on with."""
    if task == "answer":
        return asked_of
    return judged_of if task == "classify" and loaded.classifier is not None else read_of


def _has(file: str, column: str) -> bool:
    """Whether the file's first row has the column, beside the one a reader takes by itself or as that one; what else
    may be wrong with the file is told where it is read."""
    for field in (None, column):
        try:
            first = next(iter(tasks.read_inputs(file, field)))
        except UserError:
            continue
        if field is not None or column in first.fields:
            return True
    return False


def _without_pair(document: Document) -> Document:
    return replace(document, fields={name: value for name, value in document.fields.items() if name != "pair"})


def _with_pair(document: Document, column: str) -> Document:
    pair = document.fields.get(column, document.fields.get("pair"))
    if pair is None:
        raise UserError(
            f"{place(document)}: this model judges two texts together: give rows with the second one in {column}"
        )
    return replace(document, fields={**document.fields, "pair": pair})


def _option(name: str) -> str:
    return {"source": "--from", "target": "--to"}.get(name, f"--{name.replace('_', '-')}")
