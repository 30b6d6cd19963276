"""What each id of a vocabulary stands for: its bytes, its readable text, and the boundaries it marks."""

from __future__ import annotations

import re

import numpy as np
from tokenizers import Tokenizer as Backend

STARTS_WORD, ENDS_SENTENCE = 1, 2
_SENTENCE_END = re.compile(r"[。！？!?….]['\"”’」』）)】\]]*\s*$|\n")


def _byte_letters() -> dict[str, int]:
    """GPT-2's 256 letters for bytes: printable Latin-1 stands for itself, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(rest)}


_LETTERS = _byte_letters()
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


def vocabulary_bytes(backend: Backend, byte_level: bool) -> list[bytes]:
    """The UTF-8 bytes each id stands for, by id; an unused id has none."""
    table = [b""] * size_of(backend)
    added = backend.get_added_tokens_decoder()
    for piece, id in backend.get_vocab(with_added_tokens=True).items():
        if byte_level and id not in added:
            try:
                table[id] = bytes(map(_LETTERS.__getitem__, piece))
                continue
            except KeyError:  # a piece with letters that stand for no byte
                pass
        if match := _FALLBACK.fullmatch(piece):
            table[id] = bytes([int(match[1], 16)])
        else:
            table[id] = (piece if id in added else piece.replace("▁", " ")).encode("utf-8", "replace")
    return table


def size_of(backend: Backend) -> int:
    """One more than the largest id: published vocabularies may have holes."""
    return max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def readable(piece: bytes) -> str:
    """Text of a piece, with the bytes that are no whole character as ⟨E4⟩."""
    text = piece.decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda match: f"⟨{ord(match[0]) - 0xDC00:02X}⟩", text)


def flags(table: list[bytes], special_ids: frozenset[int], cuts_words: bool) -> np.ndarray:
    """uint8 by id: bit 0, the piece starts a word; bit 1, it ends a sentence. Special tokens mark nothing.

    Where text is cut into words first (`cuts_words`: wordpiece, word), all but `##` pieces start one. Elsewhere the
    piece alone decides: a space, a mark, a digit or a Chinese character starts a word, another letter continues one,
    although at the beginning of a line it does start one.
    """
    result = np.zeros(len(table), np.uint8)
    for id, piece in enumerate(table):
        if not piece or id in special_ids:
            continue
        if (not piece.startswith(b"##") or len(piece) == 2) if cuts_words else _starts_word(piece):
            result[id] |= STARTS_WORD
        if _SENTENCE_END.search(piece.decode("utf-8", "ignore")):
            result[id] |= ENDS_SENTENCE
    return result


def _starts_word(piece: bytes) -> bool:
    if 0x80 <= piece[0] < 0xC0:  # continues a character
        return False
    first = piece.decode("utf-8", "replace")[0]
    if first == "\ufffd":
        return 0xE4 <= piece[0] <= 0xE9  # the first byte of a Chinese character
    return not first.isalpha() or "\u2e80" <= first <= "\u9fff" or first >= "\uf900"
