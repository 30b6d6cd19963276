"""Files side by side: line n of each is a field of record n, as parallel corpora are published.

`train.{en,de}.gz` names the files train.en.gz and train.de.gz; their fields are called en and de.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from yuwen.errors import UserError
from yuwen.text.document import Document
from yuwen.text.file import File
from yuwen.text.readers.record import record

_BRACES = re.compile(r"\{([^{}/]+(?:,[^{}/]+)+)\}")


def names(source: str) -> dict[str, str] | None:
    """The files of a DATA such as `train.{en,de}` by the names of their fields; None for any other."""
    found = _BRACES.search(source)
    if found is None or Path(source).exists():
        return None
    parts = found[1].split(",")
    if len(set(parts)) != len(parts):
        raise UserError(f"{source}: a name stands twice in the braces; name each file once")
    return {part: source[: found.start()] + part + source[found.end() :] for part in parts}


def read(files: dict[str, File], source: str, field: str | None) -> Iterator[Document]:
    """One record for each line; `field` names the one that is the text (default: the first)."""
    field = next(iter(files)) if field is None else field
    for number, lines in enumerate(zip_longest(*(_lines(file) for file in files.values())), 1):
        for file, line in zip(files.values(), lines, strict=True):
            if line is None:
                what = f"the file ends at line {number}, and others of {source} go on"
                return file.problem(number, None, "lines", what, "give files that have the same lines")
        first = next(iter(files.values()))
        document = record(first, number, dict(zip(files, lines, strict=True)), field)
        if document is not None:
            yield document


def _lines(file: File) -> Iterator[str]:
    """Every line, empty ones too: they keep the files in step."""
    return (line for _, line in file.lines())
