"""One row of any format → a document: finds the text, and understands the usual shapes of rows."""

from __future__ import annotations

import shlex
from typing import Any

from yuwen.text.document import Document
from yuwen.text.file import File
from yuwen.text.readers import chat, squad
from yuwen.text.readers.fault import Fault, kind

TEXT = (
    *("text", "content", "sentence", "review", "body", "text_a", "article", "document", "passage", "paragraph"),
    *("paragraphs", "comment", "tweet", "正文", "内容", "文本", "评论", "句子"),
)
"""Where the text is looked for, in this order, when the user names no field."""


def record(file: File, line: int, row: Any, field: str | None) -> Document | None:
    """The row as a document; None if it has a fault and the caller goes on. `line`: where the row starts."""
    try:
        text, fields = _parse(_named(row), field)
        _characters(text, field)
    except Fault as fault:
        file.problem(line, fault.field, fault.reason, fault.what, fault.fix)
        return None
    return Document(text, file.name, line, "end", fields)


def has_text(row: dict[str, Any], field: str | None) -> bool:
    """Whether this object is itself a record, rather than a box of them."""
    if field is not None:
        return field in row
    return chat.is_chat(row) or squad.is_question(row) or any(isinstance(row.get(name), str) for name in TEXT)


def _parse(row: dict[str, Any], field: str | None) -> tuple[str, dict[str, Any]]:
    if field is None and chat.is_chat(row):
        return chat.parse(row)
    if field is None and squad.is_question(row):
        return squad.parse(row)
    name = field if field is not None else next((name for name in TEXT if name in row), None)
    if name is None and squad.is_asked(row):
        return squad.parse(row)
    if name is None:
        name = _only_text(row)
    if name not in row:
        fix = "leave the setting out, or name one of these" if field else "name the text's field, such as data.field="
        if not field:
            longest = max(row, key=lambda key: len(row[key]) if isinstance(row[key], str) else -1, default="text")
            fix += f"{longest} (or --field {shlex.quote(longest)})"
        raise Fault(field or "text", "missing field", f"no such field; the row has {_list(row)}", fix)
    return _text(row[name], name), {key: value for key, value in row.items() if key != name}


def _only_text(row: dict[str, Any]) -> str | None:
    """In a row without names, the only string, if there is only one."""
    strings = [name for name, value in row.items() if name.isdecimal() and isinstance(value, str)]
    return strings[0] if len(strings) == 1 else None


def _named(row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    if isinstance(row, str):
        return {"text": row}
    if isinstance(row, list):
        return {str(number): value for number, value in enumerate(row, 1)}
    raise Fault(None, "wrong type", f"the row is {kind(row)}, not an object", 'write it as {"text": "…"}')


def _text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if value is None:
        raise Fault(name, "null text", "the text is null", "give it a text, or remove the row")
    raise Fault(name, "wrong type", f"the text is {kind(value)}, not a string", "quote it, or name another field")


def _characters(text: str, field: str | None) -> None:
    """JSON can spell halves of characters, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = f"character {error.start} is half of a surrogate pair (\\u{ord(text[error.start]):04x})"
        raise Fault(field or "text", "broken character", what, "write the character itself, or remove it") from None


def _list(row: dict[str, Any]) -> str:
    names = [repr(name) if not name or " " in name else name for name in map(str, row)]
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return shown or "no fields"
