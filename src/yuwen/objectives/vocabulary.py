"""What an objective must know of a tokenizer: the special tokens it writes with, and those it must leave alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from yuwen.errors import UserError

if TYPE_CHECKING:
    from yuwen.models.config import Reads
    from yuwen.tokens import Tokenizer

Role = Literal["pad", "cls", "sep", "mask", "end"]

_FRAME = ("[PAD]", "[CLS]", "[SEP]")
_SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))

# The special tokens that a tokenizer trained for an objective must have beyond those of every tokenizer of ours.
SPECIAL_TOKENS: dict[str, tuple[str, ...]] = {
    "causal": (),
    "prefix": ("[PAD]",),
    "seq2seq": ("[PAD]",),
    "span": ("[PAD]", *_SENTINELS),
    "denoising": (*_FRAME, "[MASK]"),
    "masked": (*_FRAME, "[MASK]"),
    "next_sentence": (*_FRAME, "[MASK]"),
    "sentence_order": (*_FRAME, "[MASK]"),
    "permuted": (*_FRAME, "[MASK]"),  # not learnt from: it is how a person asks for a word
    "contrastive": _FRAME,
    "classify": (*_FRAME, "[MASK]"),  # hidden with objective.language
}


def special_tokens(objective: str, reads: Reads) -> tuple[str, ...]:
    """Those of an objective for a model that reads so. One that reads forwards is never given a frame."""
    return () if reads == "forwards" else SPECIAL_TOKENS[objective]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The ids of special tokens by role (None: the tokenizer has none), of the sentinels <extra_id_0> …, and of what
    text is written with."""

    size: int
    pad: int | None
    cls: int | None
    sep: int | None
    mask: int | None
    end: int | None
    sentinels: tuple[int, ...]
    ordinary: np.ndarray  # int64, ascending: every id that is no special token
    is_ordinary: np.ndarray  # bool by id

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        """That of a tokenizer."""
        names = {tokenizer.token_bytes(id).decode("utf-8", "replace"): id for id in tokenizer.special_ids}
        numbered = sorted((int(found[1]), id) for name, id in names.items() if (found := _SENTINEL.fullmatch(name)))
        is_ordinary = np.array([bool(tokenizer.token_bytes(id)) for id in range(tokenizer.size)])
        is_ordinary[sorted(tokenizer.special_ids)] = False
        return cls(
            size=tokenizer.size,
            pad=tokenizer.pad_id,
            cls=tokenizer.id_of("cls_token"),
            sep=tokenizer.id_of("sep_token"),
            mask=tokenizer.mask_id,
            end=tokenizer.end_id,
            sentinels=tuple(id for _, id in numbered),
            ordinary=np.flatnonzero(is_ordinary),
            is_ordinary=is_ordinary,
        )

    def need(self, role: Role, objective: str) -> int:
        """The id of a special token. UserError names the one that is missing, and the mend."""
        id: int | None = getattr(self, role)
        if id is None:
            texts = ", ".join(SPECIAL_TOKENS[objective]) or "its own"
            raise UserError(
                f"objective.name={objective} needs a {role} token, and the tokenizer names none: train one with"
                f" tokenizer.specials=[{texts}], or take one that has it with tokenizer.from"
            )
        return id


_SENTINEL = re.compile(r"<extra_id_(\d{1,6})>")
