"""Counts documents as they stream by; the parts of a long file count as one."""

from __future__ import annotations

from hashlib import blake2b

from yuwen.text.deduplicate import Deduplicator
from yuwen.text.document import Document

_BATCH = 1 << 14


class Tally:
    """Documents, characters, UTF-8 bytes, empty documents, and documents that came before (exactly the same text)."""

    def __init__(self) -> None:
        self.documents = self.characters = self.bytes = self.empty = self.duplicates = 0
        self._seen, self._keys = Deduplicator(), list[int]()
        self._hash, self._length, self._blank = blake2b(digest_size=8), 0, True

    def add(self, document: Document) -> int | None:
        """Counts a document or a part of one; returns the whole document's length when it is complete."""
        raw = document.text.encode()
        self._hash.update(raw)
        self._length += len(document.text)
        self._blank = self._blank and (not raw or document.text.isspace())
        self.bytes += len(raw)
        return self._end() if document.closing != "none" else None

    def finish(self) -> None:
        """Brings `duplicates` up to date, and closes a document that a fault in the file left open."""
        if self._length:
            self._end()
        self._flush()

    def _end(self) -> int:
        length = self._length
        self.documents += 1
        self.characters += length
        self.empty += self._blank
        self._keys.append(int.from_bytes(self._hash.digest(), "little"))
        if len(self._keys) == _BATCH:
            self._flush()
        self._hash, self._length, self._blank = blake2b(digest_size=8), 0, True
        return length

    def _flush(self) -> None:
        self.duplicates += int(self._seen.seen(self._keys).sum())
        self._keys.clear()
