"""Token ids to text one at a time, whole characters only."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol


class Decodes(Protocol):
    """What is asked of a tokenizer here."""

    @property
    def byte_level(self) -> bool: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    def token_bytes(self, id: int) -> bytes: ...
    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str: ...


class StreamDecoder:
    """Decodes ids as they arrive: what `feed` and a last `flush` return, joined, is the decoding of them all.

    A Chinese character is three bytes and may be cut over several tokens; its text is held back until it is whole.
    """

    def __init__(self, tokenizer: Decodes, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip = tokenizer.special_ids if skip_special else frozenset[int]()
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace") if tokenizer.byte_level else None
        self._ids: list[int] = []  # without byte level: some already shown ids, which give context, then pending ones
        self._shown = 0

    def feed(self, id: int) -> str:
        """The text that becomes certain with this id; empty while a character is incomplete."""
        if id in self._skip:
            return ""
        if self._bytes is not None:
            return self._bytes.decode(self._tokenizer.token_bytes(id))
        self._ids.append(id)
        before, text = self._texts()
        if text.endswith("\ufffd"):
            return ""
        self._ids = self._ids[self._shown :]
        self._shown = len(self._ids)
        return text[len(before) :]

    def flush(self) -> str:
        """What is left at the end: an unfinished character comes out as U+FFFD."""
        if self._bytes is not None:
            return self._bytes.decode(b"", final=True)
        before, text = self._texts()
        self._ids, self._shown = [], 0
        return text[len(before) :]

    def _texts(self) -> tuple[str, str]:
        decode = self._tokenizer.decode
        return decode(self._ids[: self._shown], skip_special=False), decode(self._ids, skip_special=False)
