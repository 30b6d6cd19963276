"""What a reader yields: a piece of text, where it stood, and what follows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Closing = Literal["end", "line", "none"]


@dataclass(slots=True)
class Document:
    """One text. `source` and `line` say where it began, `closing` what follows it in the token stream.

    `closing`: "end" the end token (a file, a record), "line" a line break (documents that are lines),
    "none" nothing (a part of a longer file; its next part follows).
    """

    text: str
    source: str  # the file as the user named it, or sample:NAME
    line: int = 1  # from 1; the number of the record where a format has no lines (Parquet, one JSON object)
    closing: Closing = "end"
    fields: dict[str, Any] = field(default_factory=dict)  # a record's other columns: messages, label, …
