"""Files as the disk has them: found, written for certain, and known by their bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def path_of(text: str) -> Path:
    """A path as a person types it, with ~ for the home folder; the ~name of nobody is a name like others."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def sync(path: Path) -> None:
    """Waits until the disk has a file's bytes, or a folder's list of names. OSError when it refuses."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """SHA-256 of a file, as sha256sum prints it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
