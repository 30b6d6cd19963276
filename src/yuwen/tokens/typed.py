"""Special tokens that stand in a text as text, and must not act.

The tokenizers library keeps its matcher from them (`encode_special_tokens`), but not its models: those look text up in
a vocabulary that holds the special tokens too, Unigram (T5, ALBERT, XLNet) with the best of all scores. What a model
finds so is written in its other pieces here, id by id: were the text cut there and its halves encoded, many a published
tokenizer would put a space before the second.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer as Backend


class TypedSpecials:
    """Takes the special tokens out of the ids of a plain text. The unknown one stays: it stands for text."""

    def __init__(self, backend: Backend, size: int, special_ids: Iterable[int], unknown_id: int | None) -> None:
        self._backend, self._unknown_id = backend, unknown_id
        self._acts = np.zeros(size, bool)
        self._acts[[id for id in special_ids if id != unknown_id]] = True

    def spelled(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray | slice]:
        """Ids (int32) of which none acts, and an index into the given ones: which of those each is a part of."""
        if not self._acts[ids].any():  # nearly every text
            return ids, slice(None)
        parts = [self._pieces(self._backend.id_to_token(id) or "") if self._acts[id] else [id] for id in ids.tolist()]
        whole = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        return np.array([id for part in parts for id in part], np.int32), whole

    def _pieces(self, text: str) -> list[int]:
        """What the model makes of the two halves of a special token's text, as it never meets them joined."""
        if len(text) < 2:  # no other piece writes it
            return [] if self._unknown_id is None else [self._unknown_id]
        found: list[int] = []
        for half in (text[: len(text) // 2], text[len(text) // 2 :]):
            for token in self._backend.model.tokenize(half):
                start, end = token.offsets  # in bytes
                found += self._pieces(half.encode()[start:end].decode()) if self._acts[token.id] else [token.id]
        return found
