"""What the `tokenizers` library's objects hold, without writing down a whole vocabulary to ask."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer as Backend


def described(component: Any) -> Any:
    """What tokenizer.json says of a normalizer, a pre-tokenizer or a decoder; None where there is none."""
    return None if component is None else json.loads(component.__getstate__())


def twin(backend: Backend) -> Backend:
    """The same tokenizer with switches of its own; the vocabulary, which is most of it, is shared and not copied."""
    other = Backend(backend.model)
    other.normalizer, other.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    other.post_processor, other.decoder = backend.post_processor, backend.decoder
    added = backend.get_added_tokens_decoder()
    for _, token in sorted(added.items()):  # in the order of their ids, so that those beyond the model's get them again
        (other.add_special_tokens if token.special else other.add_tokens)([token])
    if _shown(other.get_added_tokens_decoder()) != _shown(added):  # a vocabulary with holes among the added ones
        return Backend.from_str(backend.to_str())
    return other


def _shown(added: dict[int, Any]) -> dict[int, str]:
    return {id: repr(token) for id, token in added.items()}
