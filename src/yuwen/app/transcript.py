"""Conversations in a file: JSON lines, one conversation a line, `{"messages": [{"role": …, "content": …}, …]}`.

Such rows are chat DATA as well, so what was said can be trained on. A message that an interrupt cut short carries
`"interrupted": true`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from yuwen.disk import replace_text
from yuwen.errors import UserError
from yuwen.text.readers import chat
from yuwen.text.readers.fault import Fault

Message = dict[str, Any]


class Transcript:
    """A file that follows a conversation: its last line is the one that goes on, those before it are left as they are.

    A last line that ends with a message nobody has answered is left, too: what goes on from it is a line of its own.

    UserError if the file is there and is no transcript. Nothing is written before the first `save`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = _state(path)
        lines = read_lines(path) if path.exists() else []
        self.messages: list[Message] = messages_of(path, len(lines), lines[-1]) if lines else []
        goes_on = bool(self.messages) and self.messages[-1]["role"] != "user"
        self._earlier = lines[:-1] if goes_on else lines
        self._fields: dict[str, Any] = json.loads(lines[-1]) if goes_on else {}
        self._read = list(self.messages) if goes_on else []  # what `_fields` holds, as it was read

    def save(self, messages: Sequence[Message]) -> None:
        """Writes the conversation as it stands now. UserError where another program has written to the file since."""
        if _state(self.path) != self._seen:
            raise UserError(
                f"{self.path}: another program has changed it meanwhile, and nothing was written over that: /save FILE"
                " keeps this conversation"
            )
        write(self.path, [*self._earlier, *self._row(messages)])
        self._seen = _state(self.path)

    def begin(self, messages: Sequence[Message]) -> None:
        """Closes the line of this conversation; what is saved next is another one."""
        self._earlier += self._row(messages)
        self._fields, self._read = {}, []

    def _row(self, messages: Sequence[Message]) -> list[str]:
        """The line, if anything was said: what stood there before is as it was, whatever else its messages held."""
        if all(message["role"] == "system" for message in messages):
            return []
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(messages, self._read, strict=False)))
        return [line_of([*self._fields.get("messages", [])[:same], *messages[same:]], self._fields)]


def read(path: Path) -> list[Message]:
    """The last conversation of a file. UserError, with the line, if there is none."""
    lines = read_lines(path)
    if not lines:
        raise UserError(f"{path}: no conversation in it: every line should be {_SHAPE}")
    return messages_of(path, len(lines), lines[-1])


def read_lines(path: Path) -> list[str]:
    """The lines of a transcript, each of them looked at."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text, so no transcript: choose another name") from None
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, 1):
        messages_of(path, number, line)
    return lines


def messages_of(path: Path, number: int, line: str) -> list[Message]:
    """The messages of one line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError(f"{path}:{number}: not JSON: every line of a transcript is {_SHAPE}") from None
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
        raise UserError(f"{path}:{number}: no messages: every line of a transcript is {_SHAPE}")
    try:
        messages: list[Message] = chat.parse({"messages": row["messages"]})[1]["messages"]
    except Fault as fault:
        raise UserError(f"{path}:{number}: {fault.what}; {fault.fix}") from None
    for message, item in zip(messages, row["messages"], strict=True):
        if item.get("interrupted") is True:
            message["interrupted"] = True
    return messages


def write(path: Path, lines: Sequence[str]) -> None:
    """Puts the lines in the file's place, whole or not at all."""
    replace_text(path, "".join(line + "\n" for line in lines))


def line_of(messages: Sequence[Message], fields: Any = None) -> str:
    """A conversation as a line, with the other fields its row had."""
    return json.dumps({**(fields or {}), "messages": list(messages)}, ensure_ascii=False)


def _state(path: Path) -> tuple[int, int] | None:
    """What changes with every writing of a file; None where there is none."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size


_SHAPE = '{"messages": [{"role": "user", "content": "…"}, …]}'
