"""A uniform sample of bounded size from a stream of any length."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator

PIECE = 2048  # characters: long enough to hold some sentences, short enough that many places of a corpus are seen


def pieces(texts: Iterable[str]) -> Iterator[str]:
    """Cuts texts into pieces of about `PIECE` characters, at a line break where there is one soon enough, else at a
    space."""
    for text in texts:
        start = 0
        while len(text) - start > 2 * PIECE:
            line = text.find("\n", start + PIECE, start + 2 * PIECE)
            space = text.rfind(" ", start + PIECE, start + 2 * PIECE)
            end = line + 1 if line >= 0 else space if space >= 0 else start + 2 * PIECE
            yield text[start:end]
            start = end
        if start < len(text):
            yield text[start:]


def bounded_sample(texts: Iterable[str], size: int) -> list[str]:
    """The pieces with the smallest hashes, at most `size` UTF-8 bytes of them or a single one, in the order they came.

    One pass, memory of the sample alone. The hash is of a piece's number in the stream, so that the sample is
    uniform, the same on every machine, and keeps repeated text as frequent as it is (bottom-k sampling, Cohen 2007).
    """
    heap: list[tuple[int, int, int, str]] = []  # (-hash, number, bytes, piece): the largest hash leaves first
    total = 0
    limit = 1 << 64
    for number, piece in enumerate(pieces(texts)):
        digest = int.from_bytes(hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8).digest(), "little")
        if digest >= limit:
            continue
        length = len(piece.encode("utf-8", "surrogatepass"))
        heapq.heappush(heap, (-digest, number, length, piece))
        total += length
        while total > size and len(heap) > 1:
            hashed, _, length, _ = heapq.heappop(heap)
            total -= length
            limit = -hashed  # nothing above this can enter any more
    return [piece for _, _, _, piece in sorted(heap, key=lambda entry: entry[1])]
