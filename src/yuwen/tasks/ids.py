"""Texts as the ids that a model reads: prompts for decoders, framed and cut texts for encoders."""

from __future__ import annotations

from collections.abc import Sequence

from yuwen.data.framing import Frame
from yuwen.errors import UserError
from yuwen.generation import prompt_ids, source_ids
from yuwen.tasks.contract import Usable, answers_sources, tokenizer_of
from yuwen.tasks.reading import common


def asked(loaded: Usable, text: str, *, raw: bool, where: str, room: int = 0) -> list[int]:
    """A prompt's ids: the message of a user to a chat model, unless `raw`; an encoder–decoder's source; plain text to
    any other.

    UserError if with `room` more tokens it does not fit the context.
    """
    tokenizer = tokenizer_of(loaded)
    if answers_sources(loaded):
        ids = source_ids(text, tokenizer, specials=False)
    else:
        ids = prompt_ids(text, tokenizer, chat=loaded.chat and not raw)
    fits(loaded, len(ids) + room, where)
    return ids


def fits(loaded: Usable, length: int, where: str) -> None:
    """UserError if a prompt is longer than the model's context."""
    context = loaded.model.config.context
    if length > context:
        raise UserError(
            f"{where}: with its prompt this is {length} tokens, the model's context {context}: shorten the text, or "
            "give fewer examples"
        )


def with_answers(
    loaded: Usable, before: str, answers: Sequence[str], *, raw: bool
) -> tuple[list[int], list[list[int]]]:
    """A prompt that ends where the answer begins, and each answer: ids that joined are those of the whole text.

    A tokenizer may draw the end of the prompt and the beginning of an answer into one token ("Label: " + "good" is
    "Label", ":", " good"). So each whole text is encoded, the prompt is what all of them share, and an answer what is
    left: at least one token. In a chat template the answer opens the assistant's turn, and the prompt is fixed.
    UserError if two answers are the same ids.
    """
    tokenizer = tokenizer_of(loaded)
    if loaded.chat and not raw:
        prompt = prompt_ids(before.rstrip(), tokenizer, chat=True)
        parts = [tokenizer.encode(answer) for answer in answers]
    else:
        whole = [prompt_ids(before + answer, tokenizer, chat=False) for answer in answers]
        alone = prompt_ids(before, tokenizer, chat=False)
        prompt = common([*whole, alone])[: min(map(len, whole)) - 1]
        if not prompt:
            raise UserError(f"the prompt {before!r} leaves no token to answer after: write more into it")
        parts = [ids[len(prompt) :] for ids in whole]
    _distinct(answers, parts)
    return prompt, parts


def framed(loaded: Usable, ids: Sequence[int], length: int) -> tuple[list[int], bool]:
    """An encoder's input: [CLS] ids [SEP], XLNet's ids [SEP] [CLS], at most `length` long; and whether something was
    cut off."""
    around = frame(loaded)
    room = length - len(around.before) - len(around.after)
    return [*around.before, *ids[:room], *around.after], len(ids) > room


def frame(loaded: Usable) -> Frame:
    """What stands before and behind a text that an encoder reads, as far as its tokenizer has such tokens."""
    return Frame.of(tokenizer_of(loaded), loaded.model.config.reads, partial=True)


def _distinct(answers: Sequence[str], parts: Sequence[Sequence[int]]) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for answer, ids in zip(answers, parts, strict=True):
        if not ids:
            raise UserError(f"label {answer!r} has no tokens: give it a name that can be written")
        other = seen.setdefault(tuple(ids), answer)
        if other != answer:
            raise UserError(f"labels {other!r} and {answer!r} are the same tokens to this model: rename one of them")
