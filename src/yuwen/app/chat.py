"""A conversation with a model: messages, the model's own template, and a cache that is kept between turns.

    prompt = render(system, messages not forgotten) + "the assistant speaks"
    read   = what of the prompt the cache does not hold already

Nothing here reads a terminal or prints; `app.talk` does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from yuwen.app.loading.load import Loaded
from yuwen.app.transcript import Message
from yuwen.errors import UserError
from yuwen.generation import Generation, SamplingConfig, stream
from yuwen.generation.decoding import Reading
from yuwen.models import left_to_right
from yuwen.tokens import Tokenizer


@dataclass(frozen=True)
class Turn:
    """A message and its answer."""

    message: str
    text: str
    ids: list[int]  # none for an answer that was interrupted
    finish_reason: Literal["stop", "length", "interrupted"]
    prompt_tokens: int
    reused_tokens: int  # of them, not read again
    forgotten: int  # exchanges, from the oldest, that the prompt has no room for
    prefill_tokens_per_second: float | None
    decode_tokens_per_second: float | None


class Chat:
    """One conversation. `messages` is all that was said; a part of it may be forgotten once the context is full.

    Raises UserError for a model that has not learned to converse, and for messages its template refuses.
    """

    def __init__(self, loaded: Loaded, sampling: SamplingConfig, messages: Sequence[Message] = ()) -> None:
        self.tokenizer = conversing(loaded)
        self.model, self.sampling, self.end_ids = left_to_right(loaded.model, "chat"), sampling, loaded.end_ids
        self.messages: list[Message] = []
        self.unanswered: str | None = None  # a message without a word of answer: no part of the conversation yet
        self.forgotten = 0
        self.restart(messages)
        self._reading = Reading(self.model)
        self._answers = 0

    @property
    def context(self) -> int:
        """Tokens the model can read."""
        return self.model.config.context

    @property
    def system(self) -> str | None:
        """The system prompt."""
        first = self.messages[:1]
        return first[0]["content"] if first and first[0]["role"] == "system" else None

    def set_system(self, text: str) -> None:
        """Puts a system prompt in the place of the one there is. UserError if the template knows none."""
        system = {"role": "system", "content": text}
        self._rendered([system, {"role": "user", "content": "?"}])
        self.messages = [system, *self._said()]

    def ask(self, text: str, show: Callable[[str], None]) -> Turn:
        """Answers a message; `show` gets the text as it becomes certain, in whole characters.

        Ctrl-C (KeyboardInterrupt) ends the answer: what was said of it stays in the conversation, marked
        `interrupted`. If that is nothing, the message does not stay either, but `retry` asks it again.
        """
        self.unanswered = None
        return self._answer(text, self.messages, show)

    def retry(self, show: Callable[[str], None]) -> Turn:
        """Answers the last message anew, by other random numbers; interrupted at once, the old answer stays."""
        before, text = self.messages, self.unanswered
        if text is None:
            before, text = self._without_last()
        return self._answer(text, before, show)

    def undo(self) -> str:
        """Takes the last message and its answer back; returns the message."""
        text, self.unanswered = self.unanswered, None
        if text is None:
            self.messages, text = self._without_last()
        self.forgotten = 0
        return text

    def restart(self, messages: Sequence[Message] = ()) -> None:
        """Goes on from other messages, or from none but the system prompt."""
        self.messages = list(messages) or [message for message in self.messages[:1] if message["role"] == "system"]
        self.unanswered, self.forgotten = None, 0
        if self.messages and self.messages[-1]["role"] == "user":
            self.unanswered = self.messages.pop()["content"]

    def _answer(self, text: str, before: list[Message], show: Callable[[str], None]) -> Turn:
        messages = [*before, {"role": "user", "content": text}]
        said: list[str] = []
        ids: list[int] = []
        generation: Generation | None = None
        sampling = self.sampling.model_copy(update={"seed": (self.sampling.seed + self._answers) % 2**63})
        self._answers += 1
        try:
            ids = self._prompt(messages)
            for piece in stream(
                self.model,
                [ids],
                sampling,
                tokenizer=self.tokenizer,
                end_ids=self.end_ids,
                reading=self._reading,
            ):
                generation = piece.generation
                said.append(piece.text)
                show(piece.text)
        except KeyboardInterrupt:
            return self._interrupted(text, before, "".join(said), len(ids))
        assert generation is not None
        self.messages, self.unanswered = [*messages, {"role": "assistant", "content": generation.text}], None
        return Turn(
            text,
            generation.text,
            generation.ids,
            generation.finish_reason,
            generation.prompt_tokens,
            generation.reused_tokens,
            self.forgotten,
            generation.prefill_tokens_per_second,
            generation.decode_tokens_per_second,
        )

    def _interrupted(self, text: str, before: list[Message], said: str, prompt_tokens: int) -> Turn:
        if said:
            answer = {"role": "assistant", "content": said, "interrupted": True}
            self.messages, self.unanswered = [*before, {"role": "user", "content": text}, answer], None
        elif before is self.messages:  # else an answer that was to be given anew stays as it was
            self.unanswered = text
        return Turn(text, said, [], "interrupted", prompt_tokens, 0, self.forgotten, None, None)

    def _prompt(self, messages: list[Message]) -> list[int]:
        """Ids of the system prompt and of the newest exchanges that leave room for an answer.

        Once the context is full the oldest exchanges go, whole, until a quarter of it is free: then some turns follow
        whose beginning is in the cache.
        """
        system = [message for message in messages[:1] if message["role"] == "system"]
        rest = messages[len(system) :]
        starts = [place for place, message in enumerate(rest) if message["role"] == "user"]
        starts[0] = 0  # what an assistant may have said before the first message goes with it

        def ids(forgotten: int) -> list[int]:
            return self._rendered(system + rest[starts[forgotten] :])

        last = len(starts) - 1
        self.forgotten = min(self.forgotten, last)
        prompt = ids(self.forgotten)
        if self.forgotten < last and len(prompt) + min(self.sampling.max_tokens, self.context // 4) > self.context:
            fits = range(self.forgotten + 1, last + 1)
            found = bisect_left(fits, True, key=lambda forgotten: 4 * len(ids(forgotten)) <= 3 * self.context)
            self.forgotten = fits[min(found, len(fits) - 1)]
            prompt = ids(self.forgotten)
        if len(prompt) > self.context:
            raise UserError(
                f"the prompt with this message has {len(prompt)} tokens, the model's context {self.context}: shorten it"
            )
        return prompt

    def _rendered(self, messages: Sequence[Message]) -> list[int]:
        return [int(id) for id in self.tokenizer.render(messages, generate=True).ids]

    def _said(self) -> list[Message]:
        return self.messages[1:] if self.system is not None else self.messages

    def _without_last(self) -> tuple[list[Message], str]:
        places = [place for place, message in enumerate(self.messages) if message["role"] == "user"]
        if not places:
            raise UserError("nothing has been said yet")
        return self.messages[: places[-1]], self.messages[places[-1]]["content"]


def conversing(loaded: Loaded) -> Tokenizer:
    """The tokenizer of a model that can chat. UserError says what to do with one that cannot."""
    if loaded.encoder:
        raise UserError(f"{loaded.path}: an encoder reads text and writes none: see yuwen apply --help")
    if loaded.tokenizer is None:
        raise UserError(f"{loaded.path}: the model comes without a tokenizer, so text has no ids")
    if not loaded.chat:
        raise UserError(
            f"{loaded.path}: a base model, which continues text but has learned no conversation: "
            f"yuwen generate {loaded.source} PROMPT"
        )
    return loaded.tokenizer
