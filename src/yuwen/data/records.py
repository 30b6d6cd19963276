"""Records → rows on disk: cleaned, without copies and contradictions, encoded, cached.

A row keeps its texts apart (`tokens.bin`, one after another, and `starts.bin` [N, F + 1], where each of its F texts
starts and the last one ends) and has its label (`labels.bin`) or score (`scores.bin`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from yuwen import __version__
from yuwen.config import nearest
from yuwen.data.corpus import Corpus
from yuwen.data.folder import finished, folder_of, unfinished
from yuwen.data.shards import id_type, mapped
from yuwen.data.writer import write_safely, writing
from yuwen.errors import UserError
from yuwen.text import Cleaner, Document, FieldsConfig, Row, TextConfig, keys, rows
from yuwen.text.problem import Problem, stop
from yuwen.tokens import Tokenizer

FORMAT = 2
RAW = TextConfig(normalise="none", control=False, whitespace="keep")
"""Texts as they stand: what is measured is never normalised."""
_ROWS = 1 << 12  # cleaned and encoded together
_MOST_LABELS = 10_000


@dataclass(frozen=True)
class RowMeta:
    """What meta.json holds. It is written last, so a folder that has it is whole."""

    rows: int
    fields: list[str]  # roles of the texts
    labels: list[str]  # names in the order of their ids; none where rows have no label
    scored: bool
    tokens: int
    bytes: int  # UTF-8 bytes of the texts
    unknown: int  # tokens that stand for what the vocabulary cannot write
    vocabulary: int
    tokenizer: str  # fingerprint
    key: str  # hash of everything the rows depend on
    dropped: dict[str, int] = field(default_factory=dict)  # rows left out, by reason
    format: int = FORMAT

    @property
    def documents(self) -> int:
        """Rows, as shards of running text count documents."""
        return self.rows


class RowShards:
    """A folder of rows, read through memory maps. Raises UserError for one that is missing, unfinished or damaged.

    `tokens` [T]; `starts` [N, F + 1]; `labels` int32 [N] or None; `scores` float32 [N] or None.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = _read_meta(self.folder)
        rows, width = self.meta.rows, len(self.meta.fields) + 1
        self.tokens = mapped(self.folder, "tokens.bin", id_type(self.meta.vocabulary), self.meta.tokens)
        self.starts = mapped(self.folder, "starts.bin", np.dtype(np.int64), rows * width).reshape(rows, width)
        self.labels = mapped(self.folder, "labels.bin", np.dtype(np.int32), rows) if self.meta.labels else None
        self.scores = mapped(self.folder, "scores.bin", np.dtype(np.float32), rows) if self.meta.scored else None

    def __len__(self) -> int:
        return self.meta.rows

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self.meta.fields)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, all its texts together, int64 [N]."""
        return self.starts[:, -1] - self.starts[:, 0]

    def text(self, row: int, place: int, most: int) -> np.ndarray:
        """The first `most` ids of one text, int64."""
        start, end = (int(edge) for edge in self.starts[row, place : place + 2])
        return self.tokens[start : min(end, start + most)].astype(np.int64)


def prepare_rows(
    documents: Corpus,
    fields: FieldsConfig,
    tokenizer: Tokenizer,
    cache: str | Path | None = None,
    *,
    out: str | Path | None = None,
    text: TextConfig | None = None,
    deduplicate: bool = True,
    exclude: Corpus | None = None,
    labels: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> RowShards:
    """Makes the rows of a corpus that was read with `field=fields.first`, or finds them already made.

    The folder is `out`, or one in `cache` (default ~/.cache/yuwen/shards) named by the hash of all that the result
    depends on: content, fields, tokenizer, settings. It appears by one rename, so it is whole or absent.
    Rows are left out if the cleaning `text` asks for drops one of their texts (an empty one at least), and if their
    texts occur in `exclude` (the validation corpus).
    `deduplicate` keeps the first of equal rows, and none of rows with equal texts whose labels or scores differ: they
    cannot all be right. `labels` are the names that are known; by default those found, numbers in their order, words
    in that of their code points. Nothing is encoded before every row was found good: memory holds 20 bytes a row,
    and several times that while equal rows are looked for.
    `progress` hears how many rows were encoded.
    Raises UserError for a faulty row (file, line, field), a label that is not among `labels`, if nothing is left, if
    the disk refuses, or if `out` holds something else.
    """
    text = text or TextConfig()
    key = _key(documents, fields, tokenizer, text, deduplicate, exclude, labels)
    folder = folder_of(out, cache, key)
    if (found := finished(folder, key, RowShards)) is not None:
        return found
    with unfinished(folder, key, RowShards) as partial:
        if partial is None:  # another process finished it while this one waited
            return RowShards(folder)
        try:
            survey = _Survey(fields, text, labels)
            survey.read(documents, exclude)
            keep = survey.keep(deduplicate)
            if not keep.any():
                reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(survey.dropped.items()))
                raise UserError(f"{documents.name}: no row is left to prepare ({reasons or 'there are no records'})")
            figures = _write(partial, survey.rows(documents), keep, tokenizer, survey.names, fields, progress)
            meta = RowMeta(
                rows=int(keep.sum()),
                fields=list(fields.texts),
                labels=survey.names if fields.label is not None else [],
                scored=fields.score is not None,
                vocabulary=tokenizer.size,
                tokenizer=tokenizer.fingerprint,
                key=key,
                dropped=dict(survey.dropped),
                **figures,
            )
        except UserError:  # mended data has another key
            shutil.rmtree(partial)
            raise
        with writing(partial):
            write_safely(partial / "meta.json", asdict(meta))
            partial.rename(folder)
    return RowShards(folder)


def field_texts(documents: Corpus, fields: FieldsConfig) -> Iterator[Document]:
    """Every text of every row as a document of its own: what a tokenizer is trained on."""
    for row in rows(documents.documents(), fields):
        for text in row.texts:
            yield Document(text, row.source, row.line)


class _Survey:
    """A pass over all rows before any is encoded: which of them stay, and which labels there are. One use each."""

    def __init__(self, fields: FieldsConfig, text: TextConfig, labels: Sequence[str] | None) -> None:
        self.fields, self.known, self._cleaner = fields, labels, Cleaner(text)
        self.dropped: Counter[str] = Counter()
        self._ids: dict[str, int] = {} if labels is None else {name: n for n, name in enumerate(labels)}
        self._unknown: dict[int, Problem] = {}
        self._keys = np.empty(0, np.uint64)
        self._values = np.empty(0)
        self._good = np.empty(0, bool)

    def rows(self, documents: Corpus) -> Iterator[Row]:
        """The rows of a corpus with their texts cleaned."""
        for row in rows(documents.documents(), self.fields):
            yield Row(self._clean(row.texts), row.label, row.score, row.source, row.line)

    def read(self, documents: Corpus, exclude: Corpus | None) -> None:
        """Meets all rows."""
        excluded = np.empty(0, np.uint64) if exclude is None else np.unique(self._keys_of(self.rows(exclude)))
        self._cleaner.reasons.clear()
        hashes, values, good = [], [], []
        stream = self.rows(documents)
        while batch := list(islice(stream, _ROWS)):
            hashes.append(self._keys_of(batch))
            values.append(np.array([self._value(row) if row.texts else 0 for row in batch], np.float64))
            good.append(np.array([bool(row.texts) for row in batch], bool))
        self._keys, self._values, self._good = (
            np.concatenate([np.empty(0, kind), *parts])
            for kind, parts in ((np.uint64, hashes), (np.float64, values), (bool, good))
        )
        self.dropped.update(self._cleaner.reasons)
        self._leave_out(np.isin(self._keys, excluded), "also in validation")

    @property
    def names(self) -> list[str]:
        """The labels that are known, or those of the rows that stay, in order."""
        if self.known is not None:
            return list(self.known)
        there = self._there()
        return sorted((name for name, number in self._ids.items() if number in there), key=_order)

    def _there(self) -> set[int]:
        """Numbers of the labels of the rows that stay."""
        return set(self._values[self._good].astype(np.int64).tolist())

    def keep(self, deduplicate: bool) -> np.ndarray:
        """Which rows stay, bool [N]. UserError for one of them whose label is not known."""
        if deduplicate:
            places = np.flatnonzero(self._good)
            _, first, group, sizes = np.unique(
                self._keys[places], return_index=True, return_inverse=True, return_counts=True
            )
            values = self._values[places]
            torn = np.zeros(len(first), bool)
            torn[group[values != values[first][group]]] = True
            later = np.ones(len(places), bool)
            later[first] = False
            for reason, mask in (("contradictory", torn[group]), ("duplicate", later)):
                of_all = np.zeros(len(self._good), bool)
                of_all[places] = mask
                self._leave_out(of_all, reason)
        for number in sorted(self._unknown.keys() & self._there()):
            stop(self._unknown[number])
        return self._good

    def _clean(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """The texts cleaned; none if one of them is dropped."""
        cleaned = []
        for text in texts:
            document = self._cleaner.clean(Document(text, ""))
            if document is None:
                return ()
            cleaned.append(document.text.strip())
        return tuple(cleaned)

    def _keys_of(self, found: Any) -> np.ndarray:
        return keys("\0".join(row.texts) for row in found)

    def _value(self, row: Row) -> float:
        """What rows with equal texts must agree on: the label's number in order of appearance, or the score."""
        if row.label is None:
            return 0.0 if row.score is None else row.score
        if row.label not in self._ids:
            column = self.fields.label
            if self.known is not None:  # a fault, if the row stays
                what = f"the label {row.label!r} is not known: no row that is learnt from has it"
                fix = f"mend the row ({nearest(row.label, list(self.known))}), or learn from such rows too"
                self._unknown[len(self._ids)] = row.problem(column, "unknown label", what, fix)
            if len(self._ids) == _MOST_LABELS:
                fix = "name the column of the classes"
                stop(row.problem(column, "labels", f"more than {_MOST_LABELS:,} different labels", fix))
            self._ids[row.label] = len(self._ids)
        return self._ids[row.label]

    def _leave_out(self, mask: np.ndarray, reason: str) -> None:
        if count := int((self._good & mask).sum()):
            self.dropped[reason] = count
        self._good = self._good & ~mask


def _write(
    folder: Path,
    stream: Iterator[Row],
    keep: np.ndarray,
    tokenizer: Tokenizer,
    names: list[str],
    fields: FieldsConfig,
    progress: Callable[[int], None] | None,
) -> dict[str, int]:
    """Encodes the rows that stay into the folder's files; tokens, bytes and unknown tokens."""
    numbers = {name: number for number, name in enumerate(names)}
    kind, count = id_type(tokenizer.size), len(fields.texts)
    kept = (row for row, stays in zip(stream, keep, strict=True) if stays)
    tokens = size = unknown = done = 0
    with writing(folder):
        files = {name: (folder / f"{name}.bin").open("wb") for name in ("tokens", "starts", "labels", "scores")}
        try:
            while batch := list(islice(kept, _ROWS)):
                texts = list(chain.from_iterable(row.texts for row in batch))
                ids = tokenizer.encode_batch(texts)
                ends = tokens + np.cumsum([len(part) for part in ids]).reshape(len(batch), count)
                before = np.concatenate([[tokens], ends[:-1, -1]])[:, None]
                joined = np.concatenate([np.empty(0, np.int32), *ids])
                files["tokens"].write(joined.astype(kind).tobytes())
                files["starts"].write(np.concatenate([before, ends], axis=1).astype(np.int64).tobytes())
                if fields.label is not None:
                    files["labels"].write(np.array([numbers[str(row.label)] for row in batch], np.int32).tobytes())
                if fields.score is not None:
                    files["scores"].write(np.array([row.score for row in batch], np.float32).tobytes())
                tokens += len(joined)
                size += sum(len(text.encode()) for text in texts)
                unknown += 0 if tokenizer.unknown_id is None else int((joined == tokenizer.unknown_id).sum())
                done += len(batch)
                if progress is not None:
                    progress(done)
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        finally:
            for file in files.values():
                file.close()
    return {"tokens": tokens, "bytes": size, "unknown": unknown}


def _order(label: str) -> tuple[int, int, str]:
    """Numbers in their order, then words."""
    return (0, int(label), label) if label.removeprefix("-").isdecimal() else (1, 0, label)


def _key(
    documents: Corpus,
    fields: FieldsConfig,
    tokenizer: Tokenizer,
    text: TextConfig,
    deduplicate: bool,
    exclude: Corpus | None,
    labels: Sequence[str] | None,
) -> str:
    parts = {
        "rows": FORMAT,
        "version": __version__,
        "documents": documents.identity,
        "fields": fields.model_dump(mode="json"),
        "tokenizer": tokenizer.fingerprint,
        "text": text.identity,
        "deduplicate": deduplicate,
        "exclude": exclude.identity if exclude else None,
        "labels": None if labels is None else list(labels),
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _read_meta(folder: Path) -> RowMeta:
    path = folder / "meta.json"
    if not path.is_file():
        raise UserError(f"{folder}: no prepared rows here (no meta.json); prepare them again")
    try:
        meta = RowMeta(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{path}: damaged; delete the folder and prepare the data again") from None
    if meta.format != FORMAT:
        raise UserError(f"{folder}: prepared in format {meta.format}, this version reads {FORMAT}; prepare it again")
    return meta
