"""Inputs from files, and results to files that a second run completes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from yuwen.disk import sha256
from yuwen.errors import UserError
from yuwen.tasks.answer import question_of
from yuwen.tasks.contract import place
from yuwen.text import Document
from yuwen.text.readers import columns, parquet
from yuwen.text.readers import read as read_file
from yuwen.text.sources import files

_RECORDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def read_inputs(source: str, field: str | None = None) -> Iterator[Document]:
    """The inputs of a file, folder or glob: records and columns as `yuwen.text` reads them, else one input a line.

    Blank lines are passed over. UserError for a faulty row, with file and line, and for a file without any.
    """
    empty = True
    for file in files(source):
        records = file.suffix in _RECORDS or file.head.startswith(parquet.MAGIC) or columns.recognise(file)
        if not records and field is not None:
            raise UserError(f"{file.name}: --field {field} means nothing here: each line is an input; leave it out")
        lines = (Document(line, file.name, number) for number, line in file.lines() if line.strip())
        for document in read_file(file, field) if records else lines:
            empty = False
            yield document
    if empty:
        raise UserError(f"{source}: holds no input: write one a line")


def read_context(path: str) -> str:
    """A file's whole text, to answer from."""
    found = files(path)
    if len(found) != 1:
        raise UserError(f"{path}: {len(found)} files: give the one text to answer from")
    return "".join(found[0].text())


class ResultFile:
    """JSON lines, written as they come. With `resume` the rows already there are kept, and their inputs skipped.

    Beside it, FILE.made-by.json holds what made the rows (task, model, settings), so that no file mixes two.
    """

    def __init__(self, path: str | Path, *, resume: bool) -> None:
        self.path = Path(path)
        self._made_by = self.path.with_name(f"{self.path.name}.made-by.json")
        if self.path.is_dir():
            raise UserError(f"{path} is a folder: name a file")
        if self.path.exists() and self.path.stat().st_size and not resume:
            raise UserError(f"{path} exists already: --resume goes on with it, or choose another name")
        self.done = self._whole() if resume and self.path.exists() else []

    def made_by(self, maker: Mapping[str, Any]) -> None:
        """Notes what makes the rows. UserError, naming the first difference, if another made those already there."""
        now = json.loads(json.dumps(dict(maker)))
        if self.done:
            before = _read_json(self._made_by)
            for key in sorted({*before, *now}):
                if before.get(key) != now.get(key):
                    raise UserError(
                        f"{self.path}: its rows were made with {key}={_shown(before.get(key))}, not "
                        f"{_shown(now.get(key))}: give the same, or another --out"
                    )
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._made_by.write_text(json.dumps(now, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def rest(self, inputs: Iterable[Document], question: bool = False) -> Iterator[Document]:
        """The inputs that have no row yet. UserError where a row was made from another input."""
        iterator = iter(inputs)
        for number, row in enumerate(self.done, 1):
            document = next(islice(iterator, 1), None)
            if document is None:
                raise UserError(
                    f"{self.path}: {len(self.done)} rows are there, and only {number - 1} inputs: give the same "
                    "inputs, or another --out"
                )
            text = question_of(document) if question else document.text
            if row.get("input") != text:
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

    def _whole(self) -> list[Mapping[str, Any]]:
        """The rows of the file; what an interrupted run left of its last one is cut off."""
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
        os.truncate(self.path, size)
        return rows


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
