"""A result row as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHORT = 72


def readable(row: Mapping[str, Any], *, scores: bool = False) -> str:
    """One or more lines; `scores` shows the probability of every label."""
    if "label" in row:
        return _labelled(row, scores)
    if "spans" in row:
        found = [f"  {span['label']}\t{span['start']}-{span['end']}\t{span['text']}" for span in row["spans"]]
        return "\n".join([row["input"], *(found or ["  –"])])
    if "answer" in row:
        place = f"\t{row['start']}-{row['end']}" if row["answer"] is not None else ""
        sure = f"\t{row.get('probability', row.get('score', 0)):.3f}" if place else ""
        return f"{row['answer'] if place else '–'}{place}{sure}"
    if "matches" in row:
        return "\n".join([row["input"], *(f"  {match['score']:.4f}\t{match['text']}" for match in row["matches"])])
    if "masks" in row:
        words = ("  ".join(f"{word['text']} {word['score']:.3f}" for word in mask) for mask in row["masks"])
        return "\n".join([row["text"], *(f"  {line}" for line in words)])
    if "embedding" in row:
        vector = row["embedding"]
        return f"[{', '.join(f'{x:.4f}' for x in vector[:6])}, …] ({len(vector)})\t{short(row['input'])}"
    return str(row["text"])


def short(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


def _labelled(row: Mapping[str, Any], scores: bool) -> str:
    line = f"{row['label']}\t{row['scores'][row['label']]:.3f}\t{short(row['input'])}"
    if not scores:
        return line
    ranked = sorted(row["scores"].items(), key=lambda item: -item[1])
    return "\n".join([line, *(f"  {score:.4f}\t{label}" for label, score in ranked)])
