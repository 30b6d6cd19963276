"""A task applied: the model's published pooling and the files that settings name, brought to the task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from yuwen import tasks
from yuwen.app.loading.pooling import published_pooling
from yuwen.errors import UserError
from yuwen.tasks.extract import read_schema
from yuwen.tasks.files import read_context, settings_shown

if TYPE_CHECKING:
    from yuwen.app.loading.load import Loaded
    from yuwen.text import Document

_FILES: dict[str, Callable[[str], Any]] = {
    "shots": tasks.read_inputs,
    "candidates": tasks.read_inputs,
    "context": read_context,
    "schema": read_schema,
}


def check(task: str, settings: Mapping[str, Any]) -> None:
    """UserError for a setting that the task would ignore, or for one it needs and lacks."""
    known = tasks.settings_of(task)
    ignored = sorted(set(settings) - known)
    if ignored:
        raise UserError(f"{task} would ignore {', '.join(map(_option, ignored))}: leave it out")
    for name in ("candidates", "schema"):
        if name in known and name not in settings:
            raise UserError(f"{task} needs {_option(name)} FILE")


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as a file of results remembers them: of files that they name, the content."""
    return settings_shown(settings, {*_FILES, "prompt"})


def apply(
    loaded: Loaded, task: str, inputs: Iterable[str | Document], settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The task's rows; `settings` as the command line gives them, with files by their paths."""
    values = {name: _FILES[name](value) if isinstance(value, str) and name in _FILES else value
              for name, value in settings.items()}  # fmt: skip
    if "pooling" in tasks.settings_of(task):
        values["pooling"] = published_pooling(loaded)
    return tasks.task(task)(loaded, inputs, **values)


def _option(name: str) -> str:
    return {"source": "--from", "target": "--to"}.get(name, f"--{name.replace('_', '-')}")
