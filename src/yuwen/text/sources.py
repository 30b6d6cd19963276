"""DATA → files → documents: a path, a folder, a glob, files side by side, hf:org/name, sample:NAME."""

from __future__ import annotations

import difflib
import glob
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from yuwen.disk import path_of
from yuwen.errors import UserError
from yuwen.text import readers, samples
from yuwen.text.document import Document
from yuwen.text.encoding import known
from yuwen.text.file import File, natural
from yuwen.text.problem import Handle, counting, stop
from yuwen.text.readers import side_by_side


def read(
    source: str, *, field: str | None = None, encoding: str | None = None, errors: Counter[str] | None = None
) -> Iterator[Document]:
    """The documents of any DATA, streaming.

    `field` names the text's column in records, `encoding` that of text files which are not UTF-8.
    The first fault in the data raises UserError; with `errors` a faulty row is left out, an undecodable byte becomes
    U+FFFD, and both are counted there by reason.
    Raises UserError if there is nothing to read.
    """
    return documents(files(source, encoding, stop if errors is None else counting(errors)), source, field)


def discover(source: str) -> list[Path]:
    """The files behind a DATA, in natural order (part2 before part10); those of hf: are fetched first.

    Hidden files in a folder are passed over. Raises UserError if there are none.
    """
    return [file.path for file in files(source)]


def files(source: str, encoding: str | None = None, handle: Handle = stop) -> list[File]:
    """The files behind a DATA, with the names to call them by."""
    if encoding is not None:
        known(encoding)
    if source.startswith("sample:"):
        if encoding is not None:
            raise UserError(f"{source}: data.encoding={encoding} means nothing for a sample; drop the setting")
        return [File(path, source, handle=handle) for path in samples.paths(source)]
    if source.startswith("hf:"):
        from yuwen.text.hub import fetch

        return [File(path, name, encoding, handle) for path, name in fetch(source)]
    if (beside := side_by_side.names(source)) is not None:
        return [File(path, str(path), encoding, handle) for path in map(_one, beside.values())]
    return [File(path, str(path), encoding, handle) for path in _paths(source)]


def documents(found: list[File], source: str, field: str | None) -> Iterator[Document]:
    """The documents of these files, which are those of `source`."""
    if source.startswith("sample:"):
        if field not in (None, "text"):
            raise UserError(f"{source}: data.field={field} means nothing for a sample; drop the setting")
        return samples.read(source)
    if (beside := side_by_side.names(source)) is not None:
        return side_by_side.read(dict(zip(beside, found, strict=True)), source, field)
    return _documents(found, source, field)


def _documents(found: list[File], source: str, field: str | None) -> Iterator[Document]:
    empty = True
    for file in found:
        for document in readers.read(file, field):
            empty = False
            yield document
    if empty:
        which = found[0] if len(found) == 1 else File(Path(source), source, handle=found[0].handle)
        what = "is empty" if len(found) == 1 else f"none of its {len(found)} files holds any text"
        which.problem(None, None, "nothing to read", what, "name a file with text in it")


def _paths(source: str) -> list[Path]:
    path = path_of(source)
    try:
        if path.is_dir():
            found = list(_inside(path))
            if not found:
                raise UserError(f"{source}: the folder holds no files; name one that does")
        elif path.exists():
            found = [path]
        elif glob.has_magic(source):
            matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob shows hidden files)
            found = [match for match in matches if match.is_file()]
            if not found:
                raise UserError(f"{source}: no file matches; check the pattern, and quote it for the shell")
        else:
            raise UserError(f"{source}: no such file or folder; {_nearest(path)}")
    except OSError as error:
        raise UserError(f"{error.filename or source}: cannot be read: {error.strerror}; check the path") from None
    return sorted(found, key=natural)


def _one(source: str) -> Path:
    found = _paths(source)
    if len(found) != 1:
        raise UserError(f"{source}: {len(found)} files; files side by side are named one by one")
    return found[0]


def _inside(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()  # a link may lead back to where it was met
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = os.stat(parent)  # noqa: PTH116
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _nearest(path: Path) -> str:
    names = [near.name for near in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.with_name(close[0])}?" if close else "check the path"
