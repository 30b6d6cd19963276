"""One reader per format; which one reads a file is told by its name, or by its content where names mean little."""

from __future__ import annotations

from collections.abc import Iterator

from yuwen.errors import UserError
from yuwen.text.document import Document
from yuwen.text.file import File
from yuwen.text.readers import columns, json, parquet, plain, table


def read(file: File, field: str | None) -> Iterator[Document]:
    """The documents of one file. `field` names the text's column; a format that has none refuses it."""
    if file.head.startswith(parquet.MAGIC) or file.suffix == ".parquet":
        yield from parquet.read(file, field)
    elif file.suffix in (".jsonl", ".ndjson"):
        yield from json.read_lines(file, field)
    elif file.suffix == ".json":
        yield from json.read(file, field)
    elif columns.recognise(file):
        _no_field(file, field, "word and tag columns")
        yield from columns.read(file)
    elif file.suffix in (".csv", ".tsv") or (field is not None and table.tabbed(file)):
        yield from table.read(file, field)
    else:
        _no_field(file, field, "plain text")
        yield from plain.read(file)


def _no_field(file: File, field: str | None, kind: str) -> None:
    if field is not None:
        raise UserError(
            f"{file.name}: data.field={field} means nothing here: the file is {kind}; drop the setting,"
            " or give rows (.jsonl, .csv, .tsv, .parquet)"
        )
