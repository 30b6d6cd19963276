"""A corpus: documents that can be read any number of times, and an identity to cache by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yuwen.errors import UserError
from yuwen.text import Document, discover, read
from yuwen.text.file import File
from yuwen.text.readers import side_by_side

_SMALL = 1 << 23  # characters
_RECORDS = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"}


@dataclass(frozen=True)
class Corpus:
    """Documents behind a name. `documents()` starts a new pass over them each time it is called."""

    name: str
    documents: Callable[[], Iterator[Document]]
    identity: str  # equal identities promise equal documents
    files: bool = False  # documents are whole text files, so a share of them is counted in characters


def corpus(sources: str | Sequence[str], field: str | None = None, encoding: str | None = None) -> Corpus:
    """The corpus of one DATA or several, in the order given.

    `field` names the text's column in records; `encoding` that of text files which are not UTF-8.
    Its identity is the content of its files, not their names: a file moved or copied is prepared once.
    """
    names = [sources] if isinstance(sources, str) else list(sources)
    paths = [path for name in names for path in discover(name)]

    def read_all() -> Iterator[Document]:
        for name in names:
            yield from read(name, field=field, encoding=encoding)

    return Corpus(
        name=" ".join(names),
        documents=_kept(read_all),
        identity=_identity(names, paths, field, encoding),
        files=not any(name.startswith("sample:") for name in names)
        and all(_kind(path) not in _RECORDS for path in paths),
    )


def _kept(read_all: Callable[[], Iterator[Document]]) -> Callable[[], Iterator[Document]]:
    """Passes over the documents; of a small corpus only the first reads, for counting and splitting take passes too."""
    memory: list[Document] | None = None

    def documents() -> Iterator[Document]:
        nonlocal memory
        if memory is not None:
            yield from memory
            return
        found: list[Document] = []
        room = _SMALL
        for document in read_all():
            room -= len(document.text)
            if room >= 0:
                found.append(document)
            else:
                found.clear()
            yield document
        if room >= 0:
            memory = found

    return documents


def _identity(names: list[str], paths: list[Path], field: str | None, encoding: str | None) -> str:
    samples = [name for name in names if name.startswith("sample:")]
    beside = [list(fields) for fields in map(side_by_side.names, names) if fields is not None]
    known = (samples, field, encoding, *beside)
    digest = hashlib.blake2b(repr(known).encode(), digest_size=16)
    for path in paths:
        try:
            digest.update(f"\0{_kind(path)} {path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}; check its permissions") from None
    return digest.hexdigest()


def _kind(path: Path) -> str:
    return File(path, str(path)).suffix
