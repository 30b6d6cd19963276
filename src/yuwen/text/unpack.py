"""Compressed files, recognised by their first bytes and read like plain ones."""

from __future__ import annotations

import gzip
import io
from typing import IO, Any, cast

from yuwen.errors import UserError

_GZIP, _ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_INPUT = 1 << 14


def unpack(raw: IO[bytes], name: str) -> IO[bytes]:
    """What a file holds. Reading raises EOFError, zlib.error or gzip.BadGzipFile where the archive is damaged."""
    magic = raw.read(4)
    raw.seek(0)
    if magic.startswith(_GZIP):
        return cast(IO[bytes], gzip.open(raw, "rb"))
    if magic == _ZSTANDARD:
        return io.BufferedReader(_Zstandard(raw, name))
    return raw


class _Zstandard(io.RawIOBase):
    """All frames of a Zstandard file. (The library's own reader takes a file that was cut off for a whole one.)"""

    def __init__(self, raw: IO[bytes], name: str) -> None:
        try:
            import zstandard
        except ImportError:
            raise UserError(f"{name}: .zst needs a package that is not installed; pip install 'yuwen[data]'") from None
        self._raw, self._new, self._error = raw, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
        self._frame: Any = None
        self._packed = self._out = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._out and self._more():
            pass
        count = min(len(buffer), len(self._out))
        buffer[:count], self._out = self._out[:count], self._out[count:]
        return count

    def _more(self) -> bool:
        """Unpacks one more piece; False at the end of the file."""
        self._packed = self._packed or self._raw.read(_INPUT)
        if not self._packed:
            if self._frame is not None:
                raise EOFError("it ends inside a frame")
            return False
        self._frame = self._frame or self._new()
        try:
            self._out = self._frame.decompress(self._packed)
        except self._error as error:
            raise EOFError(str(error)) from None
        self._packed = self._frame.unused_data if self._frame.eof else b""
        self._frame = None if self._frame.eof else self._frame
        return True
