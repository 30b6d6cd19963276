"""Tasks whose answer is text of the model's own: complete, chat, translate, summarise.

A decoder is asked by a prompt. An encoder–decoder writes for a text what it was trained to write for it, so without
a `prompt` of the caller's (T5's "translate English to German: {{ text }}") the text itself is its source.

Inputs are written in batches of like length. Decoding is greedy unless a temperature is given, so that the same inputs
give the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate, prompt_ids, source_ids
from yuwen.tasks.batches import chunks, in_order, padded_batches
from yuwen.tasks.contract import (
    Input,
    Usable,
    answers_sources,
    documents,
    need_decoder,
    need_writer,
    place,
    refuse,
    tokenizer_of,
)
from yuwen.tasks.ids import asked, fits
from yuwen.tasks.language import code, known, language_of, named
from yuwen.tasks.prompts import Prompt, language_for
from yuwen.text import Document

_CHUNK = 32
_TOKENS = 2048  # padded prompt tokens of one batch
_ROWS = 16


def complete(loaded: Usable, inputs: Iterable[Input], **sampling: Any) -> Iterator[dict[str, Any]]:
    """`input`, `text` (what follows it, white space included; of an encoder–decoder its answer), `finish_reason`.

    An encoder–decoder reads special tokens that the input spells: a hole is asked for by one. `sampling`: fields of
    SamplingConfig; greedy by default.
    """
    need_writer(loaded, "complete")
    settings = sampling_of(sampling)

    def ask(document: Document) -> list[int]:
        tokenizer = tokenizer_of(loaded)
        if answers_sources(loaded):
            ids = source_ids(document.text, tokenizer)
        else:
            ids = prompt_ids(document.text, tokenizer, chat=False)
        fits(loaded, len(ids), place(document))
        return ids

    return written(loaded, inputs, ask, settings, strip=False)


def chat(
    loaded: Usable, inputs: Iterable[Input], *, system: str | None = None, **sampling: Any
) -> Iterator[dict[str, Any]]:
    """`input`, `text` (the reply), `finish_reason`: each input is a message, or a row with `messages` so far.

    `system` is said before the first message. UserError for a model that has no chat template.
    """
    need_decoder(loaded, "chat")
    if not loaded.chat:
        raise UserError(f"{loaded.path}: a base model, which continues text but does not chat: use complete")
    settings = sampling_of(sampling)

    def ask(document: Document) -> list[int]:
        ids = tokenizer_of(loaded).render(_messages(document, system), generate=True).ids.tolist()
        fits(loaded, len(ids), place(document))
        return ids

    return written(loaded, inputs, ask, settings)


def translate(
    loaded: Usable,
    inputs: Iterable[Input],
    *,
    source: str | None = None,
    target: str | None = None,
    raw: bool | None = None,
    prompt: str | Path | None = None,
    language: str | None = None,
    **sampling: Any,
) -> Iterator[dict[str, Any]]:
    """`input`, `text` (the translation), `finish_reason`.

    `source` and `target` are languages by name, or zh and en; by default the input's own, and the other of these two.
    An encoder–decoder translates as it was trained to: it is told languages by a `prompt` or not at all.
    """
    need_writer(loaded, "translate")
    alone = _text_alone(loaded, "translate", prompt, raw=raw, source=source, target=target, language=language)
    template = Prompt.of("translate", prompt)
    settings = sampling_of(sampling, stop=_end_of_line(loaded, raw))
    known(language)

    def ask(document: Document) -> list[int]:
        if alone:
            return asked(loaded, document.text, raw=False, where=place(document))
        own = code(source) or language_of(document.text)
        other = code(target) or ("en" if own == "zh" else "zh")
        if own == other:
            raise UserError(f"{place(document)}: from {own} into {other} there is nothing to translate: give --to")
        within = language_for(document.text, language)
        filled = template.render(within, text=document.text, source=named(own, within), target=named(other, within))
        return asked(loaded, filled, raw=bool(raw), where=place(document))

    return written(loaded, inputs, ask, settings)


def summarise(
    loaded: Usable,
    inputs: Iterable[Input],
    *,
    raw: bool | None = None,
    prompt: str | Path | None = None,
    language: str | None = None,
    **sampling: Any,
) -> Iterator[dict[str, Any]]:
    """`input`, `text` (the summary), `finish_reason`."""
    need_writer(loaded, "summarise")
    alone = _text_alone(loaded, "summarise", prompt, raw=raw, language=language)
    template = Prompt.of("summarise", prompt)
    settings = sampling_of(sampling, stop=_end_of_line(loaded, raw))
    known(language)

    def ask(document: Document) -> list[int]:
        if alone:
            return asked(loaded, document.text, raw=False, where=place(document))
        filled = template.render(language_for(document.text, language), text=document.text)
        return asked(loaded, filled, raw=bool(raw), where=place(document))

    return written(loaded, inputs, ask, settings)


def _text_alone(loaded: Usable, task: str, prompt: str | Path | None, *, raw: bool | None, **told: Any) -> bool:
    """Whether the text itself is asked: of an encoder–decoder, without a prompt. UserError for what it would not hear:
    `raw`, as it has no chat template, and then all that only prompts say."""
    if not answers_sources(loaded):
        return False
    refuse(task, "an encoder–decoder", raw=raw)
    if prompt is None:
        refuse(task, "an encoder–decoder that is given the text alone, without a prompt", **told)
    return prompt is None


def _end_of_line(loaded: Usable, raw: bool | None) -> Sequence[str]:
    """Where an answer stops: a chat model and an encoder–decoder end it themselves, plain text goes on."""
    return () if answers_sources(loaded) or (loaded.chat and not raw) else ("\n",)


def sampling_of(values: dict[str, Any], stop: Sequence[str] = ()) -> SamplingConfig:
    """Greedy unless told otherwise; `stop` where none is given. UserError for a setting without effect."""
    ours: dict[str, Any] = {"temperature": 0.0, "stop": tuple(stop)}
    if SamplingConfig.parse("", values).beams > 1:
        if stop:
            raise UserError("plain text ends with its line, which beam search does not look for: leave beams out")
        ours = {}  # beam search takes neither
    config = SamplingConfig.parse("", {**ours, **values})
    if config.temperature == 0 and "seed" in values:
        raise UserError("seed means nothing without a temperature: the likeliest token is always taken")
    return config


@dataclass(frozen=True)
class Prompted:
    """An input, what is shown of it, and the prompt's ids."""

    input: str
    ids: list[int]


def written(
    loaded: Usable,
    inputs: Iterable[Input],
    ask: Callable[[Document], list[int]],
    settings: SamplingConfig,
    *,
    strip: bool = True,
    **more: Any,
) -> Iterator[dict[str, Any]]:
    """Rows of `input`, `text`, `finish_reason` for prompts that `ask` makes; `more` goes to `generate`.

    `strip`: without the white space around a text.
    """
    prepared = (Prompted(document.text, ask(document)) for document in documents(inputs))
    for chunk in chunks(prepared, _CHUNK):
        batches = _few(padded_batches([len(item.ids) for item in chunk], _TOKENS))
        done = in_order(chunk, batches, lambda batch: _generated(loaded, batch, settings, more))
        for item, generation in zip(chunk, done, strict=True):
            text = generation.text.strip() if strip else generation.text
            yield {"input": item.input, "text": text, "finish_reason": generation.finish_reason}


def _few(batches: Iterable[list[int]]) -> Iterator[list[int]]:
    for places in batches:
        for start in range(0, len(places), _ROWS):
            yield places[start : start + _ROWS]


def _generated(loaded: Usable, batch: list[Prompted], settings: SamplingConfig, more: dict[str, Any]) -> list[Any]:
    ids = [item.ids for item in batch]
    tokenizer = tokenizer_of(loaded)
    return generate(loaded.model, ids, settings, tokenizer=tokenizer, end_ids=loaded.end_ids, **more)


def _is_message(said: Any) -> bool:
    return isinstance(said, dict) and isinstance(said.get("role"), str)


def _messages(document: Document, system: str | None) -> list[dict[str, Any]]:
    messages = document.fields.get("messages")
    if not (isinstance(messages, list) and messages and all(_is_message(said) for said in messages)):
        messages = [{"role": "user", "content": document.text}]
    if messages[-1]["role"] == "assistant":
        raise UserError(f"{place(document)}: the assistant speaks last here, so there is nothing to answer")
    if system is None:
        return messages
    if messages[0]["role"] == "system":
        raise UserError(f"{place(document)}: this conversation has a system message of its own: leave --system out")
    return [{"role": "system", "content": system}, *messages]
