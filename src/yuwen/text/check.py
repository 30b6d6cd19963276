"""Reads all of a DATA and tells everything that is wrong with it, not only the first fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from yuwen.errors import UserError
from yuwen.text import readers
from yuwen.text.document import Document
from yuwen.text.problem import Problem
from yuwen.text.sources import documents, files
from yuwen.text.tally import Tally


@dataclass
class Report:
    """What was found. `problems` holds the first `limit` of them, `found` counts them all, by reason."""

    source: str
    files: int = 0
    documents: int = 0
    characters: int = 0
    bytes: int = 0  # of the text, as UTF-8
    empty: int = 0  # documents without a visible character
    empty_files: int = 0
    duplicates: int = 0  # documents that came before, exactly the same
    encodings: dict[str, int] = field(default_factory=dict)  # files by encoding
    found: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.found

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def check(source: str, *, field: str | None = None, encoding: str | None = None, limit: int = 100) -> Report:
    """Reads everything once, in bounded memory.

    Empty files, empty documents and duplicates are counted, and are no problems. Raises UserError only if the source
    is not there at all.
    """
    problems: list[Problem] = []
    found, encodings, tally = Counter[str](), Counter[str](), Tally()
    empty_files = 0

    def keep(problem: Problem) -> None:
        found[problem.reason] += 1
        if len(problems) < limit:
            problems.append(problem)

    listed = files(source, encoding, keep)
    if source.startswith("sample:"):
        _count(tally, documents(listed, source, field))
        encodings["utf-8"] = len(listed)
    else:
        for file in listed:
            before = tally.documents, found.total()
            try:
                _count(tally, readers.read(file, field))
            except UserError as error:  # a file that cannot be opened, or a setting that does not fit it
                what, _, fix = str(error).removeprefix(f"{file.name}: ").rpartition("; ")
                keep(Problem(file.name, None, None, "unreadable", what, fix))
            else:
                encodings[file.decoded] += 1
            empty_files += before == (tally.documents, found.total())
    if not tally.documents and not found:
        keep(Problem(source, None, None, "nothing to read", "holds no text", "name a file with text in it"))
    return Report(
        source,
        files=len(listed),
        documents=tally.documents,
        characters=tally.characters,
        bytes=tally.bytes,
        empty=tally.empty,
        empty_files=empty_files,
        duplicates=tally.duplicates,
        encodings=dict(encodings),
        found=dict(found),
        problems=problems,
    )


def _count(tally: Tally, stream: Iterable[Document]) -> None:
    try:
        for document in stream:
            tally.add(document)
    finally:
        tally.finish()
