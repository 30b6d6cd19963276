"""Files as the disk has them: found, written for certain, and known by their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path


def path_of(text: str) -> Path:
    """A path as a person types it, with ~ for the home folder; the ~name of nobody is a name like others."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def cache_folder() -> Path:
    """The user's cache folder for yuwen: $XDG_CACHE_HOME/yuwen, or ~/.cache/yuwen."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yuwen"


def sync(path: Path) -> None:
    """Waits until the disk has a file's bytes, or a folder's list of names. OSError when it refuses."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Puts a text in a file's place, whole or not at all: a link and the permissions stay. OSError when the disk
    refuses, and what stood there stands there still."""
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        sync(temporary)
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file, as sha256sum prints it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
