"""A look into a tokenizer: its vocabulary by script, and how well it packs text of each language."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from yuwen.tokens.sample import bounded_sample
from yuwen.tokens.tokenizer import Tokenizer

_HAN = r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_SAMPLE_BYTES = 8 << 20
_SCRIPTS = {  # the first whose expression a piece contains
    "chinese": re.compile(_HAN),
    "latin": re.compile(r"[A-Za-z\u00c0-\u024f]"),
    "other letters": re.compile(r"[^\W\d_]"),
    "digits": re.compile(r"\d"),
    "spaces": re.compile(r"^\s+$"),
}
_LANGUAGES = {"chinese": re.compile(_HAN), "english": re.compile(r"[A-Za-z]")}


def vocabulary(tokenizer: Tokenizer) -> dict[str, list[dict[str, Any]]]:
    """Every entry as {"id", "piece"}, by script: chinese, latin, …, marks, bytes of unfinished characters, special."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for id, piece in enumerate(tokenizer.pieces(range(tokenizer.size))):
        if piece:  # published vocabularies have holes
            groups.setdefault(_group(tokenizer, id, piece), []).append({"id": id, "piece": piece})
    return groups


def packing(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, dict[str, float]]:
    """Bytes per token by language (chinese, english, other: by the letters of a line) over a sample of the texts."""
    totals: dict[str, list[int]] = {}
    for part in bounded_sample(texts, _SAMPLE_BYTES):
        lines = part.splitlines(keepends=True)
        for line, ids in zip(lines, tokenizer.encode_batch(lines), strict=True):
            total = totals.setdefault(_language(line), [0, 0, 0, 0])
            unknown = int((ids == tokenizer.unknown_id).sum()) if tokenizer.unknown_id is not None else 0
            for place, count in enumerate((len(line.encode()), len(line), len(ids), unknown)):
                total[place] += count
    return {
        language: {
            "bytes_per_token": round(bytes_ / max(tokens, 1), 4),
            "characters_per_token": round(characters / max(tokens, 1), 4),
            "tokens": tokens,
            "bytes": bytes_,
            "unknown_tokens": unknown,
        }
        for language, (bytes_, characters, tokens, unknown) in sorted(totals.items())
    }


def cut(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """How one text is cut: ids, readable pieces, and the bytes of text each accounts for."""
    ids, counts = tokenizer.encode_bytes(text)
    return {"text": text, "ids": ids.tolist(), "pieces": tokenizer.pieces(ids), "bytes": counts.tolist()}


def _group(tokenizer: Tokenizer, id: int, piece: str) -> str:
    if id in tokenizer.special_ids:
        return "special"
    if re.search(r"⟨[0-9A-F]{2}⟩", piece):
        return "bytes"
    return next((name for name, pattern in _SCRIPTS.items() if pattern.search(piece)), "marks")


def _language(line: str) -> str:
    chinese, english = (len(pattern.findall(line)) for pattern in _LANGUAGES.values())
    if chinese + english == 0:
        return "other"
    return "chinese" if 3 * chinese >= english else "english"  # a Chinese character says about as much as 3 letters
