"""JSON: one object a line, an array of rows, or one object that holds rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from yuwen.text.document import Document
from yuwen.text.file import File
from yuwen.text.readers import squad
from yuwen.text.readers.record import has_text, record


def read_lines(file: File, field: str | None) -> Iterator[Document]:
    """One JSON value a line; empty lines are passed over."""
    for number, line in file.lines():
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            _broken(file, number, error)
            continue
        if (document := record(file, number, row, field)) is not None:
            yield document


def read(file: File, field: str | None) -> Iterator[Document]:
    """A .json file, whatever it turns out to be. Arrays and lines stream; a single object is read whole."""
    sample = file.sample()
    first = next((line for line in sample if line.strip()), "")
    if first.lstrip().startswith("["):
        for line, row in _elements(file):
            if (document := record(file, line, row, field)) is not None:
                yield document
    elif len(sample) > 1 and _whole(first) and any(line.strip() for line in sample[sample.index(first) + 1 :]):
        yield from read_lines(file, field)
    else:
        yield from _read_object(file, field)


def _read_object(file: File, field: str | None) -> Iterator[Document]:
    text = "".join(file.text())
    if not text or text.isspace():
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _broken(file, None, error)
    for number, row in enumerate(_rows(value, field), 1):
        if (document := record(file, number, row, field)) is not None:
            yield document


def _rows(value: Any, field: str | None) -> Iterator[Any]:
    """The rows in one JSON object: the questions of SQuAD, the object itself, or the lists it holds.

    Where it holds several lists (splits, tasks), each row gets the name of its own as `group`.
    """
    if not isinstance(value, dict) or has_text(value, field):
        yield value
    elif squad.is_nested(value.get("data")):
        yield from squad.questions(value["data"])
    else:
        lists = {name: rows for name, rows in value.items() if _is_rows(rows)}
        if not lists:
            yield value
        for name, rows in lists.items():
            for row in rows:
                yield {"group": name, **row} if len(lists) > 1 and isinstance(row, dict) else row


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], (dict, list))


def _elements(file: File) -> Iterator[tuple[int, Any]]:
    """(line, element) of the array that the file is, holding little more than one element in memory."""
    decoder = json.JSONDecoder()
    blocks = file.text()
    text, place, line, between = "", 0, 1, "["
    while True:
        # The next mark: "[" first, then "," or "]" between elements.
        text, place, line = _skip(blocks, text, place, line)
        if place == len(text):
            return _broken(file, line, ValueError(f"the file ends where {' or '.join(between)} was expected"))
        mark, place = text[place], place + 1
        if mark not in between:
            return _broken(file, line, ValueError(f"{' or '.join(between)} expected, not {mark!r}"))
        text, place, line = _skip(blocks, text, place, line)
        if mark == "]" or (mark == "[" and text[place : place + 1] == "]"):
            if text[place + (mark == "[") :].strip():
                _broken(file, line, ValueError("text after the end of the array"))
            return
        while True:
            try:
                value, end = decoder.raw_decode(text, place)
                if end < len(text):  # else a number might go on in the next block
                    break
                problem = None
            except (ValueError, RecursionError) as error:
                problem = error
                inside = isinstance(error, json.JSONDecodeError) and error.pos < len(text) - 16
                if isinstance(error, RecursionError) or (inside and not error.args[0].startswith("Unterminated")):
                    return _broken(file, line, error, text, place)
            if (more := next(blocks, None)) is None:
                return _broken(file, line, problem or ValueError("the file ends inside the array"), text, place)
            text, place = text[place:] + more, 0
        yield line, value
        line += text.count("\n", place, end)
        place, between = end, ",]"


def _skip(blocks: Iterator[str], text: str, place: int, line: int) -> tuple[str, int, int]:
    """(text, place, line) of the next character that is not space, reading on as needed; place = end at the end."""
    while True:
        start = place
        while place < len(text) and text[place] in " \t\r\n":
            place += 1
        line += text.count("\n", start, place)
        if place < len(text) or (more := next(blocks, None)) is None:
            return text, place, line
        text, place = more, 0


def _whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _broken(file: File, line: int | None, error: Exception, text: str = "", place: int = 0) -> None:
    what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    if isinstance(error, json.JSONDecodeError):
        what = f"{error.msg[:1].lower()}{error.msg[1:]}"
        if line is None:
            line = error.lineno
        else:
            line += text.count("\n", place, error.pos)
        what += f" (column {error.colno})"
    file.problem(line, None, "broken JSON", f"not JSON: {what}", "mend or remove this line")
