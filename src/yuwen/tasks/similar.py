"""Which texts mean the same: cosine of embeddings, best first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from yuwen.errors import UserError
from yuwen.tasks.batches import chunks
from yuwen.tasks.contract import Input, Pooling, Usable, documents, place
from yuwen.tasks.embed import Embedder

_CHUNK = 512


def similar(
    loaded: Usable,
    inputs: Iterable[Input],
    *,
    candidates: Iterable[Input],
    top: int = 10,
    pooling: Pooling | None = None,
) -> Iterator[dict[str, Any]]:
    """`input`, and `matches`: the `top` candidates as `text`, `score` (cosine) and `index` (from 0), best first."""
    if top < 1:
        raise UserError(f"top={top}: ask for one match at least")
    embedder = Embedder(loaded, pooling)
    texts: list[str] = []
    parts_ND = []
    for chunk in chunks((embedder.prepare(row.text, place(row)) for row in documents(candidates)), _CHUNK):
        texts += [piece.text for piece in chunk]
        parts_ND.append(F.normalize(embedder(chunk), dim=-1))
    if not texts:
        raise UserError("nothing to compare with: the file of candidates is empty")
    return _rank(embedder, inputs, texts, torch.cat(parts_ND), top)


def _rank(
    embedder: Embedder, inputs: Iterable[Input], texts: list[str], candidates_ND: torch.Tensor, top: int
) -> Iterator[dict[str, Any]]:
    prepared = (embedder.prepare(document.text, place(document)) for document in documents(inputs))
    for chunk in chunks(prepared, _CHUNK):
        cosines_BN = F.normalize(embedder(chunk), dim=-1) @ candidates_ND.T
        # equal texts may differ in the last digit, by their places in a batch: they keep their order
        index_BN = cosines_BN.round(decimals=6).sort(dim=-1, descending=True, stable=True).indices
        best_BN = cosines_BN.gather(-1, index_BN)
        for piece, scores, indices in zip(chunk, best_BN[:, :top].tolist(), index_BN[:, :top].tolist(), strict=True):
            matches = [
                {"text": texts[index], "score": score, "index": index}
                for score, index in zip(scores, indices, strict=True)
            ]
            yield {"input": piece.text, "matches": matches, **({"cut": True} if piece.cut else {})}
