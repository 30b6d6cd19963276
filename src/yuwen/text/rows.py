"""Documents → rows: several texts that belong together, with the label or score that someone gave them.

A reader yields a record as one text and its other columns; `FieldsConfig` says which column is what:

    text [, pair]            one text, or two that are judged together          label
    source, target           a text and what is to be written for it
    anchor, positive [, negative]   texts that should, and should not, be alike  score
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, model_validator
from typing_extensions import Self

from yuwen.config import Config, nearest
from yuwen.errors import UserError
from yuwen.text.document import Document
from yuwen.text.problem import Handle, Problem, stop
from yuwen.text.readers.fault import Fault, kind

SHAPES = (
    ("text",),
    ("text", "pair"),
    ("source", "target"),
    ("anchor", "positive"),
    ("anchor", "positive", "negative"),
)
"""The texts that a row may hold, by their roles."""


class FieldsConfig(Config):
    """Which column of a record is what; a sample's own text is the column `text`, columns without names are 1, 2, 3, …

    A label is a word or a whole number, a score any number.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)  # in YAML the column 1 is a number

    text: str | None = None
    pair: str | None = None
    source: str | None = None
    target: str | None = None
    anchor: str | None = None
    positive: str | None = None
    negative: str | None = None
    label: str | None = None
    score: str | None = None

    @model_validator(mode="after")
    def _a_known_shape(self) -> Self:
        if self.texts not in SHAPES:
            shapes = "; ".join(", ".join(shape) for shape in SHAPES)
            raise ValueError(f"the texts {', '.join(self.texts) or 'none'} make no row: give one of: {shapes}")
        if self.label is not None and self.score is not None:
            raise ValueError("a row has a label or a score, not both: leave one out")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """The roles of the texts, in order."""
        roles = ("text", "pair", "source", "target", "anchor", "positive", "negative")
        return tuple(role for role in roles if getattr(self, role) is not None)

    @property
    def first(self) -> str:
        """The column of the first text: the `field` that a reader is told."""
        return str(getattr(self, self.texts[0]))


def parse_fields(text: str) -> FieldsConfig:
    """Fields as the command line gives them: "text=review,label=stars". UserError for anything else."""
    values: dict[str, str] = {}
    for part in text.split(","):
        role, equals, column = part.partition("=")
        if not equals or not column.strip():
            raise UserError(f"--fields {text}: write ROLE=COLUMN, divided by commas, such as text=review,label=stars")
        if role.strip() not in FieldsConfig.model_fields:
            raise UserError(f"--fields: unknown role {role.strip()}: {nearest(role, list(FieldsConfig.model_fields))}")
        if role.strip() in values:
            raise UserError(f"--fields {text}: {role.strip()} is given twice: leave one out")
        values[role.strip()] = column.strip()
    return FieldsConfig.parse("--fields", values)


@dataclass(frozen=True, slots=True)
class Row:
    """The texts of a record in the order of `FieldsConfig.texts`, without the space around them, and its value."""

    texts: tuple[str, ...]
    label: str | None
    score: float | None
    source: str
    line: int

    def problem(self, field: str | None, reason: str, what: str, fix: str) -> Problem:
        """A fault of this row, with its place."""
        return Problem(self.source, self.line, field, reason, what, fix)


def rows(documents: Iterable[Document], fields: FieldsConfig, handle: Handle = stop) -> Iterator[Row]:
    """The rows of records that were read with `field=fields.first`. A faulty one goes to `handle`, which raises by
    default: UserError with file, line and field."""
    for document in documents:
        try:
            row = _row(document, fields)
        except Fault as fault:
            handle(Problem(document.source, document.line, fault.field, fault.reason, fault.what, fault.fix))
        else:
            yield row


def _row(document: Document, fields: FieldsConfig) -> Row:
    if document.closing == "none":
        raise Fault(None, "no record", "a part of a long text, which has no fields", "give records: .jsonl, .csv, .tsv")
    texts = tuple(_text(_value(document, fields, role), getattr(fields, role)) for role in fields.texts)
    label = None if fields.label is None else _label(_value(document, fields, "label"), fields.label)
    score = None if fields.score is None else _score(_value(document, fields, "score"), fields.score)
    return Row(texts, label, score, document.source, document.line)


def _value(document: Document, fields: FieldsConfig, role: str) -> Any:
    column = getattr(fields, role)
    if column == fields.first:  # the reader took it out of the others
        return document.text
    if column not in document.fields:
        raise Fault(
            column,
            "missing field",
            f"no such field; beside {fields.first} the row has {_list(document.fields)}",
            f"set data.fields.{role} to one of these, or mend the row",
        )
    return document.fields[column]


def _text(value: Any, column: str) -> str:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = "\n".join(value)
    if not isinstance(value, str):
        raise Fault(column, "wrong type", f"the text is {kind(value)}, not a string", "quote it, or remove the row")
    return _whole(value, column).strip()


def _whole(value: str, column: str) -> str:
    """The same string. Fault for one with half a character, which JSON can spell and no file hold."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        what = f"character {error.start} is half of a surrogate pair (\\u{ord(value[error.start]):04x})"
        raise Fault(column, "broken character", what, "write the character itself, or remove it") from None
    return value


def _label(value: Any, column: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise Fault(column, "wrong type", f"the label is {kind(value)}, not a word or a whole number", _GIVE_LABEL)
    if not value.strip():
        raise Fault(column, "no label", "the label is empty", _GIVE_LABEL)
    return _whole(value, column).strip()


def _score(value: Any, column: str) -> float:
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        shown = repr(value) if isinstance(value, str) and len(value) < 40 else kind(value)
        raise Fault(column, "wrong type", f"the score is {shown}, not a number", "write a number, or remove the row")
    return score


def _list(fields: Mapping[str, Any]) -> str:
    names = [repr(name) if not name or " " in name else name for name in fields]
    return (", ".join(names[:12]) + (", …" if len(names) > 12 else "")) or "no others"


_GIVE_LABEL = "give the row a label, or remove it"
