"""The unfinished folder of a preparation: encoded batches are appended, and it remembers how far it came.

Beside tokens.bin and flags.bin it holds keys.bin (the hashes of the documents kept so far) and progress.json, which is
renamed into place only after the data it speaks of is on the disk: after any crash the last commit is intact, and
what follows it is overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from yuwen.data.encode import Batch, Encoded, join
from yuwen.data.shards import DOCUMENT, SENTENCE, WORD, id_type
from yuwen.errors import UserError
from yuwen.text import Deduplicator
from yuwen.tokens import Tokenizer

_COMMIT = 1 << 26  # characters of text between commits
_ENDS_SENTENCE = 2  # Tokenizer.flags()


@dataclass
class Progress:
    """How far a preparation came; `open` is the state before a document whose parts are still arriving."""

    pieces: int = 0  # documents and parts taken from the corpus
    tokens: int = 0
    documents: int = 0
    bytes: int = 0
    unknown: int = 0
    keys: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    open: dict[str, int] | None = None


class Writer:
    """Appends batches to `folder`, going on from its last commit. Raises UserError when the disk refuses."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, deduplicate: bool, excluded: np.ndarray) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self._type, self._table = id_type(tokenizer.size), tokenizer.flags()
        self._excluded = excluded
        self._seen = Deduplicator() if deduplicate else None
        self._uncommitted = 0
        self._ended = False  # whether the last token ended a sentence
        with writing(folder):
            self.progress = self._load()
            self._tokens, self._flags, self._keys = (self._open(name) for name in _FILES)
            self._restore()

    def add(self, batch: Batch, encoded: Encoded) -> None:
        """Appends what stays of a batch."""
        self.progress.pieces += len(batch.texts)
        self.progress.dropped = dict(Counter(self.progress.dropped) + encoded.dropped)
        with writing(self.folder):
            if batch.part:
                self._add_part(batch, encoded)
            else:
                self._add_documents(encoded)
            self._uncommitted += sum(map(len, batch.texts))
            if self._uncommitted >= _COMMIT:
                self.commit()

    def commit(self) -> None:
        """Makes what was added so far safe against a crash."""
        with writing(self.folder):
            for file in (self._tokens, self._flags, self._keys):
                file.flush()
                os.fsync(file.fileno())
            write_safely(self.folder / "progress.json", asdict(self.progress))
            self._uncommitted = 0

    def finish(self) -> Progress:
        """Commits, cuts off what was taken back, and removes what only the work needed, the progress excepted."""
        with writing(self.folder):
            if self.progress.open is not None:  # the corpus ended inside a document
                self._close(self.progress.open)
            self.commit()
            for file, size in ((self._tokens, self._type.itemsize), (self._flags, 1)):
                file.truncate(self.progress.tokens * size)
                os.fsync(file.fileno())
            self.close()
        return self.progress

    def close(self) -> None:
        """Lets go of the files. What a full disk does not take now was not committed, and is not missed."""
        for file in (self._tokens, self._flags, self._keys):
            with contextlib.suppress(OSError):
                file.close()

    def _add_documents(self, encoded: Encoded) -> None:
        keep = encoded.lengths > 0
        self._leave_out(keep, self._is_excluded(encoded.keys), "also in validation")
        if self._seen is not None:
            places = np.flatnonzero(keep)
            repeated = np.zeros_like(keep)
            repeated[places] = self._seen.seen(encoded.keys[places])
            self._leave_out(keep, repeated, "duplicate")
            self._remember(encoded.keys[keep])
        ids, words = encoded.ids, encoded.words
        if not keep.all():
            kept = np.repeat(keep, encoded.lengths)
            ids, words = ids[kept], None if words is None else words[kept]
        lengths = encoded.lengths[keep]
        self._append(ids, np.cumsum(lengths) - lengths, words)
        self.progress.documents += len(lengths)
        self.progress.bytes += int(encoded.sizes[keep].sum())

    def _add_part(self, batch: Batch, encoded: Encoded) -> None:
        now = self.progress
        before = now.open or {"tokens": now.tokens, "bytes": now.bytes, "unknown": now.unknown, "key": 0}
        if len(encoded.ids):
            self._append(encoded.ids, np.arange(now.tokens == before["tokens"]), encoded.words)
            before["key"] = join(before["key"], int(encoded.keys[0]))
            now.bytes += int(encoded.sizes[0])
        elif batch.closings[0] == "end" and now.tokens > before["tokens"]:  # its last part was dropped
            self._append(np.array([self.tokenizer.end_id], self._type), np.arange(0))
        now.open = before
        if batch.closings[0] != "none":
            self._close(before)

    def _close(self, before: dict[str, int]) -> None:
        """Ends the open document: keeps it, or takes it back if it is empty or a copy of another."""
        now, key = self.progress, np.array([before["key"]], np.uint64)
        now.open = None
        keep = np.array([now.tokens > before["tokens"]])
        self._leave_out(keep, self._is_excluded(key), "also in validation")
        if self._seen is not None and keep.any():
            self._leave_out(keep, self._seen.seen(key), "duplicate")
        if keep.any():
            now.documents += 1
            if self._seen is not None:
                self._remember(key)
        else:
            now.tokens, now.bytes, now.unknown = before["tokens"], before["bytes"], before["unknown"]
            self._tokens.seek(now.tokens * self._type.itemsize)
            self._flags.seek(now.tokens)

    def _leave_out(self, keep: np.ndarray, mask: np.ndarray, reason: str) -> None:
        count = int((keep & mask).sum())
        keep &= ~mask
        if count:
            self.progress.dropped[reason] = self.progress.dropped.get(reason, 0) + count

    def _is_excluded(self, keys: np.ndarray) -> np.ndarray:
        if not len(self._excluded):
            return np.zeros(len(keys), bool)
        places = np.searchsorted(self._excluded, keys).clip(max=len(self._excluded) - 1)
        return self._excluded[places] == keys

    def _remember(self, keys: np.ndarray) -> None:
        self._keys.write(keys.tobytes())
        self.progress.keys += len(keys)

    def _append(self, ids: np.ndarray, starts: np.ndarray, words: np.ndarray | None = None) -> None:
        """Writes tokens and their flags. A sentence starts after a token that ends one, unless the end goes on (?!).

        Words start where `words` says, or the tokenizer's pieces; documents, at `starts`, start all three.
        """
        if not len(ids):
            return
        marks = self._table[ids]
        ends = (marks & _ENDS_SENTENCE) != 0
        after = np.concatenate(([self._ended], ends[:-1]))
        flags = (marks & WORD if words is None else words * np.uint8(WORD)) | ((after & ~ends) * np.uint8(SENTENCE))
        flags[starts] = WORD | SENTENCE | DOCUMENT
        self._ended = bool(ends[-1])
        self._tokens.write(ids.tobytes())
        self._flags.write(flags.astype(np.uint8).tobytes())
        self.progress.tokens += len(ids)
        if self.tokenizer.unknown_id is not None:
            self.progress.unknown += int((ids == self.tokenizer.unknown_id).sum())

    def _load(self) -> Progress:
        """The last commit; none, or one whose files have gone, is a fresh start."""
        try:
            progress = Progress(**json.loads((self.folder / "progress.json").read_text(encoding="utf-8")))
            needed = (progress.tokens * self._type.itemsize, progress.tokens, progress.keys * 8)
            whole = all((self.folder / name).stat().st_size >= size for name, size in zip(_FILES, needed, strict=True))
        except (FileNotFoundError, ValueError, TypeError):
            whole = False
        return progress if whole else Progress()

    def _open(self, name: str) -> BinaryIO:
        path = self.folder / name
        path.touch()
        return path.open("r+b", buffering=1 << 20)

    def _restore(self) -> None:
        """Puts the files, the known keys and the sentence's state where the last commit left them."""
        while block := self._keys.read(min(1 << 20, self.progress.keys * 8 - self._keys.tell())):
            if self._seen is not None:
                self._seen.seen(np.frombuffer(block, np.uint64))
        if self.progress.tokens:
            self._tokens.seek((self.progress.tokens - 1) * self._type.itemsize)
            last = np.frombuffer(self._tokens.read(self._type.itemsize), self._type)
            self._ended = bool(self._table[last[0]] & _ENDS_SENTENCE)
        self._tokens.seek(self.progress.tokens * self._type.itemsize)
        self._flags.seek(self.progress.tokens)


_FILES = ("tokens.bin", "flags.bin", "keys.bin")


def write_safely(path: Path, value: dict[str, Any]) -> None:
    """Writes JSON under another name, waits for the disk, and renames it."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns the disk's refusal into one line; the last commit stays, so the next call goes on from there."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write prepared data: {error.strerror}"
            "; free some space or choose another folder, and start again: it goes on from where it stopped"
        ) from None
