"""The user's words as the ids that a model continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yuwen.errors import UserError
from yuwen.tokens import Tokenizer


def is_chat(folder: Path, tokenizer: Tokenizer) -> bool:
    """Whether the model answers messages rather than continues text.

    A yuwen checkpoint says so by `"yuwen": {"chat": true | false}` in its generation_config.json: every tokenizer of
    ours has a chat template, but a model that was only pretrained has never seen it. Elsewhere a template means chat.
    """
    said = _settings(folder).get("yuwen", {})
    return bool(said["chat"]) if "chat" in said else tokenizer.chat_template is not None


def prompt_ids(prompt: str, tokenizer: Tokenizer, *, chat: bool) -> list[int]:
    """Ids of a prompt: a user's message in the chat template, or the text as it stands.

    With nothing to continue a text begins after the token that starts or ends documents.
    """
    if chat:
        return [int(id) for id in tokenizer.render([{"role": "user", "content": prompt}], generate=True).ids]
    boundary = tokenizer.end_id if tokenizer.start_id is None else tokenizer.start_id
    return tokenizer.encode(prompt) or ([] if boundary is None else [boundary])


def end_ids(folder: Path, tokenizer: Tokenizer) -> list[int]:
    """The tokens that end a text: those generation_config.json names, and the tokenizer's own (a turn's end too)."""
    named = _settings(folder).get("eos_token_id")
    ids = named if isinstance(named, list) else [named]
    return sorted({*ids, *tokenizer.stop_ids} - {None})


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); repair or remove it") from None
    return settings if isinstance(settings, dict) else {}
