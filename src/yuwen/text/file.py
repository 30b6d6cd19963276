"""One file being read: opened, unpacked, decoded, cut into blocks or lines, in bounded memory."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from yuwen.errors import UserError
from yuwen.text import encoding as codec
from yuwen.text.problem import Handle, Problem, notice, stop
from yuwen.text.unpack import unpack

BLOCK = 1 << 19
_HEAD = 1 << 16
_BINARY = (b"%PDF-", b"PK\x03\x04", b"\x89PNG", b"\xff\xd8\xff", b"\xfd7zXZ", b"\x7fELF")


@dataclass
class File:
    """A file as the user named it. `encoding` is what the user told (None: UTF-8, or what is certain)."""

    path: Path
    name: str
    encoding: str | None = None
    handle: Handle = stop
    decoded: str = "utf-8"  # the encoding it was read in, known once it has been read

    @property
    def suffix(self) -> str:
        """The format's suffix in lower case, without that of a compression: ".jsonl" for a.jsonl.gz."""
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        while suffixes and suffixes[-1] in (".gz", ".zst"):
            suffixes.pop()
        return suffixes[-1] if suffixes else ""

    def problem(self, line: int | None, field: str | None, reason: str, what: str, fix: str) -> None:
        self.handle(Problem(self.name, line, field, reason, what, fix))

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Its bytes, unpacked. Raises UserError if it cannot be opened."""
        try:
            with self.path.open("rb") as raw, unpack(raw, self.name) as stream:
                yield stream
        except OSError as error:
            if isinstance(error, gzip.BadGzipFile) or error.strerror is None:
                raise
            raise UserError(f"{self.name}: cannot be read: {error.strerror}; {_mend(error)}") from None

    def blocks(self) -> Iterator[bytes]:
        """Its unpacked bytes, at most BLOCK at a time. A damaged archive is a problem, and ends the file."""
        with self.open() as stream:
            while True:
                try:
                    block = stream.read(BLOCK)
                except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                    return self._damaged(error)
                if not block:
                    return
                yield block

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB, to recognise the format by."""
        with self.open() as stream:
            try:
                return stream.read(_HEAD)
            except (EOFError, OSError, zlib.error):  # `blocks` will tell
                return b""

    def sample(self) -> list[str]:
        """The first lines, roughly decoded, to recognise the format by. A last line that was cut off is left out, if
        there are others."""
        text = self.head.decode(self._encoding(), errors="replace").removeprefix("\ufeff")
        lines = text.split("\n")
        return lines if len(self.head) < _HEAD or len(lines) == 1 else lines[:-1]

    def text(self) -> Iterator[str]:
        """Its characters, block by block: as decode() says. A binary file is a problem, and yields nothing."""
        encoding = self._encoding()
        if self._binary(encoding):
            self.problem(None, None, "binary", "a binary file, not text", _CONVERT)
            return
        self.decoded = encoding
        told = self.encoding is not None or codec.marked(self.head) is not None
        last = 0

        def bad(line: int, offset: int, wrong: bytes) -> None:
            nonlocal last
            if line != last:  # once a line: in a file of another encoding every character is wrong
                last = line
                fix = f"is it really {encoding}?" if told else _NAME_IT
                what = f"byte {offset} (0x{wrong[:4].hex()}) is not {encoding.upper()}"
                self.problem(line, None, "bad byte", what, fix)

        def instead(ascii: bool) -> str | None:
            if told or not ascii or (found := codec.certain(self.blocks)) is None:
                return None
            notice(f"{self.name}: not UTF-8, read as {found.upper()}, which it certainly is")
            self.decoded = found
            return found

        yield from codec.decode(self.blocks(), encoding, bad, instead)

    def lines(self) -> Iterator[tuple[int, str]]:
        """(number from 1, line without its line break). Only \\n ends a line; a \\r before it is dropped too."""
        number, rest = 1, ""
        for block in self.text():
            lines = (rest + block).split("\n")
            rest = lines.pop()
            for line in lines:
                yield number, line.removesuffix("\r")
                number += 1
        if rest:
            yield number, rest.removesuffix("\r")

    def _encoding(self) -> str:
        if self.encoding is None:
            return codec.marked(self.head) or "utf-8"
        told = codec.known(self.encoding)
        return (codec.marked(self.head) or "utf-16-le") if told == "utf-16" else told

    def _binary(self, encoding: str) -> bool:
        zero = b"\0" in self.head and not encoding.startswith(("utf-16", "utf-32"))
        return zero or self.head.startswith(_BINARY)

    def _damaged(self, error: Exception) -> None:
        self.problem(None, None, "damaged archive", f"damaged compressed file ({error})", "fetch or pack it again")


_CONVERT = "leave it out, or convert it to text (if it is UTF-16 without a mark: data.encoding=utf-16)"
_NAME_IT = "save it as UTF-8, or name its encoding, such as data.encoding=gb18030 (or --encoding gb18030)"


def _mend(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "give yourself the right to read it (chmod +r), or leave it out"
    return "check the path"


def natural(path: Path | str) -> list[tuple[int, str]]:
    """A key to sort by: digits compare as numbers, so that part2 comes before part10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
