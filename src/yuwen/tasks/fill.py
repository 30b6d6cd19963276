"""The masked word: what an encoder was trained to guess (Devlin et al. 2019, section 3.1).

p(w | text) = softmax(output(h_i))_w      at the place i of each mask, all masks seen at once
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from yuwen.errors import UserError
from yuwen.models.inference import inference, refuse_not_finite
from yuwen.nn import Padding
from yuwen.tasks.batches import chunks, in_order, padded_batches
from yuwen.tasks.contract import Input, Usable, documents, place, tokenizer_of
from yuwen.tasks.ids import framed

MASK = "[MASK]"
_CHUNK = 256
_TOKENS = 4096


def fill(loaded: Usable, inputs: Iterable[Input], *, top: int = 5) -> Iterator[dict[str, Any]]:
    """`input`; `text`: every mask replaced by its likeliest word; `masks`: for each the `top` words with `score`.

    A mask is written [MASK] or as the model's own token. UserError for a model without a masked-word head, a text
    without a mask, or one that spells another special token.
    """
    if not loaded.encoder:
        raise UserError(f"{loaded.path}: fill needs an encoder with a masked-word head, and {loaded.family} writes on")
    if "masked" not in loaded.model.heads:
        raise UserError(
            f"{loaded.path}: this {loaded.family} was published without its masked-word head: give a checkpoint that "
            "has one (BertForMaskedLM, RobertaForMaskedLM …)"
        )
    if tokenizer_of(loaded).mask_id is None:
        raise UserError(f"{loaded.path}: the tokenizer names no mask token, so nothing can be masked")
    if top < 1:
        raise UserError(f"top={top}: ask for one word at least")
    return _fill(loaded, inputs, top)


def _fill(loaded: Usable, inputs: Iterable[Input], top: int) -> Iterator[dict[str, Any]]:
    prepared = ((document.text, masked_ids(loaded, document.text, place(document))) for document in documents(inputs))
    for chunk in chunks(prepared, _CHUNK):
        batches = padded_batches([len(ids) for _, ids in chunk], _TOKENS)
        found = in_order([ids for _, ids in chunk], batches, lambda batch: _words(loaded, batch, top))
        for (text, _), masks in zip(chunk, found, strict=True):
            parts = _pattern(loaded).split(text)
            best = [words[0]["text"] for words in masks]
            whole = "".join(part + word for part, word in zip(parts, [*best, ""], strict=True))
            yield {"input": text, "text": whole, "masks": masks}


def masked_ids(loaded: Usable, text: str, where: str) -> list[int]:
    """The ids of a text with masks, framed. UserError, naming `where`, for one that cannot be filled."""
    tokenizer = tokenizer_of(loaded)
    assert tokenizer.mask_id is not None
    own = tokenizer.decode([tokenizer.mask_id], skip_special=False).strip()
    if not _pattern(loaded).search(text):
        raise UserError(f"{where}: no mask in the text: write {MASK} where a word is to be guessed")
    spelled = tokenizer.encode(_pattern(loaded).sub(lambda _: own, text), specials=True)
    foreign = tokenizer.special_ids - {tokenizer.mask_id, tokenizer.unknown_id}
    other = next((id for id in spelled if id in foreign), None)
    if other is not None:
        name = tokenizer.decode([other], skip_special=False)
        raise UserError(f"{where}: the text spells the special token {name}: only a mask may stand in it")
    ids, cut = framed(loaded, spelled, loaded.model.config.context)
    if cut:
        raise UserError(f"{where}: longer than the {loaded.model.config.context} tokens this model reads: shorten it")
    return ids


def _words(loaded: Usable, batch: list[list[int]], top: int) -> list[list[list[dict[str, Any]]]]:
    """For each row and mask the likeliest words."""
    tokenizer = tokenizer_of(loaded)
    length = max(map(len, batch))
    ids_BT = torch.tensor([ids + [0] * (length - len(ids)) for ids in batch])
    keep_BT = torch.arange(length)[None] < torch.tensor([len(ids) for ids in batch])[:, None]
    masked_BT = (ids_BT == tokenizer.mask_id) & keep_BT
    device = next(loaded.model.parameters()).device
    mask = None if bool(keep_BT.all()) else Padding(keep_BT.to(device))
    with inference(loaded.model):
        h_ND = loaded.model.unmask(ids_BT.to(device), masked_BT.to(device), mask)
        logits_NV = loaded.model.output(h_ND[None])[0].float()
        refuse_not_finite("scores are", logits_NV.amax(-1))
        logits_NV[:, sorted(tokenizer.special_ids)] = -torch.inf
        logits_NV[:, tokenizer.size :] = -torch.inf
        scores_NK, best_NK = logits_NV.softmax(-1).topk(min(top, tokenizer.size), dim=-1)
    words = [
        [{"text": _word(piece), "score": score} for piece, score in zip(tokenizer.pieces(ids), scores, strict=True)]
        for ids, scores in zip(best_NK.tolist(), scores_NK.tolist(), strict=True)
    ]
    counts = masked_BT.sum(1).tolist()
    return [[words.pop(0) for _ in range(count)] for count in counts]


def _word(piece: str) -> str:
    """A piece as it stands in a sentence: without the space before it, or the ## that continues a word."""
    return piece.strip().removeprefix("##") or piece


def _pattern(loaded: Usable) -> re.Pattern[str]:
    tokenizer = tokenizer_of(loaded)
    assert tokenizer.mask_id is not None
    own = tokenizer.decode([tokenizer.mask_id], skip_special=False).strip()
    return re.compile(f"{re.escape(MASK)}|{re.escape(own)}")
