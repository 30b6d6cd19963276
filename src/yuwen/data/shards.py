"""A prepared corpus on disk: token ids and the boundaries they carry, memory-mapped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from yuwen.errors import UserError

FORMAT = 1
WORD, SENTENCE, DOCUMENT = 1, 2, 4  # the bits of flags.bin: a word, a sentence, a document starts with this token


@dataclass(frozen=True)
class Meta:
    """What meta.json holds. It is written last, so a folder that has it is whole."""

    tokens: int
    documents: int
    bytes: int  # UTF-8 bytes of the text that was encoded, the line breaks that join lines included
    unknown: int  # tokens that stand for what the vocabulary cannot write
    vocabulary: int
    tokenizer: str  # fingerprint
    key: str  # hash of everything the shards depend on: content, tokenizer, settings
    dropped: dict[str, int] = field(default_factory=dict)  # documents left out, by reason
    format: int = FORMAT


class Shards:
    """A folder with tokens.bin, flags.bin and meta.json, read through memory maps.

    `tokens` [T] holds ids as uint16 (vocabularies up to 65,535) or uint32; `flags` [T] holds the bits
    WORD, SENTENCE and DOCUMENT. Raises UserError for a folder that is missing, unfinished or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = _read_meta(self.folder)
        self.tokens = mapped(self.folder, "tokens.bin", id_type(self.meta.vocabulary), self.meta.tokens)
        self.flags = mapped(self.folder, "flags.bin", np.dtype(np.uint8), self.meta.tokens)

    def __len__(self) -> int:
        return self.meta.tokens

    @property
    def bytes(self) -> int:
        return self.meta.bytes

    @property
    def documents(self) -> int:
        return self.meta.documents


def mapped(folder: Path, name: str, dtype: np.dtype, count: int) -> np.ndarray:
    """So many numbers of a prepared file, [count], mapped from the disk. UserError if the file has not as many."""
    path, expected = folder / name, count * dtype.itemsize
    found = path.stat().st_size if path.is_file() else None
    if found != expected:
        state = "is missing" if found is None else f"has {found} bytes instead of {expected}"
        raise UserError(f"{folder}: damaged, {name} {state}; delete the folder and prepare the data again")
    return np.memmap(path, dtype, mode="r") if count else np.empty(0, dtype)


def id_type(vocabulary: int) -> np.dtype:
    """The smallest integer type that the shards use for ids of a vocabulary."""
    return np.dtype(np.uint16 if vocabulary <= 65_535 else np.uint32)


def _read_meta(folder: Path) -> Meta:
    path = folder / "meta.json"
    if not path.is_file():
        raise UserError(f"{folder}: no prepared data here (no meta.json); make some with `yuwen data prepare`")
    try:
        meta = Meta(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{path}: damaged; delete the folder and prepare the data again") from None
    if meta.format != FORMAT:
        raise UserError(f"{folder}: prepared in format {meta.format}, this version reads {FORMAT}; prepare it again")
    return meta
