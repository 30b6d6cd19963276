"""Documents → cleaned, keyed and encoded batches: a pure function, so that any process may do any batch."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from yuwen.data.corpus import Corpus
from yuwen.data.shards import id_type
from yuwen.data.words import Segmenter, Words
from yuwen.errors import UserError
from yuwen.text import Cleaner, Closing, Document, TextConfig, keys
from yuwen.tokens import Tokenizer

_BATCH = 1 << 18  # characters
_PIECE = 1 << 13
_LINE = re.compile(r"\n(?=\S)")


@dataclass(slots=True)
class Batch:
    """Some whole documents, or one part of a longer one."""

    texts: list[str]
    closings: list[Closing]
    part: bool = False


@dataclass(slots=True)
class Encoded:
    """A batch's tokens one after another, and per document (those dropped included, with no tokens) its figures."""

    ids: np.ndarray  # uint16 or uint32
    lengths: np.ndarray  # int64 [N]: tokens
    sizes: np.ndarray  # int64 [N]: UTF-8 bytes
    keys: np.ndarray  # uint64 [N]: hash of the cleaned text
    dropped: Counter[str]
    words: np.ndarray | None = None  # bool, as ids: a word starts here; None: the tokenizer's pieces tell


def batches(documents: Iterator[Document], inside: bool = False) -> Iterator[Batch]:
    """Groups documents. `inside`: the first one continues a longer document."""
    batch, characters = Batch([], []), 0
    for document in documents:
        if inside or document.closing == "none":
            if batch.texts:
                yield batch
                batch, characters = Batch([], []), 0
            yield Batch([document.text], [document.closing], part=True)
            inside = document.closing == "none"
            continue
        batch.texts.append(document.text)
        batch.closings.append(document.closing)
        characters += len(document.text)
        if characters >= _BATCH:
            yield batch
            batch, characters = Batch([], []), 0
    if batch.texts:
        yield batch


class Encoder:
    """Cleans, keys and encodes batches; `words` says who tells where words start."""

    def __init__(self, tokenizer: Tokenizer, config: TextConfig, words: Words = "pieces") -> None:
        self.tokenizer, self.config, self.words = tokenizer, config, words
        self._segmenter = None if words == "pieces" else Segmenter()
        self._type = id_type(tokenizer.size)
        self._cleaner = Cleaner(config)

    def __call__(self, batch: Batch) -> Encoded:
        kept, texts = self._clean(batch)
        lengths, sizes, hashes = (np.zeros(len(batch.texts), type) for type in (np.int64, np.int64, np.uint64))
        pieces: list[np.ndarray] = []
        starts: list[np.ndarray] = []
        breaks = ["\n" if batch.closings[i] == "line" else "" for i in kept]
        closed = [text + end for text, end in zip(texts, breaks, strict=True)]
        for i, (ids, words) in zip(kept, self._ids(closed), strict=True):
            if not len(ids):
                self._cleaner.reasons["empty"] += 1
                continue
            pieces.append(ids)
            starts.append(words)
            if batch.closings[i] == "end":
                pieces.append(self.end)
                starts.append(np.zeros(1, bool))
            lengths[i] = len(ids) + (batch.closings[i] == "end")
        sizes[kept] = [len(text.encode()) for text in closed]
        hashes[kept] = keys(texts)
        ids = np.concatenate(pieces).astype(self._type) if pieces else np.empty(0, self._type)
        begun = None if self._segmenter is None else np.concatenate([np.zeros(0, bool), *starts])
        return Encoded(ids, lengths, sizes, hashes, self._dropped(), begun)

    def _ids(self, texts: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(token ids, where the segmenter lets words start) of each text.

        Long texts go to the tokenizer in pieces: it is faster so, and uses every core.
        """
        cuts = [_cut(text) if self.tokenizer.cuts_at_lines and len(text) > _PIECE else [text] for text in texts]
        encoded = self._encoded([piece for cut in cuts for piece in cut])
        for cut in cuts:
            ids, words = zip(*(next(encoded) for _ in cut), strict=True)
            yield (ids[0], words[0]) if len(cut) == 1 else (np.concatenate(ids), np.concatenate(words))

    def _encoded(self, texts: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self._segmenter is None:
            for ids in self.tokenizer.encode_batch(texts):
                yield ids, np.zeros(0, bool)
            return
        for text in texts:
            ids, counts = self.tokenizer.encode_bytes(text)
            yield ids, self._segmenter.starts(text, counts)

    @property
    def segmentation(self) -> dict[str, str]:
        """What tells where words start, if it is not the tokenizer."""
        return {} if self._segmenter is None else {"words": self._segmenter.identity}

    @property
    def end(self) -> np.ndarray:
        """The token that closes a file or a record, [1]."""
        if self.tokenizer.end_id is None:
            raise UserError("the tokenizer has no end token, which must close every document; choose another tokenizer")
        return np.array([self.tokenizer.end_id], self._type)

    def document_keys(self, corpus: Corpus) -> np.ndarray:
        """Sorted keys of all documents, uint64 [N]: of what they are after cleaning."""
        found, key = [np.empty(0, np.uint64)], 0
        for batch in batches(corpus.documents()):
            hashes = keys(self._clean(batch)[1])
            if not batch.part:
                found.append(hashes)
                continue
            for part in hashes:
                key = join(key, int(part))
            if batch.closings[0] != "none":
                found.append(np.array([key], np.uint64))
                key = 0
        self._dropped()
        return np.unique(np.concatenate(found))

    def _clean(self, batch: Batch) -> tuple[list[int], list[str]]:
        """Indices of the documents that stay, and their text."""
        kept, texts = [], []
        for i, (text, closing) in enumerate(zip(batch.texts, batch.closings, strict=True)):
            document = self._cleaner.clean(Document(text, "", closing=closing))
            if document is not None:
                kept.append(i)
                texts.append(document.text)
        return kept, texts

    def _dropped(self) -> Counter[str]:
        dropped = Counter(self._cleaner.reasons)
        self._cleaner.reasons.clear()
        return dropped


def join(key: int, part: int) -> int:
    """Key of a document known so far by `key` (0: nothing yet) that goes on with a part."""
    if not key:
        return part
    digest = hashlib.blake2b(key.to_bytes(8, "little") + part.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _cut(text: str) -> list[str]:
    """Pieces of a little over _PIECE characters, each but the first beginning with a line's first letter."""
    cut, start = [], 0
    while len(text) - start > _PIECE and (found := _LINE.search(text, start + _PIECE)):
        cut.append(text[start : found.end()])
        start = found.end()
    return [*cut, text[start:]]
