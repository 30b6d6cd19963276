"""What the `tokenizers` library's objects hold, without writing down a whole vocabulary to ask."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import models


def described(component: Any) -> Any:
    """What tokenizer.json says of one of its parts; None where there is none."""
    return None if component is None else json.loads(component.__getstate__())


def unknown_of(backend: Backend) -> int | None:
    """Id of what the model itself gives for text that it cannot write."""
    if isinstance(backend.model, models.Unigram):  # keeps it to itself: here the whole vocabulary is written down
        id: int | None = described(backend.model)["unk_id"]
        return id
    text = backend.model.unk_token
    return None if text is None else backend.token_to_id(text)


def around(backend: Backend) -> tuple[list[str], list[str]]:
    """The special tokens that tokenizer.json's post-processor puts before and behind a text."""
    for step in _post_processors(backend):
        if "cls" in step:  # BertProcessing, RobertaProcessing
            return [step["cls"][0]], [step["sep"][0]]
        tokens = _template(step, "single")
        if None in tokens:  # where the text stands
            at = tokens.index(None)
            return tokens[:at], tokens[at + 1 :]
    return [], []


def between(backend: Backend) -> list[str]:
    """The special tokens that it puts between two texts: </s></s> for RoBERTa and BART, [SEP] for BERT."""
    for step in _post_processors(backend):
        if "cls" in step:
            return [step["sep"][0]] * (2 if step["type"] == "RobertaProcessing" else 1)
        tokens = _template(step, "pair")
        if tokens.count(None) == 2:
            one = tokens.index(None)
            return tokens[one + 1 : tokens.index(None, one + 1)]
    return []


def _post_processors(backend: Backend) -> list[dict[str, Any]]:
    said = described(backend.post_processor) or {}
    steps: list[dict[str, Any]] = said.get("processors", [said])
    return steps


def _template(step: dict[str, Any], texts: str) -> list[Any]:
    """The special tokens of a TemplateProcessing for one text ("single") or two ("pair"), None where a text stands."""
    return [part.get("SpecialToken", {}).get("id") for part in step.get(texts, [])]


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
