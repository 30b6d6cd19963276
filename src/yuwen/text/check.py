"""Reads all of a DATA and tells everything that is wrong with it, not only the first fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from yuwen.errors import UserError
from yuwen.text import readers
from yuwen.text.document import Document
from yuwen.text.problem import Handle, Problem
from yuwen.text.readers import side_by_side
from yuwen.text.rows import FieldsConfig, rows
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


def check(
    source: str,
    *,
    field: str | None = None,
    encoding: str | None = None,
    fields: FieldsConfig | None = None,
    limit: int = 100,
) -> Report:
    """Reads everything once, in bounded memory; with `fields` every record must be a row of that shape.

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

    if fields is not None:
        field = fields.first
    listed = files(source, encoding, keep)
    together = side_by_side.names(source) is not None
    if source.startswith("sample:"):
        _count(tally, _checked(documents(listed, source, field), fields, keep))
        encodings["utf-8"] = len(listed)
    else:
        for part in [listed] if together else [[file] for file in listed]:
            before, name = (tally.documents, found.total()), source if together else part[0].name
            stream = documents(part, source, field) if together else readers.read(part[0], field)
            try:
                _count(tally, _checked(stream, fields, keep))
            except UserError as error:  # a file that cannot be opened, or a setting that does not fit it
                what, _, fix = str(error).removeprefix(f"{name}: ").rpartition("; ")
                keep(Problem(name, None, None, "unreadable", what, fix))
            else:
                encodings.update(file.decoded for file in part)
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


def _checked(stream: Iterable[Document], fields: FieldsConfig | None, handle: Handle) -> Iterator[Document]:
    """The documents as they are; those that make no row are told of."""
    for document in stream:
        if fields is not None:
            for _ in rows([document], fields, handle):
                pass
        yield document


def _count(tally: Tally, stream: Iterable[Document]) -> None:
    try:
        for document in stream:
            tally.add(document)
    finally:
        tally.finish()
