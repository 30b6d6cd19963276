"""What is wrong with a row, before it is known where the row stood."""

from __future__ import annotations

from typing import Any


class Fault(Exception):
    """A row that cannot be used: which field, the kind of fault, what is wrong, how to mend it."""

    def __init__(self, field: str | None, reason: str, what: str, fix: str) -> None:
        super().__init__(what)
        self.field, self.reason, self.what, self.fix = field, reason, what, fix


def kind(value: Any) -> str:
    """What JSON calls a value of this type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"
