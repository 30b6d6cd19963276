"""Typed settings: every class that is configured keeps its `Config` beside it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import pydantic
from typing_extensions import Self

from yuwen.errors import UserError


class Config(pydantic.BaseModel):
    """Base of all settings: immutable, and a key it does not know is an error, never ignored."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, section: str, values: Mapping[str, Any]) -> Self:
        """Builds the settings from plain values.

        `section` is the recipe's name for them ("train"), so that a message can say "train.steps".
        Raises UserError for the first unknown key (with the nearest known name) or value that does not fit.
        """
        try:
            return cls.model_validate(dict(values))
        except pydantic.ValidationError as error:
            raise UserError(_one_line(cls, section, error)) from None


def nearest(name: str, known: list[str]) -> str:
    """A hint such as ' (did you mean steps?)' or the list of known names, for an unknown one."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"


def _one_line(cls: type[Config], section: str, error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    owner, path = _place(cls, [str(part) for part in first["loc"]])
    name = ".".join([section, *path]) if section else ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"unknown key {name}: {nearest(path[-1], list(owner.model_fields))}"
    if first["type"] == "missing":
        return f"{name} is missing: give it a value"
    if first["type"] == "value_error":
        return f"{name}: {first['ctx']['error']}" if path else f"{first['ctx']['error']}"
    if first["type"] == "union_tag_invalid":
        known = [kind.model_fields["name"].default for kind in _configs(owner.model_fields[path[-1]].annotation)]
        return f"unknown {name}.name {first['ctx']['tag']!r}: {nearest(first['ctx']['tag'], known)}"
    if first["type"] == "union_tag_not_found":
        return f"{name}={first['input']!r} is no section: give it keys, {name}.name first"
    return f"{name}={first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _place(cls: type[Config], location: list[str]) -> tuple[type[Config], list[str]]:
    """The settings in which an error lies, and its path of keys.

    Where a key takes one of several settings, told apart by their `name`, pydantic puts that name behind the key.
    """
    owner, path, choices, branches = cls, list[str](), list[type[Config]](), False
    for part in location:
        named = [kind for kind in choices if len(choices) > 1 and kind.model_fields["name"].default == part]
        if named:
            owner, choices = named[0], []
            continue
        if branches:  # pydantic's name for a branch of `str | float`: nobody's key
            branches = False
            continue
        path.append(part)
        annotation = owner.model_fields[part].annotation if part in owner.model_fields else None
        choices = _configs(annotation)
        branches = not choices and len([kind for kind in _union(annotation) if kind is not NoneType]) > 1
        if len(choices) == 1:  # Config, or Config | None
            owner = choices[0]
    return owner, path


def _union(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()


def _configs(annotation: Any) -> list[type[Config]]:
    """The settings classes that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [kind for inner in get_args(annotation) for kind in _configs(inner)]
