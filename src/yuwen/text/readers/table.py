"""Tables: CSV with quotes as in RFC 4180, TSV without them (a quote is text there, as in GLUE)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain, islice

from yuwen.text.document import Document
from yuwen.text.file import File
from yuwen.text.readers.record import TEXT, record

_KNOWN = {*TEXT, "label", "labels", "id", "idx", "index", "title", "sentence1", "question", "category", "target"}
_NAME = re.compile(r"[#\w][\w# .-]{0,39}")
_CELL = 1 << 24  # a cell longer than this is a quote that was never closed
_PEEK = 50

Row = tuple[int, list[str]]


def read(file: File, field: str | None) -> Iterator[Document]:
    """The rows of a table. Without a header the columns are called 1, 2, 3, …"""
    rows = _rows(file)
    peek = list(islice(rows, _PEEK))
    if not peek:
        return
    if (separator := _other_separator(peek)) is not None:
        what = f"one column, with the same number of {separator} in each row: they seem to separate the columns"
        return file.problem(peek[0][0], None, "separator", what, "save it as .csv with commas, or as .tsv with tabs")
    names = [str(number) for number in range(1, len(peek[0][1]) + 1)]
    if _is_header(peek, field):
        names = [name.strip() for name in peek[0][1]]
        peek = peek[1:]
    elif field is None and (column := _only_text(peek)) is not None:
        field = names[column]
    for line, cells in chain(peek, rows):
        if len(cells) != len(names):
            what = f"the row has {len(cells)} columns, not {len(names)}"
            file.problem(line, None, "columns", what, "put cells that hold separators or quotes in quotes, or mend it")
        elif (document := record(file, line, dict(zip(names, cells, strict=True)), field)) is not None:
            yield document


def tabbed(file: File) -> bool:
    """Whether the first lines all have the same tabs: a table, whatever the file is called."""
    counts = {line.count("\t") for line in file.sample()[:_PEEK] if line.strip()}
    return len(counts) == 1 and counts != {0}


def _rows(file: File) -> Iterator[Row]:
    """(line, cells) of every row that is not empty."""
    if file.suffix != ".csv":
        yield from ((number, line.split("\t")) for number, line in file.lines() if line)
        return
    csv.field_size_limit(_CELL)
    reader = csv.reader((line + "\n" for _, line in file.lines()), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            file.problem(start, None, "broken CSV", f"not CSV: {error}", 'write a quote inside a quoted cell as ""')
            continue
        if row is None:
            return
        if row:
            yield start, row


def _other_separator(rows: list[Row]) -> str | None:
    """What stands in every row of one column equally often, as it does where a spreadsheet writes no commas."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        counts = {cells[0].count(mark) if len(cells) == 1 else 0 for _, cells in rows}
        if len(rows) > 1 and len(counts) == 1 and counts != {0}:
            return name
    return None


def _is_header(rows: list[Row], field: str | None) -> bool:
    """Whether the first row names the columns: it holds a known name, or a name above a column of numbers."""
    cells = [cell.strip() for cell in rows[0][1]]
    if len(set(cells)) != len(cells) or any(_is_number(cell) for cell in cells):
        return False
    if field in cells or any(cell.lower() in _KNOWN for cell in cells):
        return True
    if len(rows) < 2 or not all(not cell or _NAME.fullmatch(cell) for cell in cells):
        return False
    below = [row for _, row in rows[1:] if len(row) == len(cells)]
    return bool(below) and any(all(_is_number(row[column]) for row in below) for column in range(len(cells)))


def _only_text(rows: list[Row]) -> int | None:
    """The only column that is not numbers, if there is only one."""
    width = len(rows[0][1])
    full = [row for _, row in rows if len(row) == width]
    columns = [column for column in range(width) if not all(_is_number(row[column]) for row in full)]
    return columns[0] if len(columns) == 1 else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
