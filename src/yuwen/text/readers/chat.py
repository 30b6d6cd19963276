"""Conversations: OpenAI `messages`, ShareGPT `conversations`, Alpaca instruction–input–output, all as messages."""

from __future__ import annotations

from typing import Any

from yuwen.text.readers.fault import Fault, kind

_ROLES = {
    **{"human": "user", "user": "user", "prompter": "user", "gpt": "assistant", "assistant": "assistant"},
    **{"chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant", "bot": "assistant"},
    **{"function_call": "assistant", "system": "system", "developer": "system"},
    **{"tool": "tool", "function": "tool", "observation": "tool"},
}


def is_chat(row: dict[str, Any]) -> bool:
    return any(isinstance(row.get(name), list) for name in ("messages", "conversations")) or (
        "instruction" in row and "output" in row
    )


def parse(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(contents joined by line breaks, the other columns and `messages`: [{"role", "content"}])."""
    name = next((name for name in ("messages", "conversations") if isinstance(row.get(name), list)), None)
    if name is not None:
        messages = [_message(item, name) for item in row[name]]
        used = {name}
        if isinstance(row.get("system"), str) and row["system"] and not (messages and messages[0]["role"] == "system"):
            messages.insert(0, {"role": "system", "content": row["system"]})
            used.add("system")
        if not messages:
            raise Fault(name, "no messages", "the conversation is empty", "remove the row")
    else:
        messages, used = _alpaca(row), {"instruction", "input", "output", "system", "history"}
    fields = {key: value for key, value in row.items() if key not in used}
    return "\n".join(message["content"] for message in messages), {**fields, "messages": messages}


def _message(item: Any, name: str) -> dict[str, str]:
    if not isinstance(item, dict):
        raise Fault(name, "wrong type", f"a message is {kind(item)}, not an object", _SHAPE)
    role, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    if role is None or content is None:
        raise Fault(name, "missing field", f"a message without {'role' if role is None else 'content'}", _SHAPE)
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise Fault(name, "unknown role", f"unknown role {role!r}", "use system, user, assistant or tool")
    if isinstance(content, list):  # parts, of which only the text can be read
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise Fault(name, "wrong type", "a message has parts that are not text", "remove the row, or those parts")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise Fault(name, "wrong type", f"a message's content is {kind(content)}, not a string", _SHAPE)
    return {"role": _ROLES[role.lower()], "content": content}


def _alpaca(row: dict[str, Any]) -> list[dict[str, str]]:
    """LLaMA-Factory's extended form: `system`, and `history` as a list of [question, answer], are understood."""
    for name in ("instruction", "input", "output", "system"):
        value = row.get(name)
        if not isinstance(value, str) and (value is not None or name in ("instruction", "output")):
            raise Fault(name, "wrong type", f"is {kind(value)}, not a string", "quote it, or remove the row")
    history = row.get("history") or []
    if not all(isinstance(turn, list) and len(turn) == 2 and all(isinstance(s, str) for s in turn) for turn in history):
        raise Fault("history", "wrong type", "is not a list of pairs of strings", "write [[question, answer], …]")
    question = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
    turns = [*history, [question, row["output"]]]
    messages = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for asked, answered in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return messages


_SHAPE = 'write {"role": "user", "content": "…"}'
