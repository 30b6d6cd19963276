"""The tasks by name, and the settings each understands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from yuwen.config import nearest
from yuwen.errors import UserError
from yuwen.generation import SamplingConfig
from yuwen.tasks.answer import answer
from yuwen.tasks.classify import classify
from yuwen.tasks.embed import embed
from yuwen.tasks.extract import extract
from yuwen.tasks.fill import fill
from yuwen.tasks.similar import similar
from yuwen.tasks.tag import tag
from yuwen.tasks.write import chat, complete, summarise, translate

TASKS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "complete": complete,
    "chat": chat,
    "embed": embed,
    "similar": similar,
    "fill": fill,
    "classify": classify,
    "tag": tag,
    "answer": answer,
    "translate": translate,
    "summarise": summarise,
    "extract": extract,
}


def task(name: str) -> Callable[..., Iterator[dict[str, Any]]]:
    """The task of that name. UserError names the nearest known one."""
    if name not in TASKS:
        raise UserError(f"no such task {name!r}: {nearest(name, list(TASKS))}")
    return TASKS[name]


def settings_of(name: str) -> frozenset[str]:
    """The names of the settings that a task understands."""
    parameters = inspect.signature(task(name)).parameters.values()
    own = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    samples = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return frozenset(own | (set(SamplingConfig.model_fields) if samples else set()))
