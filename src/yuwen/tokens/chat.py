"""Conversations → text by a Jinja chat template, with the spans that the assistant wrote.

A template may come from anywhere: `tokens.template` runs it in a sandbox within a process of its own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yuwen.errors import UserError
from yuwen.tokens.template import render

_NONCE = secrets.token_hex(8)  # nobody's text can contain it, so our marks within a rendered text are ours
_SPAN = f"\ue000{_NONCE}\ue001"


@dataclass(slots=True)
class Rendered:
    """A conversation as token ids [T] (int32) and a mask [T] (uint8): 1 where the assistant wrote, its end included."""

    ids: np.ndarray
    mask: np.ndarray


class Protector:
    """Hides special-token text that a person typed while the template runs, so that it can never act as a special."""

    def __init__(self, specials: Iterable[str]) -> None:
        self._specials = sorted(specials, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._specials)) or r"(?!)")
        self._hidden = re.compile(f"\ue000{_NONCE}:(\\d+)\ue001")

    def hide(self, value: Any) -> Any:
        """The same plain data (strings, numbers, lists, dicts), with special-token text replaced by marks."""
        if isinstance(value, str):
            return self._pattern.sub(lambda match: f"\ue000{_NONCE}:{self._specials.index(match[0])}\ue001", value)
        if isinstance(value, Mapping):
            return {self.hide(str(key)): self.hide(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.hide(item) for item in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        raise UserError(f"a chat message holds a {type(value).__name__}: only text, numbers, lists and objects can be")

    def parts(self, text: str) -> list[tuple[str, int, bool]]:
        """Cuts rendered text into (part, position in `text`, whether it is hidden text that has been restored)."""
        parts, start = [], 0
        for match in self._hidden.finditer(text):
            parts.append((text[start : match.start()], start, False))
            parts.append((self._specials[int(match[1])], match.start(), True))
            start = match.end()
        return [part for part in [*parts, (text[start:], start, False)] if part[0]]


def render_text(
    template: str, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], generate: bool, spans: bool
) -> tuple[str, list[tuple[int, int]]]:
    """Text of the conversation, and the character spans of the assistant's words (none unless `spans`).

    Without generation marks in the template, a span is what the text gains by an assistant's message, up to its end
    token. Raises UserError when the template is wrong or refuses, or the texts of growing conversations do not nest.
    """
    text, marked = _run(template, messages, variables, generate)
    if not spans or re.search(r"\{%[-+]?\s*generation\b", template):
        return text, marked
    found = []
    for number, message in enumerate(messages):
        if message.get("role") == "assistant":
            before, _ = _run(template, messages[:number], variables, True)
            after, _ = _run(template, messages[: number + 1], variables, False)
            if not (after.startswith(before) and text.startswith(after)):
                raise UserError(
                    f"the chat template changes what came before message {number + 1}, so the assistant's words cannot "
                    "be told apart: mark them with {% generation %} in the template, or keep one exchange per row"
                )
            found.append((len(before), len(after)))
    return text, found


def _run(
    template: str, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], generate: bool
) -> tuple[str, list[tuple[int, int]]]:
    marked = render(template, {**variables, "messages": list(messages), "add_generation_prompt": generate}, span=_SPAN)
    pieces = marked.split(_SPAN)
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    return "".join(pieces), list(zip(ends[0::2], ends[1::2], strict=False))
