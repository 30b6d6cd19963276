"""Documents → shards: cleaned, deduplicated, encoded; cached, parallel, resumable."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from yuwen import __version__
from yuwen.data.corpus import Corpus
from yuwen.data.encode import Encoder, batches
from yuwen.data.shards import FORMAT, Meta, Shards
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
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Shards:
    """Cleans, deduplicates and encodes a corpus into a folder of shards, or finds it already done.

    The folder is `out`, or one in `cache` (default ~/.cache/yuwen/shards) named by the hash of all that the result
    depends on: content, tokenizer, settings. A document that occurs in `exclude` (the validation corpus) is left out.
    Every kept document is followed as its `closing` says: by the end token, a line break, or nothing.
    The result does not depend on `workers` (processes; default: one per core; small corpora use none), nor on
    interruptions: what was killed goes on from its last commit, and the finished folder appears by one rename.
    `progress` is called after every batch.
    Raises UserError if nothing is left, if the disk refuses, or if `out` holds something else.
    """
    text = text or TextConfig()
    key = _key(documents, tokenizer, text, deduplicate, exclude)
    folder = Path(out) if out else Path(cache or default_cache()) / key
    if (shards := _finished(folder, key)) is not None:
        return shards
    with _unfinished(folder, key) as partial:
        if partial is None:  # another process finished it while this one waited
            return Shards(folder)
        encoder = Encoder(tokenizer, text)
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


def default_cache() -> Path:
    """Where shards are kept unless told otherwise: $XDG_CACHE_HOME/yuwen/shards, or ~/.cache/yuwen/shards."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yuwen" / "shards"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(documents: Corpus, tokenizer: Tokenizer, text: TextConfig, deduplicate: bool, exclude: Corpus | None) -> str:
    parts = {
        "format": FORMAT,
        "version": __version__,
        "documents": documents.identity,
        "tokenizer": tokenizer.fingerprint,
        "text": text.model_dump(mode="json"),
        "deduplicate": deduplicate,
        "exclude": exclude.identity if exclude else None,
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _finished(folder: Path, key: str) -> Shards | None:
    """The shards, if they are there and whole; what is damaged is removed; anything else is not touched."""
    if not folder.exists():
        return None
    if not (folder / "meta.json").is_file():
        if folder.is_dir() and not any(folder.iterdir()):
            return None
        raise UserError(f"{folder}: already holds something that is not prepared data; choose another folder")
    try:
        shards = Shards(folder)
    except UserError as error:
        print(f"{error} (doing so)", file=sys.stderr)
        with writing(folder):
            for name in ("tokens.bin", "flags.bin", "meta.json"):
                (folder / name).unlink(missing_ok=True)
        return _finished(folder, key)
    if shards.meta.key != key:
        raise UserError(f"{folder}: holds data prepared from something else; choose another folder or delete it")
    return shards


@contextlib.contextmanager
def _unfinished(folder: Path, key: str) -> Iterator[Path | None]:
    """The locked folder to work in, beside the final one; None if the final one appeared while waiting for the lock."""
    partial = folder.with_name(f"{folder.name}.{key[:8]}.partial")
    while True:
        with writing(folder):
            partial.mkdir(parents=True, exist_ok=True)
            lock = os.open(partial, os.O_RDONLY)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{folder}: waiting for another process that is preparing it", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if _finished(folder, key) is not None:
                yield None
                return
            if _names(partial, lock):
                yield partial
                return
        finally:
            if _names(partial, lock):
                with contextlib.suppress(OSError):  # only where nothing was begun
                    partial.rmdir()
            os.close(lock)


def _names(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _rest(documents: Corpus, progress: Progress, partial: Path) -> Iterator[Document]:
    """What the last commit has not seen. An error in the text makes the work useless: mended, it has another key."""
    try:
        yield from islice(documents.documents(), progress.pieces, None)
    except UserError:
        shutil.rmtree(partial)
        raise


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "there are no documents"
