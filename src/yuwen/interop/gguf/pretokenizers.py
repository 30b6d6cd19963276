"""How byte-level BPE cuts text before it merges, by the name a GGUF file gives the rule (`tokenizer.ggml.pre`).

Each rule is the one published with the models that bring it, in their tokenizer.json; the GGUF file only has its name.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, normalizers, pre_tokenizers

from yuwen.errors import UserError
from yuwen.tokens.split import by_script

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_LLAMA3 = rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}|{_TAIL}"
# llama.cpp's own for files that name none: punctuation, GPT-2's words, digits by threes.
_DEFAULT = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    "[0-9][0-9][0-9]",
]


@dataclass(frozen=True)
class Cutting:
    """A rule: what cuts the text, whether it is composed (NFC) first, whether a whole piece that is in the vocabulary
    is taken before any merge, and whether a raw prompt begins with the start token where the file does not say."""

    pre_tokenizer: Callable[[], pre_tokenizers.PreTokenizer]
    composed: bool = False
    whole_pieces: bool = False
    adds_start: bool = False

    def normalizer(self) -> normalizers.Normalizer | None:
        return normalizers.NFC() if self.composed else None


def _byte_level() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def _by(*patterns: str) -> pre_tokenizers.PreTokenizer:
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*splits, _byte_level()])


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits_apart() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


CUTTINGS: dict[str, Cutting] = {
    "gpt-2": Cutting(_gpt2),
    "smollm": Cutting(_digits_apart),
    "starcoder": Cutting(_digits_apart),
    "llama-bpe": Cutting(functools.partial(_by, _LLAMA3), whole_pieces=True, adds_start=True),
    "smaug-bpe": Cutting(functools.partial(_by, _LLAMA3)),
    "qwen2": Cutting(functools.partial(_by, _QWEN2), composed=True),
    "deepseek-r1-qwen": Cutting(functools.partial(_by, _QWEN2), composed=True),
    "deepseek-v3": Cutting(functools.partial(by_script, training=False)),
    "default": Cutting(functools.partial(_by, *_DEFAULT)),
}
_ALSO = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "phi-2": "gpt-2"}


def cutting(name: str) -> Cutting:
    """The rule of that name. UserError for one that is not known here: a guess would give other ids in silence."""
    name = _ALSO.get(name, name)
    if name not in CUTTINGS:
        raise UserError(f"tokenizer.ggml.pre {name[:40]!r} is not known here (only {', '.join(CUTTINGS)})")
    return CUTTINGS[name]


def name_of_cutting(described: dict[str, Any]) -> str:
    """The name of the rule a tokenizer.json has. UserError if llama.cpp has none for it.

    A whole piece taken before merging tells the Llama 3 rule from the others that cut alike; NFC does not, as
    llama.cpp composes nothing itself.
    """
    model = described["model"]
    wanted = json.dumps(_plain(described["pre_tokenizer"]), sort_keys=True)
    for name, rule in CUTTINGS.items():
        mine = json.dumps(_plain(json.loads(rule.pre_tokenizer().__getstate__())), sort_keys=True)
        if mine == wanted and rule.whole_pieces == bool(model.get("ignore_merges")):
            return name
    raise UserError("llama.cpp has no rule that cuts text as this tokenizer does: export with --to hf")


def _plain(part: Any) -> Any:
    """A pre-tokenizer's description without what does not change the pieces."""
    if isinstance(part, dict):
        return {key: _plain(value) for key, value in part.items() if key not in ("trim_offsets", "invert")}
    return [_plain(value) for value in part] if isinstance(part, list) else part
