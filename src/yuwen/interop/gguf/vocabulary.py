"""`yuwen.tokens.Tokenizer` → what a GGUF file says of it. Only what llama.cpp cuts to the same ids is written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend

from yuwen.errors import UserError
from yuwen.interop.gguf.pretokenizers import name_of_cutting
from yuwen.interop.gguf.tokenizer import BYTE, CONTROL, NORMAL, ROLES, UNUSED, USER_DEFINED, as_typed, merges_of
from yuwen.interop.weight_files import few
from yuwen.tokens import Tokenizer

Settings = dict[str, Any]


def gguf_vocabulary(tokenizer: Tokenizer, size: int, *, chat: bool) -> Settings:
    """Settings of a file whose embedding has `size` rows; without `chat` the chat template stays behind.

    UserError for a tokenizer that llama.cpp cannot run as it is.
    """
    described = tokenizer.described()
    if tokenizer.kind != "bpe":
        raise UserError(
            f"llama.cpp has no tokenizer that cuts as this one of kind {tokenizer.kind} does: GGUF holds bpe only; "
            "export with --to hf, or train with tokenizer.kind=bpe"
        )
    model = described["model"]
    unused = [key for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(key)]
    if unused:
        raise UserError(f"llama.cpp knows no {unused[0]} of a tokenizer: export with --to hf")
    pieces, kinds = _pieces(described, size)
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    if tokenizer.byte_level:
        kind, own = "gpt2", _byte_level(described, merges)
    else:
        kind, own = "llama", _sentencepiece(described, pieces, kinds, merges)
    settings: Settings = {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": kinds.tolist(),
        **own,
    }
    for role, name in ROLES.items():
        id = tokenizer.id_of(role)
        if id is not None:
            settings[f"tokenizer.ggml.{name}"] = id
    turn_ends = sorted(tokenizer.stop_ids - {tokenizer.end_id})
    if chat and turn_ends:
        settings["tokenizer.ggml.eot_token_id"] = turn_ends[0]
    settings["tokenizer.ggml.add_bos_token"] = adds_start(tokenizer, described)
    settings["tokenizer.ggml.add_eos_token"] = False
    if chat and tokenizer.chat_template is not None:
        settings["tokenizer.chat_template"] = tokenizer.chat_template
    return settings


def adds_start(tokenizer: Tokenizer, described: Settings) -> bool:
    """Whether a raw prompt begins with the start token: tokenizer.json's post-processor says so."""
    ids = Backend.from_str(json.dumps(described)).encode("").ids
    if any(id != tokenizer.start_id for id in ids) or len(ids) > 1:
        raise UserError("llama.cpp cannot put around a text what this tokenizer does: export with --to hf")
    return bool(ids)


def _pieces(described: Settings, size: int) -> tuple[list[str], np.ndarray]:
    """Each id's piece and its kind; ids without a piece are filled as llama.cpp's own converters fill them."""
    pieces = [f"[PAD{id}]" for id in range(size)]
    kinds = np.full(size, UNUSED)
    for piece, id in described["model"]["vocab"].items():
        pieces[id] = piece
        kinds[id] = BYTE if described["model"].get("byte_fallback") and _is_byte(piece) else NORMAL
    for token in described["added_tokens"]:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise UserError(f"llama.cpp cannot take spaces around {token['content']!r} away: export with --to hf")
        pieces[token["id"]] = token["content"]
        kinds[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    if len(set(pieces)) != size:
        twice = [piece for piece in set(pieces) if pieces.count(piece) > 1]
        raise UserError(f"llama.cpp needs pieces to differ: {few(sorted(twice))} stand for several ids")
    return pieces, kinds


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _byte_level(described: Settings, merges: list[tuple[str, ...]]) -> Settings:
    if described["normalizer"] not in (None, {"type": "NFC"}):  # llama.cpp composes nothing; published files say NFC
        raise UserError("llama.cpp cannot normalise text as this tokenizer does: export with --to hf")
    return {
        "tokenizer.ggml.pre": name_of_cutting(described),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        "tokenizer.ggml.add_space_prefix": False,
    }


def _sentencepiece(
    described: Settings, pieces: list[str], kinds: np.ndarray, merges: list[tuple[str, ...]]
) -> Settings:
    """A piece scores by its first merge: right where all merges that make it stand together, which is checked."""
    normalizer = json.dumps(described["normalizer"])
    cuts = described["pre_tokenizer"]
    if '"Replace"' not in normalizer or "\\u2581" not in normalizer or (cuts and cuts.get("type") != "Split"):
        raise UserError("llama.cpp has no rule that cuts text as this tokenizer does: export with --to hf")
    scores = np.zeros(len(pieces), np.float32)
    ids = {piece: id for id, piece in enumerate(pieces)}
    first: dict[str, int] = {}
    for left, right in merges:
        first.setdefault(left + right, len(first))
    for piece, rank in first.items():
        if piece in ids:
            scores[ids[piece]] = -1.0 - rank
    usable = [merge for merge in merges if kinds[ids[merge[0] + merge[1]]] in (NORMAL, USER_DEFINED)]
    if set(merges_of(ids, kinds, scores)) != set(usable) or len(pieces) > 1 << 24:  # scores are fp32
        raise UserError("this tokenizer's merges are not those of scored pieces, which llama.cpp has: use --to hf")
    return {
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [as_typed(piece, kind) for piece, kind in zip(pieces, kinds.tolist(), strict=True)],
        "tokenizer.ggml.scores": scores.tolist(),
        "tokenizer.ggml.add_space_prefix": '"Prepend"' in normalizer,
    }
