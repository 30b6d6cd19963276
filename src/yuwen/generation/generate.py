"""The loop: read the prompts, then draw, show and feed back one token at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from yuwen.errors import UserError
from yuwen.generation.beam import Search, beam_search
from yuwen.generation.decoding import Decoding, Reading, SourceDecoding
from yuwen.generation.sampling import Sampler, SamplingConfig
from yuwen.generation.stop import StopHolder
from yuwen.models import EncoderDecoder, Model, left_to_right
from yuwen.tokens import Tokenizer

if TYPE_CHECKING:
    from yuwen.generation.constrained import Constraint, Guide

Reason = Literal["stop", "length"]


@dataclass(frozen=True)
class Generation:
    """What a prompt became. The seconds are those of the whole batch it was part of."""

    ids: list[int]  # new tokens only; an end token, and those of a stop string, included
    text: str  # without the end token, and without the stop string
    finish_reason: Reason
    prompt_tokens: int
    prefill_seconds: float  # until the first token was drawn
    decode_seconds: float  # for all further ones
    reused_tokens: int = 0  # of the prompt: read in an earlier call, and not again
    score: float | None = None  # of a beam search: log p over the length penalty, in nats

    @property
    def prefill_tokens_per_second(self) -> float:
        return (self.prompt_tokens - self.reused_tokens) / self.prefill_seconds

    @property
    def decode_tokens_per_second(self) -> float | None:
        """None if the first token was the only one."""
        return (len(self.ids) - 1) / self.decode_seconds if len(self.ids) > 1 else None


@dataclass(frozen=True)
class Piece:
    """Text that became certain, in whole characters. A row's last piece carries its `generation`."""

    row: int
    text: str
    generation: Generation | None = None


def generate(
    model: Model,
    ids: Sequence[Sequence[int]],
    sampling: SamplingConfig | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    end_ids: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    constraint: Constraint | None = None,
    reading: Reading | None = None,
) -> list[Generation]:
    """Continues every row of ids; the arguments and errors of `stream`."""
    done: dict[int, Generation] = {}
    for piece in stream(
        model,
        ids,
        sampling,
        tokenizer=tokenizer,
        end_ids=end_ids,
        seeds=seeds,
        constraint=constraint,
        reading=reading,
    ):
        if piece.generation is not None:
            done[piece.row] = piece.generation
    return [done[row] for row in range(len(ids))]


def stream(
    model: Model,
    ids: Sequence[Sequence[int]],
    sampling: SamplingConfig | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    end_ids: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    constraint: Constraint | None = None,
    reading: Reading | None = None,
) -> Iterator[Piece]:
    """Continues every row of ids, yielding text as it becomes certain; an encoder–decoder answers every row, a source.

    A row ends with an end token (`end_ids`; the tokenizer's own by default, its chat template's among them) or a stop
    string, which may be a special token's: "stop"; or after
    `max_tokens`, or when the model's context is full: "length". A model of context C reads at most C tokens: a prompt
    of n leaves room for C - n + 1 new ones (the last is not read any more), with learned and rotary positions alike.
    Each row draws from its own generator, seeded by `seeds` or by `sampling.seed`: a row of a batch gives what it gives
    alone. Without a tokenizer the texts are empty.
    With a `constraint` only tokens are drawn that its schema allows, and a row also ends, "stop", when its text is
    whole; after "length" it may not be. With a `reading` of the one prompt's beginning, that is not read again, and
    the reading grows by what is read here.
    With `sampling.beams` a row's text comes whole, when its search is over. An encoder–decoder takes the likeliest
    token unless a setting says how to draw, since an answer is right or wrong; its start token is never drawn, unless
    it ends texts too.
    Raises UserError for a prompt that is empty, longer than the context, or holds an id outside the vocabulary, and for
    an encoder.
    """
    sampling = sampling or SamplingConfig()
    if isinstance(model, EncoderDecoder) and not sampling.draws and seeds is None and sampling.beams == 1:
        sampling = sampling.model_copy(update={"temperature": 0.0})
    if end_ids is None:
        end_ids = [] if tokenizer is None else sorted(tokenizer.stop_ids)
    if tokenizer is None and sampling.stop:
        raise UserError("stop strings need a tokenizer, and this model comes without one")
    if tokenizer is not None:
        end_ids = [*end_ids, *_special_stops(sampling.stop, tokenizer)]
    if sampling.beams > 1 and not (constraint is reading is seeds is None):
        raise UserError("beam search keeps several texts and draws none: it takes no schema, no reading and no seeds")
    if constraint is not None and sampling.stop:
        raise UserError("a text under a schema ends where the schema ends it: leave the stop strings out")
    for row in ids:
        check_prompt(row, model.config.context, model.config.vocabulary)
    sizes = [owner.size for owner in (tokenizer, constraint) if owner is not None]
    vocabulary = min([model.config.vocabulary, *sizes])
    decoding = _decoding(model, ids, reading)
    never = [id for id in decoding.never if id < vocabulary and id not in end_ids]
    guides = None if constraint is None else [constraint.guide(end_ids) for _ in ids]
    rows = [
        _Row(
            number,
            len(prompt),
            min(sampling.max_tokens, model.config.context - len(decoding.begun[number]) + 1),
            tokenizer,
            end_ids,
            StopHolder(sampling.stop),
            guides[number] if guides else None,
        )
        for number, prompt in enumerate(ids)
    ]
    if sampling.beams > 1:
        return _search(rows, decoding, sampling, vocabulary, never)
    seeds = [sampling.seed] * len(ids) if seeds is None else seeds
    return _run(rows, decoding, Sampler(sampling, decoding.begun, seeds, vocabulary, decoding.device, guides, never))


def _special_stops(stop: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    """Ids of the stop strings that are special tokens: their text is never shown, so nobody would find it there.
    UserError for one that holds a special token beside other text."""
    found = []
    for text in stop:
        ids = tokenizer.encode(text, specials=True)
        special = [id for id in ids if id in tokenizer.special_ids - {tokenizer.unknown_id}]
        if special and len(ids) > 1:
            name = tokenizer.decode(special[:1], skip_special=False)
            raise UserError(f"stop string {text!r}: the special token {name} in it is never shown: give it alone")
        found += special
    return found


def _decoding(model: Model, ids: Sequence[Sequence[int]], reading: Reading | None) -> Decoding | SourceDecoding:
    if not isinstance(model, EncoderDecoder):
        return Decoding(left_to_right(model, "continue text"), ids, reading)
    if reading is not None:
        raise ValueError("a reading is of a text that is continued: a source is always read whole")
    return SourceDecoding(model, ids)


def check_prompt(prompt: Sequence[int], context: int, vocabulary: int) -> None:
    """UserError for a prompt that a model of this context and vocabulary cannot read."""
    if not prompt:
        raise UserError("the prompt is empty: give the model something to continue")
    if len(prompt) > context:
        raise UserError(f"the prompt has {len(prompt)} tokens, the model's context {context}: shorten the prompt")
    outside = [id for id in prompt if not 0 <= id < vocabulary]
    if outside:
        raise UserError(
            f"the prompt holds id {outside[0]}, the model's vocabulary ends at {vocabulary - 1}: "
            "is this the tokenizer the model was trained with?"
        )


def _search(
    rows: list[_Row],
    decoding: Decoding | SourceDecoding,
    sampling: SamplingConfig,
    vocabulary: int,
    never: Sequence[int],
) -> Iterator[Piece]:
    if not rows:
        return
    start = time.perf_counter()
    searches = [Search(sampling.beams, sampling.length_penalty, row.limit, row.end_ids) for row in rows]
    logits_BV = decoding.prefill()
    prefill = time.perf_counter() - start
    beam_search(decoding, logits_BV, searches, vocabulary, never)
    decode = time.perf_counter() - start - prefill
    for row, search in zip(rows, searches, strict=True):
        assert search.best is not None
        text = "".join([row.take(id) for id in search.best.ids])
        yield Piece(row.number, text, row.generation(prefill, decode, decoding.reused, search.score))


def _run(rows: list[_Row], decoding: Decoding | SourceDecoding, sampler: Sampler) -> Iterator[Piece]:
    if not rows:
        return
    start = time.perf_counter()
    next_B = sampler(decoding.prefill())
    prefill, decode = time.perf_counter() - start, 0.0
    while True:
        going: list[int] = []
        for place, (row, id) in enumerate(zip(rows, next_B.tolist(), strict=True)):
            text = row.take(id)
            generation = row.generation(prefill, decode, decoding.reused)
            if generation is None:
                going.append(place)
            if text or generation:
                yield Piece(row.number, text, generation)
        if not going:
            return
        start = time.perf_counter()  # what the reader of the pieces did in between is not counted
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            next_B = next_B[going]
            decoding.select(going)
            sampler.select(going)
        next_B = sampler(decoding.step(next_B))
        decode += time.perf_counter() - start


@dataclass
class _Row:
    """One sequence on its way: its new tokens, the text they make, and whether it is finished."""

    number: int
    prompt_tokens: int
    limit: int  # new tokens at most
    tokenizer: Tokenizer | None
    end_ids: Sequence[int]
    stop: StopHolder
    guide: Guide | None = None
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finished: Reason | None = None

    def __post_init__(self) -> None:
        self._decoder = self.guide or (None if self.tokenizer is None else self.tokenizer.stream())

    def take(self, id: int) -> str:
        """Adds a token; returns the text that is certain now."""
        self.ids.append(id)
        ended = id in self.end_ids
        last = ended or len(self.ids) == self.limit
        text = self._certain(id, shown=not ended, last=last)
        if ended or self.stop.stopped or (self.guide is not None and self.guide.complete):
            self.finished = "stop"
        elif last:
            self.finished = "length"
        self.text += text
        return text

    def generation(self, prefill: float, decode: float, reused: int, score: float | None = None) -> Generation | None:
        """The result, if the row is finished."""
        if self.finished is None:
            return None
        return Generation(self.ids, self.text, self.finished, self.prompt_tokens, prefill, decode, reused, score)

    def _certain(self, id: int, *, shown: bool, last: bool) -> str:
        if self._decoder is None:
            return ""
        text = self.stop.feed(self._decoder.feed(id)) if shown else ""
        if last:
            text += self.stop.feed(self._decoder.flush()) + self.stop.flush()
        return text
