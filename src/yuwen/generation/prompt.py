"""The user's words as the ids that a model continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yuwen.data.framing import Frame
from yuwen.errors import UserError
from yuwen.tokens import Tokenizer

SETTINGS = "generation_config.json"
_SEARCH = {"num_beams": 1, "length_penalty": 1, "min_length": 0, "no_repeat_ngram_size": 0, "repetition_penalty": 1}


def is_chat(folder: Path, tokenizer: Tokenizer) -> bool:
    """Whether the model answers messages rather than continues text.

    A yuwen checkpoint says so by `"yuwen": {"chat": true | false}` in its generation_config.json: every tokenizer of
    ours has a chat template, but a model that was only pretrained has never seen it. Elsewhere a template means chat.
    """
    said = _settings(folder).get("yuwen")
    if isinstance(said, dict) and "chat" in said:
        return bool(said["chat"])
    return tokenizer.chat_template is not None


def prompt_ids(prompt: str, tokenizer: Tokenizer, *, chat: bool) -> list[int]:
    """Ids of a prompt: a user's message in the chat template, or the text as it stands.

    The text follows the start token where the tokenizer asks for one; a template renders its own. With nothing to
    continue a text begins after the token that starts or ends documents.
    """
    if chat:
        return [int(id) for id in tokenizer.render([{"role": "user", "content": prompt}], generate=True).ids]
    boundary = tokenizer.end_id if tokenizer.start_id is None else tokenizer.start_id
    ids = tokenizer.encode(prompt)
    return [boundary, *ids] if boundary is not None and (tokenizer.adds_start or not ids) else ids


def source_ids(text: str, tokenizer: Tokenizer, *, specials: bool = True) -> list[int]:
    """Ids of a text that an encoder–decoder is to answer: framed as its sources were in training ([CLS] text [SEP], or
    text end). With `specials` those that the text spells are read, because a hole is asked for by one (`<mask>`,
    `<extra_id_0>`)."""
    ids = tokenizer.encode(text, specials=specials)
    frame = Frame.of(tokenizer, "pairs")
    return [*frame.before, *ids, *frame.after]


def end_ids(folder: Path, tokenizer: Tokenizer | None) -> list[int]:
    """The tokens that end a text: those generation_config.json names, and a tokenizer's own (a turn's end too)."""
    named = _settings(folder).get("eos_token_id")
    ids = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(id) is int and id >= 0 for id in ids):
        raise UserError(f"{folder / SETTINGS}: eos_token_id={named!r} is no token id, nor a list of them")
    return sorted({*ids, *(() if tokenizer is None else tokenizer.stop_ids)})


def search_wanted(folder: Path) -> dict[str, Any]:
    """How a published encoder–decoder's folder wants answers to be searched for: what it says beyond the likeliest
    token at each step, in generation_config.json, or in config.json where older folders say it."""
    said = {**_settings(folder, "config.json"), **_settings(folder)}
    numbers = {key: said[key] for key in _SEARCH if isinstance(said.get(key), int | float)}
    return {key: value for key, value in numbers.items() if value != _SEARCH[key]}


def _settings(folder: Path, name: str = SETTINGS) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); repair or remove it") from None
    return settings if isinstance(settings, dict) else {}
