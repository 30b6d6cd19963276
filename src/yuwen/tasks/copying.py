"""Generation that can only copy: what a decoder writes is a piece of a given text, so it has a place there.

At every step the allowed tokens are those that keep the copy a piece of the text, and, where a word may end, those that
end it; the likeliest allowed token is taken:

    t_n = argmax over allowed v of log p(v | prompt, t_<n)

A copy begins and ends at the border of a word; Chinese characters are words here.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from yuwen.errors import UserError
from yuwen.models.inference import inference, refuse_not_finite
from yuwen.nn import DecoderCache
from yuwen.tasks.contract import Usable, tokenizer_of
from yuwen.tokens import Tokenizer

_ENDS = "\n.;。；!?！？"  # a token that begins with one of these ends a copy, where it does not continue it
_TRAILING = " \t.,;:!?。，；：！？、\"'"


@dataclass(frozen=True)
class Copy:
    """A piece of the text, how likely the model found it, and what ended it."""

    text: str
    start: int  # of its first occurrence, in characters
    end: int
    log_probability: float  # of all its tokens, and of the one that ended it
    tokens: int
    ended_by: int | None  # the id that ended it; None: it grew too long

    @property
    def probability(self) -> float:
        return math.exp(self.log_probability)

    @property
    def score(self) -> float:
        """Geometric mean over its tokens: comparable between copies of different lengths."""
        return math.exp(self.log_probability / self.tokens)


class Copier:
    """What may be copied from one text by one tokenizer; no copy holds a character that `breaks` matches."""

    def __init__(self, tokenizer: Tokenizer, text: str, *, breaks: str = r"\n") -> None:
        if tokenizer.kind in ("wordpiece", "word"):
            raise UserError(
                f"a {tokenizer.kind} vocabulary leaves out spaces, so its tokens cannot be found in a text: "
                "use a model with a bpe or unigram tokenizer"
            )
        self._vocabulary = _vocabulary(tokenizer)
        self.text, self._raw = text, text.encode()
        # places are in bytes, because tokens are
        bytes_ = itertools.accumulate((len(character.encode()) for character in text), initial=0)
        self._character = {place: n for n, place in enumerate(bytes_)}
        marks = {match.start() for match in re.finditer(breaks, text)}
        broken = [place for place, n in self._character.items() if n in marks]
        self._limit = _next(broken, len(self._raw))
        self.starts = {p for p, n in self._character.items() if self._word_starts(n) and self._limit[p] > p}
        self.first = self._tokens(self.starts, spaced=True)
        # where a space is a token of its own it may come first, and says nothing yet
        self.first.update(dict.fromkeys(self._vocabulary[0].get(b" ", ()), self.starts))

    def longer(self, places: set[int]) -> dict[int, set[int]]:
        """The tokens that go on from any of these places in the text, and the places where they then end."""
        return self._tokens(places, spaced=False)

    def may_end(self, places: set[int]) -> bool:
        """Whether a word ends at one of these places."""
        return any(place in self._character and self._word_ends(self._character[place]) for place in places)

    def piece(self, said: bytes, places: set[int]) -> tuple[int, int]:
        """Characters (start, end) of the first occurrence of what was said, without the marks behind it."""
        ends = (p for p in sorted(places) if p in self._character and self._word_ends(self._character[p]))
        end = next(ends)
        start, last = self._character[end - len(said)], self._character[end]
        return start, start + max(1, len(self.text[start:last].rstrip(_TRAILING)))

    def _tokens(self, places: set[int], *, spaced: bool) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        table, longest = self._vocabulary
        for place in places:
            for end in range(place + 1, min(place + longest, self._limit[place]) + 1):
                piece = self._raw[place:end]
                for id in table.get(piece, ()):
                    found.setdefault(id, set()).add(end)
                if spaced:
                    for id in table.get(b" " + piece, ()):
                        found.setdefault(id, set()).add(end)
        return found

    def _word_starts(self, n: int) -> bool:
        if n == len(self.text) or self.text[n].isspace():
            return False
        return n == 0 or not (_letter(self.text[n - 1]) and _letter(self.text[n]))

    def _word_ends(self, n: int) -> bool:
        return n == len(self.text) or not (_letter(self.text[n - 1]) and _letter(self.text[n]))


def ends(tokenizer: Tokenizer, end_ids: Sequence[int], begins: str = _ENDS) -> frozenset[int]:
    """The ids that end a copy: end tokens, and those whose text begins with one of these characters."""
    return _beginning(tokenizer, begins) | frozenset(end_ids)


@functools.lru_cache(maxsize=16)
def _beginning(tokenizer: Tokenizer, characters: str) -> frozenset[int]:
    marks = tuple(character.encode() for character in characters)
    return frozenset(id for piece, ids in _vocabulary(tokenizer)[0].items() if piece.startswith(marks) for id in ids)


def copy(
    loaded: Usable,
    cache: DecoderCache,
    log_p_V: torch.Tensor,
    copier: Copier,
    end_ids: frozenset[int],
    max_tokens: int,
    *,
    empty: bool,
) -> Copy | None:
    """The likeliest copy, token by token, after a prompt that `cache` has read and `log_p_V` ends.

    The cache goes on with it, the ending token not included. None where, with `empty`, an end was likelier than any
    beginning, or where no token of this vocabulary begins one.
    """
    allowed, places, said, total, count = copier.first, set[int](), b"", 0.0, 0
    while True:
        refuse_not_finite("scores are", log_p_V.amax())
        done = said != b"" and copier.may_end(places)
        stops = [id for id in end_ids if id not in allowed] if done or (empty and not count) else []
        ids = [*allowed, *stops] if count < max_tokens else stops
        if not ids:
            break
        values = log_p_V[ids]
        best = int(values.argmax())
        total, id = total + float(values[best]), ids[best]
        if id not in allowed:
            return _copied(copier, said, places, total, count + 1, id) if count else None
        count, places = count + 1, allowed[id]
        said = (said + tokenizer_of(loaded).token_bytes(id)).lstrip(b" ")
        log_p_V = step(loaded, cache, id)
        allowed = copier.longer(places)
    return _copied(copier, said, places, total, count, None) if said and copier.may_end(places) else None


def step(loaded: Usable, cache: DecoderCache, id: int) -> torch.Tensor:
    """Feeds one token; log p of the next [V]."""
    with inference(loaded.model):
        ids_BT = torch.tensor([[id]], device=next(loaded.model.parameters()).device)
        return loaded.model.output(loaded.model(ids_BT, cache=cache))[0, -1].float().log_softmax(-1)


def _copied(copier: Copier, said: bytes, places: set[int], total: float, tokens: int, ended_by: int | None) -> Copy:
    start, end = copier.piece(said, places)
    return Copy(copier.text[start:end], start, end, total, tokens, ended_by)


def occurrences(text: str, piece: str) -> Iterator[tuple[int, int]]:
    """Every place (start, end) in characters where a piece stands as whole words."""
    at = text.find(piece)
    while at >= 0:
        end = at + len(piece)
        inside = at > 0 and _letter(text[at - 1]) and _letter(text[at])
        if not inside and not (end < len(text) and _letter(text[end - 1]) and _letter(text[end])):
            yield at, end
        at = text.find(piece, at + 1)


def _letter(character: str) -> bool:
    """Whether it is part of a word that is longer than a character."""
    return character.isalnum() and not "\u2e80" <= character <= "\uffef" and character < "\U00020000"


def _next(broken: list[int], end: int) -> list[int]:
    """For every byte the place of the next break at or after it."""
    limits, last, marks = [0] * (end + 1), end, set(broken)
    for place in range(end, -1, -1):
        last = place if place in marks else last
        limits[place] = last
    return limits


Vocabulary = tuple[dict[bytes, list[int]], int]
_VOCABULARIES: WeakKeyDictionary[Tokenizer, Vocabulary] = WeakKeyDictionary()


def _vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """The ids by the bytes they write, and the length of the longest."""
    if tokenizer not in _VOCABULARIES:
        table: dict[bytes, list[int]] = {}
        for id in set(range(tokenizer.size)) - tokenizer.special_ids - {tokenizer.unknown_id}:
            if piece := tokenizer.token_bytes(id):
                table.setdefault(piece, []).append(id)
        _VOCABULARIES[tokenizer] = table, max(map(len, table), default=0)
    return _VOCABULARIES[tokenizer]
