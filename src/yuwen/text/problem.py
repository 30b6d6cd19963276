"""What is wrong with the data, and who is told: a reader reports, its caller decides whether to stop."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from yuwen.errors import UserError


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in the data: where, what, and how to mend it. `reason` is the same for all faults of its kind."""

    file: str
    line: int | None  # from 1; the record's number where a format has no lines
    field: str | None
    reason: str
    what: str
    fix: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.field) if part is not None)
        return f"{place}: {self.what}; {self.fix}"


Handle = Callable[[Problem], None]
"""Told of every problem. If it returns, reading goes on without the row, or with U+FFFD for the byte."""


def stop(problem: Problem) -> None:
    """Raises: the default, since text that is silently left out is worse than an error."""
    raise UserError(str(problem))


def counting(reasons: Counter[str]) -> Handle:
    """Only counts, by reason."""

    def count(problem: Problem) -> None:
        reasons[problem.reason] += 1

    return count


_said: set[str] = set()


def notice(message: str) -> None:
    """Says something on stderr, once in the life of the process."""
    if message not in _said:
        _said.add(message)
        print(f"yuwen: {message}", file=sys.stderr, flush=True)
