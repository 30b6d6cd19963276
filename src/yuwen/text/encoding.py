"""Bytes → characters: UTF-8 strictly; other encodings when told so, or when there can be no doubt."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from yuwen.errors import UserError

MARKS = {  # the long ones first: that of UTF-32-LE begins with that of UTF-16-LE
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
CHINESE = ("gb18030", "big5")

# The commonest characters of running Chinese, both scripts: a third of a newspaper, an eighth of Tang
# poems, a hundredth of a misread text.
_COMMON = frozenset(
    "的一是不了在人有我他这中大来上个国和到说们为子你地出要就时会可也得年生好对么下过家自天没小"
    "這來個國說們為時會對麼過沒後還發經當點樣學與從動現實進種開問長間無關將機電"
    "后还发经当点样学与从动现实进种开问长间无关将机电去多能而所以之很都看起用行方成只如同面事心前些把它使分日本"
)
_ENOUGH = 0.08


def known(encoding: str) -> str:
    """The name under which Python knows a text encoding. Raises UserError for one that it does not know."""
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except LookupError:
        raise UserError(
            f"data.encoding={encoding}: no such encoding; choose utf-8, gb18030, big5, utf-16, cp1252, …"
        ) from None


def marked(head: bytes) -> str | None:
    """The encoding that a byte order mark at the start of the file declares."""
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def certain(blocks: Callable[[], Iterable[bytes]]) -> str | None:
    """The one Chinese encoding in which the whole text decodes and reads as Chinese, if there is exactly one.

    `blocks` starts a new pass over the bytes.
    """
    found = [encoding for encoding in CHINESE if _is_chinese(blocks(), encoding)]
    return found[0] if len(found) == 1 else None


def _is_chinese(blocks: Iterable[bytes], encoding: str) -> bool:
    counts: Counter[str] = Counter()
    try:
        for text in decode(blocks, encoding):
            counts.update(text)
    except UnicodeDecodeError:
        return False
    han = sum(count for character, count in counts.items() if "\u4e00" <= character <= "\u9fff")
    common = sum(counts[character] for character in _COMMON)
    strange = sum(count for character, count in counts.items() if "\ue000" <= character <= "\uf8ff")
    return han >= 4 and common >= _ENOUGH * han and strange <= 0.001 * han


Bad = Callable[[int, int, bytes], None]
"""Told of bytes that do not decode: the line and the offset in the file (from 0) of the first, and the bytes."""


def decode(
    blocks: Iterable[bytes],
    encoding: str,
    bad: Bad | None = None,
    instead: Callable[[bool], str | None] = lambda ascii: None,
) -> Iterator[str]:
    """Decodes strictly, block by block; a byte order mark is dropped.

    Bytes that do not decode are told to `bad`, and become U+FFFD if it returns; without `bad`, UnicodeDecodeError.
    At the first of them `instead(all before was ASCII)` may name another encoding to go on with from this block
    and what the last one left unfinished.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    taken, lines, ascii, first, asked = 0, 1, True, True, False
    for block in _and_last(blocks):
        taken += len(block)
        rest, pieces = block, []
        while True:
            try:
                pieces.append(decoder.decode(rest, final=not block))
                break
            except UnicodeDecodeError as error:
                if bad is None:
                    raise
                if not asked:
                    asked = True
                    before = bytes(error.object)[: error.start]
                    if (other := instead(ascii and before.isascii())) is not None:
                        decoder, rest, pieces = codecs.getincrementaldecoder(other)(), bytes(error.object), []
                        continue
                whole, start, end = bytes(error.object), error.start, error.end
                good = codecs.decode(whole[:start], encoding)
                pieces.append(good)
                bad(lines + sum(piece.count("\n") for piece in pieces), taken - len(whole) + start, whole[start:end])
                pieces.append("\ufffd")
                decoder.reset()
                rest = whole[end:]
        text = "".join(pieces)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        lines += text.count("\n")
        ascii = ascii and text.isascii()
        if text:
            yield text


def _and_last(blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield from blocks
    yield b""
