"""A text as a model reads it whole: special tokens around it, cut to a length, padded to one of few widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yuwen.errors import UserError
from yuwen.tokens import Tokenizer

if TYPE_CHECKING:
    from yuwen.data.buckets import Rows

_WIDTHS = (1, 3 / 4, 1 / 2, 3 / 8, 1 / 4, 3 / 16, 1 / 8)


@dataclass(frozen=True)
class Frame:
    """What stands around one text, `before` A `after`, or around two, `before` A `between` B `after`.

        both sides (BERT)    [CLS] A [SEP]         [CLS] A [SEP] B [SEP]      Devlin et al. 2019, figure 4
        permuted (XLNet)     A [SEP] [CLS]         A [SEP] B [SEP] [CLS]      Yang et al. 2019, section 2.5
        pairs (T5, BART)     [start] A end         [start] A end B end        Raffel et al. 2020; Lewis et al. 2020
        forwards (GPT)       [start] A             [start] A end B

    `start` is the tokenizer's [CLS] or, going forwards, the start token if it puts one before a prompt; `end` its [SEP]
    or end token. Going forwards nothing follows: a published classifier reads the last token that is no padding, which
    is often the end token itself. Where tokenizer.json says what stands between two texts, that does: RoBERTa and BART
    read [CLS] A [SEP] [SEP] B [SEP].
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    pad: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, reads: str, *, partial: bool = False) -> Frame:
        """The frame for a model that reads so (`ModelConfig.reads`). UserError for a tokenizer without the tokens.

        `partial` takes as much of an encoder's as there is: one that learnt masked words may have learnt without.
        """
        start, end = tokenizer.id_of("cls_token"), tokenizer.id_of("sep_token")
        if reads in ("both", "permuted"):
            for role, id in (("cls_token", start), ("sep_token", end)):
                if id is None and not partial:
                    raise UserError(
                        f"the tokenizer has no {role}, which stands at an end of every text this model reads"
                        "; name a tokenizer that has one by tokenizer.from, or let the recipe train one"
                    )
        else:
            end = tokenizer.end_id if end is None else end
            if reads == "forwards" and start is None and tokenizer.adds_start:
                start = tokenizer.start_id
            if end is None:
                raise UserError("the tokenizer has no end token, which must close every text; choose another tokenizer")
        pad = next((id for id in (tokenizer.pad_id, end) if id is not None), 0)  # 0: what pads is never looked at
        before: tuple[int, ...] = () if start is None else (start,)
        after: tuple[int, ...] = () if end is None else (end,)
        if reads == "forwards":
            return cls(before, after, (), pad)
        between = tokenizer.between_ids or after
        return cls((), between, (*after, *before), pad) if reads == "permuted" else cls(before, between, after, pad)

    def __call__(self, text: np.ndarray, pair: np.ndarray | None, length: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids, 0 for what belongs to the first text and 1 for the second), each int64 of at most `length`.

        What is too long is cut at its end; of two texts always the longer one (Devlin et al. 2019's code).
        UserError if the length has no room for text.
        """
        around = len(self.before) + len(self.after) + (len(self.between) if pair is not None else 0)
        room = length - around
        if room < 1 + (pair is not None):
            raise UserError(f"data.length={length} leaves no room for a text beside {around} special tokens; raise it")
        if pair is None:
            ids = np.concatenate([self.before, text[:room], self.after]).astype(np.int64)
            return ids, np.zeros(len(ids), np.int64)
        one, other = _share(len(text), len(pair), room)
        first = np.concatenate([self.before, text[:one], self.between])
        second = np.concatenate([pair[:other], self.after])
        ids = np.concatenate([first, second]).astype(np.int64)
        return ids, (np.arange(len(ids)) >= len(first)).astype(np.int64)


def framed(rows: Rows, frame: Frame) -> dict[str, np.ndarray]:
    """Rows of a text, or of a text and its pair, as a model reads them: ids and keep [B, T], and for pairs segments."""
    nothing: Sequence[np.ndarray | None] = [None] * len(rows.fields["text"])
    pairs = rows.fields.get("pair", nothing)
    parts = [frame(text, pair, rows.length) for text, pair in zip(rows.fields["text"], pairs, strict=True)]
    ids, keep = padded([ids for ids, _ in parts], frame.pad, rows.length)
    arrays = {"ids": ids, "keep": keep}
    return (
        {**arrays, "segments": padded([of for _, of in parts], 0, rows.length)[0]} if "pair" in rows.fields else arrays
    )


def _share(one: int, other: int, room: int) -> tuple[int, int]:
    """How much of two texts stays where the longer one, or else the second, is cut token by token until both fit."""
    if one + other <= room:
        return one, other
    second = max(room - one, min(other, room // 2))
    return room - second, second


def padded(rows: Sequence[np.ndarray], pad: int, most: int, width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(ids [B, T], bool [B, T]: where a token stands), padded at the right.

    T is `width`, or one of at most seven, fractions of `most` (no row is longer), so that a compiled model meets few
    shapes.
    """
    width = _width(max(map(len, rows)), most) if width is None else width
    ids, keep = np.full((len(rows), width), pad, np.int64), np.zeros((len(rows), width), bool)
    for place, row in enumerate(rows):
        ids[place, : len(row)], keep[place, : len(row)] = row, True
    return ids, keep


def pair_widths(source: Sequence[np.ndarray], target: Sequence[np.ndarray], most: int) -> tuple[int, int]:
    """Widths [of the source, of the target] to pad rows of pairs to: one for both, or a quarter of it for what fits.

    A compiled block of a decoder meets both widths at once, and would meet 49 pairs if each side chose its own.
    """
    longest = [max(map(len, rows)) for rows in (source, target)]
    wide = _width(max(longest), most)
    narrow = min(wide, -(-wide // 32) * 8)
    one, other = (narrow if length <= narrow else wide for length in longest)
    return one, other


def _width(longest: int, most: int) -> int:
    return min((width for width in widths(most) if width >= longest), default=longest)


def widths(most: int) -> list[int]:
    """The widths that rows of at most so many ids are padded to, multiples of 8 but for the widest."""
    return sorted({min(most, -(-int(most * share) // 8) * 8) for share in _WIDTHS})
