"""Examples given with the task: read from a file, and chosen."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from yuwen.errors import UserError
from yuwen.tasks.contract import place
from yuwen.text import Document

FIELDS = ("label", "labels", "category", "class", "intent", "target", "标签", "类别", "分类")
"""Where an example's label is looked for, in this order."""


@dataclass(frozen=True)
class Example:
    """A text and the label it belongs to."""

    text: str
    label: str


def examples(rows: Iterable[Document], labels: Sequence[str] | None = None) -> list[Example]:
    """Examples of rows with a text and a label. UserError for a row without one, or with one not in `labels`."""
    found = []
    for row in rows:
        name = next((name for name in FIELDS if name in row.fields), None)
        if name is None:
            raise UserError(f"{place(row)}: an example without a label: write it in a field or column called label")
        value = row.fields[name]
        if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
            raise UserError(f"{place(row)}: {name}={value!r} is not one label: write one name")
        label = str(value).strip()
        if labels is not None and label not in labels:
            raise UserError(f"{place(row)}: label {label!r} is not among the labels ({', '.join(labels)})")
        found.append(Example(row.text, label))
    if not found:
        raise UserError("no examples: the file of shots is empty")
    return found


def choose(found: Sequence[Example], per_class: int | None, seed: int) -> list[Example]:
    """`per_class` examples of each class, drawn and mixed by the seed; without it all, as they stand.

    UserError if a class has fewer.
    """
    if per_class is None:
        return list(found)
    if per_class < 1:
        raise UserError(f"per_class={per_class}: take at least one example of each class, or give no examples")
    generator = random.Random(seed)
    classes: dict[str, list[Example]] = {}
    for example in found:
        classes.setdefault(example.label, []).append(example)
    chosen = []
    for label, members in classes.items():
        if len(members) < per_class:
            raise UserError(f"class {label!r} has {len(members)} examples, not {per_class}: add some, or take fewer")
        chosen += generator.sample(members, per_class)
    generator.shuffle(chosen)
    return chosen


def labels_of(labels: Sequence[str] | None, shots: Sequence[Example]) -> list[str]:
    """The labels as given, or those of the examples in order of appearance. UserError unless two at least differ."""
    names = distinct(labels if labels is not None else dict.fromkeys(example.label for example in shots))
    if len(names) < 2:
        raise UserError("classify needs two labels at least: --labels a,b, or examples of two classes in --shots")
    return names


def distinct(labels: Iterable[str]) -> list[str]:
    """The labels as a list. UserError for an empty one, and for one that is given twice."""
    names = list(labels)
    if any(not name.strip() for name in names):
        raise UserError("an empty label: write the labels as a,b,c")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"label {twice!r} is given twice")
    return names
