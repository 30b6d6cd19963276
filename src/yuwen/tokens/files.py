"""A tokenizer's files in the Hugging Face layout: what to read from a folder, and what to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from yuwen.errors import UserError

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def read_folder(folder: Path) -> tuple[Backend, dict[str, Any]]:
    """The `tokenizers` object and the settings (roles of special tokens, chat template, …) of a folder.

    Roles are looked for in tokenizer_config.json, then special_tokens_map.json, then, as ids, in
    generation_config.json and config.json. Raises UserError for a file that is absent or does not parse.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder} has no tokenizer.json: name a folder that a tokenizer was saved in")
    try:
        backend = Backend.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the Rust library raises bare Exception for whatever it cannot read
        raise UserError(f"{path}: not a tokenizer file ({_first_line(error)}): save or download it again") from None
    backend.no_truncation()  # a tokenizer here never cuts or pads; sentence-embedding folders ask for it
    backend.no_padding()
    settings = _read_json(folder / "tokenizer_config.json")
    for role, token in _read_json(folder / "special_tokens_map.json").items():
        if role in ROLES and settings.get(role) is None:
            settings[role] = token
    for name in ("generation_config.json", "config.json"):
        values = _read_json(folder / name)
        for role in ("bos_token", "eos_token", "pad_token"):
            id = values.get(f"{role}_id")
            id = id[0] if isinstance(id, list) and id else id
            if settings.get(role) is None and isinstance(id, int):
                settings[role] = backend.id_to_token(id)
    template = folder / "chat_template.jinja"
    if template.is_file():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    if isinstance(settings.get("chat_template"), list):  # several named templates
        named = {entry["name"]: entry["template"] for entry in settings["chat_template"]}
        settings["chat_template"] = named.get("default")
    return backend, settings


def write_folder(folder: Path, backend: Backend, settings: dict[str, Any]) -> None:
    """Writes tokenizer.json and tokenizer_config.json (which holds the chat template)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(backend.to_str(pretty=True), encoding="utf-8")
    text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def role_text(settings: dict[str, Any], role: str) -> str | None:
    """The text of a special token's role: plain, or the `content` of an object."""
    value = settings.get(role)
    return value.get("content") if isinstance(value, dict) else value


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({_first_line(error)}): save or download it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a {type(value).__name__}, not an object: save or download it again")
    return value


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
