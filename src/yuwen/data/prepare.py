"""Documents → shards: cleaned, deduplicated, encoded; cached, parallel, resumable."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from yuwen import __version__
from yuwen.data.corpus import Corpus
from yuwen.data.encode import Encoder, batches
from yuwen.data.folder import finished, folder_of, unfinished
from yuwen.data.shards import FORMAT, Meta, Shards
from yuwen.data.words import Words
from yuwen.data.workers import encode
from yuwen.data.writer import Progress, Writer, write_safely, writing
from yuwen.errors import UserError
from yuwen.text import Document, TextConfig
from yuwen.tokens import Tokenizer


def prepare(
    documents: Corpus,
    tokenizer: Tokenizer,
    cache: str | Path | None = None,
    *,
    out: str | Path | None = None,
    text: TextConfig | None = None,
    deduplicate: bool = True,
    exclude: Corpus | None = None,
    words: Words = "pieces",
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Shards:
    """Cleans, deduplicates and encodes a corpus into a folder of shards, or finds it already done.

    The folder is `out`, or one in `cache` (default ~/.cache/yuwen/shards) named by the hash of all that the result
    depends on: content, tokenizer, settings. A document that occurs in `exclude` (the validation corpus) is left out.
    Every kept document is followed as its `closing` says: by the end token, a line break, or nothing.
    `words` says who tells where words start: the tokenizer's pieces, or a segmenter (jieba).
    The result does not depend on `workers` (processes; default: one per core; small corpora use none), nor on
    interruptions: what was killed goes on from its last commit, and the finished folder appears by one rename.
    `progress` is called after every batch.
    Raises UserError if nothing is left, if the disk refuses, or if `out` holds something else.
    """
    text = text or TextConfig()
    encoder = Encoder(tokenizer, text, words)
    key = _key(documents, encoder, deduplicate, exclude)
    folder = folder_of(out, cache, key)
    if (shards := finished(folder, key, Shards)) is not None:
        return shards
    with unfinished(folder, key, Shards) as partial:
        if partial is None:  # another process finished it while this one waited
            return Shards(folder)
        excluded = np.empty(0, np.uint64) if exclude is None else encoder.document_keys(exclude)
        with contextlib.closing(Writer(partial, tokenizer, deduplicate, excluded)) as writer:
            pieces = batches(_rest(documents, writer.progress, partial), inside=writer.progress.open is not None)
            with contextlib.closing(encode(pieces, encoder, workers or cores())) as results:
                for batch, encoded in results:
                    writer.add(batch, encoded)
                    if progress is not None:
                        progress(writer.progress)
            done = writer.finish()
        if not done.tokens:
            shutil.rmtree(partial)
            raise UserError(f"{documents.name}: no text is left to prepare ({_reasons(done.dropped)})")
        meta = Meta(
            tokens=done.tokens,
            documents=done.documents,
            bytes=done.bytes,
            unknown=done.unknown,
            vocabulary=tokenizer.size,
            tokenizer=tokenizer.fingerprint,
            key=key,
            dropped=done.dropped,
        )
        with writing(partial):
            write_safely(partial / "meta.json", asdict(meta))
            (partial / "keys.bin").unlink()
            (partial / "progress.json").unlink()
            partial.rename(folder)
    return Shards(folder)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(documents: Corpus, encoder: Encoder, deduplicate: bool, exclude: Corpus | None) -> str:
    parts = {
        "format": FORMAT,
        "version": __version__,
        "documents": documents.identity,
        "tokenizer": encoder.tokenizer.fingerprint,
        "text": encoder.config.identity,
        "deduplicate": deduplicate,
        "exclude": exclude.identity if exclude else None,
        **encoder.segmentation,
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _rest(documents: Corpus, progress: Progress, partial: Path) -> Iterator[Document]:
    """What the last commit has not seen. An error in the text makes the work useless: mended, it has another key."""
    try:
        yield from islice(documents.documents(), progress.pieces, None)
    except UserError:
        shutil.rmtree(partial)
        raise


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "there are no documents"
