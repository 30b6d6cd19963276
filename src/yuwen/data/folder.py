"""A folder that is prepared once: made by one process under another name, and there as a whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from yuwen.data.writer import writing
from yuwen.disk import cache_folder, path_of
from yuwen.errors import UserError


class Prepared(Protocol):
    """What such a folder holds: `meta.key` is the hash of everything it depends on."""

    @property
    def meta(self) -> Any: ...


_FILES = ("tokens.bin", "flags.bin", "starts.bin", "labels.bin", "scores.bin", "meta.json")
P = TypeVar("P", bound=Prepared)


def default_cache() -> Path:
    """Where shards are kept unless told otherwise: $XDG_CACHE_HOME/yuwen/shards, or ~/.cache/yuwen/shards."""
    return cache_folder() / "shards"


def folder_of(out: str | Path | None, cache: str | Path | None, key: str) -> Path:
    """The folder `out`, or one in `cache` (default `default_cache`) that bears the key's name."""
    return path_of(str(out)).resolve() if out else Path(cache or default_cache()) / key


def finished(folder: Path, key: str, open: Callable[[Path], P]) -> P | None:
    """What the folder holds, if it is there and whole; what is damaged and ours is removed; all else is not touched.

    `open` raises UserError for a damaged folder. Ours is what bears our key, by its name or in its meta.json.
    """
    if not folder.exists():
        return None
    if not (folder / "meta.json").is_file():
        if folder.is_dir() and not any(folder.iterdir()):
            return None
        raise UserError(f"{folder}: already holds something that is not prepared data; choose another folder")
    try:
        prepared = open(folder)
    except UserError as error:
        if key not in (folder.name, _key_in(folder / "meta.json")):
            raise UserError(f"{folder}: already holds something else; choose another folder") from None
        print(f"{error} (doing so)", file=sys.stderr)
        with writing(folder):
            for name in _FILES:
                (folder / name).unlink(missing_ok=True)
        return finished(folder, key, open)
    if prepared.meta.key != key:
        raise UserError(f"{folder}: holds data prepared from something else; choose another folder or delete it")
    return prepared


def _key_in(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("key") if isinstance(found, dict) else None


@contextlib.contextmanager
def unfinished(folder: Path, key: str, open: Callable[[Path], Prepared]) -> Iterator[Path | None]:
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
            if finished(folder, key, open) is not None:
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
