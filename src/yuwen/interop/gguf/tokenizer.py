"""The tokenizer a GGUF file carries → `yuwen.tokens.Tokenizer`, with the ids of the one it was made from.

Two kinds of vocabulary are read (`tokenizer.ggml.model`):

- `gpt2`, byte-level BPE: pieces, merges, and the name of the rule that cuts text first (`pretokenizers`);
- `llama`, SentencePiece's BPE: pieces with scores, where the neighbours whose joint piece scores best are joined first,
  spaces are written ▁, and characters without a piece fall back to their bytes. The same as merges: every way to make
  a piece from two others, best score first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from tokenizers import AddedToken, decoders, models, normalizers, processors
from tokenizers import Tokenizer as Backend

from yuwen.errors import UserError
from yuwen.interop.gguf.pretokenizers import cutting
from yuwen.tokens import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # tokenizer.ggml.token_type
ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",  # so spelt in the format
    "pad_token": "padding_token_id",
    "mask_token": "mask_token_id",
}
_MOST_LETTERS, _LONGEST_PIECE = 1 << 24, 1024  # Gemma's 262,144 pieces have 2 million letters
# Ends of a turn, which files often contain without naming them (`eot_token_id`).
_ENDS = {
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>"),
    *("<EOT>", "[EOT]", "<|end_of_text|>", "<end_of_utterance>"),
}


def gguf_tokenizer(settings: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer in a file's settings; None where the file says that it has none.

    UserError for a kind, or a rule of cutting, that is not known here, and for a vocabulary that contradicts itself.
    """
    model = settings.get("tokenizer.ggml.model", "none")
    if not isinstance(model, str) or model not in ("gpt2", "llama", "none", "no_vocab"):
        raise UserError(f"tokenizer.ggml.model {str(model)[:40]!r} cannot be read: only gpt2 and llama can")
    if model in ("none", "no_vocab"):
        return None
    pieces = _texts(settings, "tokens")
    if sum(map(len, pieces)) > _MOST_LETTERS or max(map(len, pieces), default=0) > _LONGEST_PIECE:
        raise UserError("tokenizer.ggml.tokens is larger than any vocabulary: a damaged file; download it again")
    kinds = _kinds(settings, len(pieces))
    if model == "llama":
        pieces = [as_normalised(piece, kind) for piece, kind in zip(pieces, kinds.tolist(), strict=True)]
    # what was only added to fill the rows of the embedding is no token
    filling = {id for id in np.flatnonzero(kinds == UNUSED).tolist() if pieces[id] == f"[PAD{id}]"}
    ids = {piece: id for id, piece in enumerate(pieces) if piece and id not in filling}
    if len(ids) + len(filling) != sum(map(bool, pieces)):
        raise UserError("tokenizer.ggml.tokens holds a piece twice: a damaged vocabulary; download the file again")
    roles = _roles(settings, pieces, sentencepiece=model == "llama")
    try:
        if model == "gpt2":
            backend, adds_start = _byte_level(settings, ids)
        else:
            backend, adds_start = _sentencepiece(settings, ids, kinds, roles.get("unk_token"))
        _add(backend, pieces, kinds, ids)
        adds_start = _flag(settings, "add_bos_token", adds_start) and "bos_token" in roles
        if adds_start:
            start = roles["bos_token"]
            backend.post_processor = processors.TemplateProcessing(
                single=[start, "$A"], pair=[start, "$A", "$B"], special_tokens=[(start, ids[start])]
            )
        template = settings.get("tokenizer.chat_template")
        return Tokenizer(
            backend,
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_input_names": ["input_ids", "attention_mask"],
                "clean_up_tokenization_spaces": False,
                "add_bos_token": adds_start,
                "add_eos_token": _flag(settings, "add_eos_token", False),
                **roles,
                **({"chat_template": template} if isinstance(template, str) and template else {}),
            },
        )
    except UserError:
        raise
    except Exception as error:  # the Rust library raises bare Exception for what does not fit together
        raise UserError(f"the vocabulary does not hold together ({str(error)[:200]}): download it again") from None


def end_ids(settings: Mapping[str, Any]) -> list[int]:
    """The ids that end a text or a turn: those the file names, and control tokens known to do nothing else."""
    pieces = settings.get("tokenizer.ggml.tokens")
    if not isinstance(pieces, list):
        return []
    kinds = _kinds(settings, len(pieces))
    named = [settings.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    found = [id for id in np.flatnonzero(kinds == CONTROL).tolist() if pieces[id] in _ENDS]
    return sorted({*found, *(id for id in named if type(id) is int and 0 <= id < len(pieces))})


def _byte_level(settings: Mapping[str, Any], ids: dict[str, int]) -> tuple[Backend, bool]:
    name = settings.get("tokenizer.ggml.pre", "default")
    rule = cutting(name if isinstance(name, str) else repr(name))
    merges = [merge.partition(" ")[::2] for merge in _texts(settings, "merges")]
    if any(" " in right or not right for _, right in merges):
        raise UserError("tokenizer.ggml.merges holds what is not two pieces: a damaged vocabulary; download it again")
    backend = Backend(models.BPE(vocab=ids, merges=merges, ignore_merges=rule.whole_pieces))
    if (normalizer := rule.normalizer()) is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = rule.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    return backend, rule.adds_start


def _sentencepiece(
    settings: Mapping[str, Any], ids: dict[str, int], kinds: np.ndarray, unknown: str | None
) -> tuple[Backend, bool]:
    scores = settings.get("tokenizer.ggml.scores")
    if not isinstance(scores, np.ndarray) or len(scores) != len(kinds) or not np.isfinite(scores).all():
        raise UserError("tokenizer.ggml.scores is not one number for each piece: download the file again")
    merges = merges_of(ids, kinds, scores)
    falls_back = bool((kinds == BYTE).any())
    backend = Backend(models.BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=falls_back))
    prefix = _flag(settings, "add_space_prefix", True)
    spaces = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefix else parts)
    return backend, True


def as_normalised(piece: str, kind: int) -> str:
    """A user-defined piece as SentencePiece has it, a space written ▁: files hold those as a person types them."""
    return piece.replace(" ", "▁") if kind == USER_DEFINED else piece


def as_typed(piece: str, kind: int) -> str:
    """The other way: llama.cpp looks for user-defined pieces in the text before it writes spaces ▁."""
    return piece.replace("▁", " ") if kind == USER_DEFINED else piece


def merges_of(ids: Mapping[str, int], kinds: np.ndarray, scores: np.ndarray) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece: best score of the whole first, then longest left, then longest right.

    Only pieces that text can become take part: so what a person typed never turns into a control token. Those that a
    user defined come before all others, whatever their score. This is the order of the published tokenizer.json files,
    and tells how a run of more spaces than any piece has is cut.
    """
    joins = np.isin(kinds, (NORMAL, UNUSED, USER_DEFINED)).tolist()
    usable = {piece: id for piece, id in ids.items() if joins[id]}
    score_of = np.where(kinds == USER_DEFINED, np.inf, scores).tolist()
    merges: list[tuple[str, str]] = []
    ranked = sorted((-score_of[id], id, piece) for piece, id in usable.items() if len(piece) > 1)
    for _, equals in groupby(ranked, key=itemgetter(0)):
        pairs = [
            (whole[:n], whole[n:])
            for _, _, whole in equals
            for n in range(len(whole) - 1, 0, -1)
            if whole[:n] in usable and whole[n:] in usable
        ]
        merges += sorted(pairs, key=lambda pair: (-len(pair[0]), -len(pair[1]))) if len(pairs) > 1 else pairs
    return merges


def _add(backend: Backend, pieces: Sequence[str], kinds: np.ndarray, ids: Mapping[str, int]) -> None:
    """Makes control tokens special, and user-defined ones taken from text before anything else is."""

    def tokens(special: bool, *wanted: int) -> list[AddedToken]:
        found = [pieces[id] for id in np.flatnonzero(np.isin(kinds, wanted)).tolist()]
        return [AddedToken(piece, special=special, normalized=False) for piece in found if piece in ids]

    backend.add_special_tokens(tokens(True, CONTROL, UNKNOWN))
    backend.add_tokens(tokens(False, USER_DEFINED))


def _texts(settings: Mapping[str, Any], name: str) -> list[str]:
    value = settings.get(f"tokenizer.ggml.{name}")
    if not isinstance(value, list):
        raise UserError(f"tokenizer.ggml.{name} is not a list of texts: not the complete file of a model")
    return value


def _kinds(settings: Mapping[str, Any], count: int) -> np.ndarray:
    value = settings.get("tokenizer.ggml.token_type")
    if value is None:
        return np.full(count, NORMAL)
    if not isinstance(value, np.ndarray) or len(value) != count:
        raise UserError("tokenizer.ggml.token_type is not one number for each piece: download the file again")
    return value


def _roles(settings: Mapping[str, Any], pieces: Sequence[str], sentencepiece: bool) -> dict[str, str]:
    usual = {"unk_token": 0, "bos_token": 1, "eos_token": 2} if sentencepiece else {}
    roles = {}
    for role, name in ROLES.items():
        id = settings.get(f"tokenizer.ggml.{name}", usual.get(role))
        if id is None:
            continue
        if type(id) is not int or not 0 <= id < len(pieces):
            raise UserError(f"tokenizer.ggml.{name} is {str(id)[:40]}, which is none of the {len(pieces)} tokens")
        if pieces[id]:
            roles[role] = pieces[id]
    return roles


def _flag(settings: Mapping[str, Any], name: str, default: bool) -> bool:
    value = settings.get(f"tokenizer.ggml.{name}", default)
    if not isinstance(value, bool):
        raise UserError(f"tokenizer.ggml.{name} is neither true nor false: a damaged file; download it again")
    return value
