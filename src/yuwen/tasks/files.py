"""Inputs from files, and results to files that a second run completes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from yuwen.disk import replace_text, sha256
from yuwen.errors import UserError
from yuwen.tasks.contract import place
from yuwen.text import Document
from yuwen.text.file import File
from yuwen.text.readers import columns, parquet, side_by_side
from yuwen.text.readers import read as read_file
from yuwen.text.sources import documents, files

_RECORDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def read_inputs(source: str, field: str | None = None) -> Iterator[Document]:
    """The inputs of a file, folder or glob: records and columns as `yuwen.text` reads them, else one input a line.

    What `field` names is the input, whatever else a row holds. Files side by side and samples are read as everywhere.
    Blank lines are passed over. UserError at once where there is no such file; on the way for a faulty row, with file
    and line, and for a file without any.
    """
    found = files(source)
    if source.startswith("sample:") or side_by_side.names(source) is not None:
        inputs = documents(found, source, field)
    else:
        inputs = chain.from_iterable(_inputs(file, field) for file in found)
    return _some(inputs if field is None else map(_as_named, inputs), source)


def _inputs(file: File, field: str | None) -> Iterator[Document]:
    if file.suffix in _RECORDS or file.head.startswith(parquet.MAGIC) or columns.recognise(file):
        return read_file(file, field)
    if field is not None:
        raise UserError(f"{file.name}: --field {field} means nothing here: each line is an input; leave it out")
    return (Document(line, file.name, number) for number, line in file.lines() if line.strip())


def _as_named(document: Document) -> Document:
    """The row without the conversation and the question of its own, which a task would ask instead of its text."""
    fields = {name: value for name, value in document.fields.items() if name != "messages"}
    if isinstance(fields.get("context"), str):
        fields["question"] = document.text
    return replace(document, fields=fields)


def _some(inputs: Iterable[Document], source: str) -> Iterator[Document]:
    empty = True
    for document in inputs:
        empty = False
        yield document
    if empty:
        raise UserError(f"{source}: holds no input: write one a line")


def read_context(path: str) -> str:
    """A file's whole text, to answer from."""
    found = files(path)
    if len(found) != 1 or path.startswith("sample:"):
        raise UserError(f"{path}: is many texts: name the one file to answer from")
    return "".join(found[0].text())


def read_of(document: Document) -> dict[str, Any]:
    """What a result says of its input: its text."""
    return {"input": document.text}


class ResultFile:
    """JSON lines, written as they come. With `resume` the rows already there are kept, and their inputs skipped.

    Beside it, FILE.made-by.json holds what made the rows (task, model, settings), so that no file mixes two. Nothing
    is changed before `made_by` has found that the file is ours.
    """

    def __init__(self, path: str | Path, *, resume: bool) -> None:
        self.path = Path(path)
        self._made_by = self.path.with_name(f"{self.path.name}.made-by.json")
        if self.path.is_dir():
            raise UserError(f"{path} is a folder: name a file")
        self._size = self.path.stat().st_size if self.path.exists() else 0
        if self._size and not resume:
            raise UserError(f"{path} exists already: --resume goes on with it, or choose another name")
        self.done, self._whole = self._read() if self._size else ([], 0)

    def made_by(self, maker: Mapping[str, Any]) -> None:
        """Notes what makes the rows, and cuts off what an interrupted run left of its last one.

        UserError, naming the first difference, if another made those already there.
        """
        now = json.loads(json.dumps(dict(maker)))
        if not self._size:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(self._made_by, json.dumps(now, ensure_ascii=False, indent=1) + "\n")
            return
        before = _read_json(self._made_by)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                raise UserError(
                    f"{self.path}: its rows were made with {key}={_shown(before.get(key))}, not "
                    f"{_shown(now.get(key))}: give the same, or another --out"
                )
        os.truncate(self.path, self._whole)

    def rest(
        self, inputs: Iterable[Document], recognised: Callable[[Document], Mapping[str, Any]] = read_of
    ) -> Iterator[Document]:
        """The inputs that have no row yet. UserError where a row was made from another input than its own, by what
        `recognised` says of it."""
        iterator = iter(inputs)
        for number, row in enumerate(self.done, 1):
            document = next(islice(iterator, 1), None)
            if document is None:
                raise UserError(
                    f"{self.path}: {len(self.done)} rows are there, and only {number - 1} inputs: give the same "
                    "inputs, or another --out"
                )
            if any(row.get(name) != value for name, value in recognised(document).items()):
                raise UserError(
                    f"{self.path}:{number}: made from another input than {place(document)}: give the same inputs, or "
                    "another --out"
                )
        yield from iterator

    def write(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Hands rows on once each is in the file."""
        with self.path.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
                yield row

    def _read(self) -> tuple[list[Mapping[str, Any]], int]:
        """The whole rows of the file, and how many bytes they take: an interrupted run leaves a part of one more."""
        rows: list[Mapping[str, Any]] = []
        size = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    if file.read(1):
                        raise UserError(f"{self.path}:{number}: not a result row: not a file of this command")
                    break
                rows.append(row)
                size += len(line)
        return rows, size


def settings_shown(settings: Mapping[str, Any], named: Iterable[str]) -> dict[str, Any]:
    """Settings as `made_by` keeps them: those in `named` are files, of which the content counts."""
    return {
        name: sha256(Path(value)) if name in named and isinstance(value, str) and Path(value).is_file() else value
        for name, value in settings.items()
    }


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path} is missing or damaged, and only it tells what made the rows: choose another --out")
    return value
