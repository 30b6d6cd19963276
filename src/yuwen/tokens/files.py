"""A tokenizer's files in the Hugging Face layout: what to read from a folder, and what to write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from yuwen.disk import replace_text
from yuwen.errors import UserError
from yuwen.tokens.backend import around

_LARGEST = {"tokenizer.json": 512 << 20}  # bytes; a vocabulary of a million pieces has some 50 MB
_SETTINGS = 16 << 20
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Special tokens whose role their name says: BERT's, and what RoBERTa, T5 and XLNet call theirs.
NAMES = {"[PAD]": "pad_token", "[CLS]": "cls_token", "[SEP]": "sep_token", "[MASK]": "mask_token"}
_NAMES = {
    "<s>": "bos_token",
    "</s>": "eos_token",
    "<pad>": "pad_token",
    "<cls>": "cls_token",
    "<sep>": "sep_token",
    "<mask>": "mask_token",
    **NAMES,
}


def read_folder(folder: Path) -> tuple[Backend, dict[str, Any]]:
    """The `tokenizers` object and the settings (roles of special tokens, chat template, …) of a folder.

    Roles are looked for in tokenizer_config.json, then special_tokens_map.json, then, as ids, in
    generation_config.json and config.json, then in tokenizer.json itself. Raises UserError for a file that is absent or
    does not parse.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder} has no tokenizer.json: name a folder that a tokenizer was saved in")
    text = _text(path)
    try:
        backend = Backend.from_str(text)
    except Exception as error:  # the Rust library raises bare Exception for whatever it cannot read
        raise UserError(f"{path}: not a tokenizer file ({_first_line(error)}): save or download it again") from None
    backend.no_truncation()  # a tokenizer here never cuts or pads; sentence-embedding folders ask for it
    backend.no_padding()
    settings = _read_json(folder / "tokenizer_config.json")
    _add_roles(settings, _read_json(folder / "special_tokens_map.json"))
    named = any(settings.get(role) is not None for role in ROLES)
    for name in ("generation_config.json", "config.json"):
        values = _read_json(folder / name)
        for role in ("bos_token", "eos_token", "pad_token"):
            id = values.get(f"{role}_id")
            id = id[0] if isinstance(id, list) and id else id
            if type(id) is int and 0 <= id < 1 << 31:
                _add_roles(settings, {role: backend.id_to_token(id)})
    _add_roles(settings, _roles_of(backend, named))
    template = folder / "chat_template.jinja"
    if template.is_file():
        settings["chat_template"] = _text(template)
    if isinstance(settings.get("chat_template"), list):  # several named templates
        several = [entry for entry in settings["chat_template"] if isinstance(entry, dict)]
        settings["chat_template"] = next((e.get("template") for e in several if e.get("name") == "default"), None)
    for key in ("chat_template", *ROLES):
        value = role_text(settings, key) if key in ROLES else settings.get(key)
        if value is not None and not isinstance(value, str):
            raise UserError(
                f"{folder / 'tokenizer_config.json'}: {key} is a {type(value).__name__}, not text: repair it"
            )
    return backend, settings


def write_folder(folder: Path, backend: Backend, settings: dict[str, Any]) -> None:
    """Writes tokenizer.json and tokenizer_config.json (which holds the chat template)."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / "tokenizer.json", backend.to_str(pretty=True))
    replace_text(folder / "tokenizer_config.json", json.dumps(settings, ensure_ascii=False, indent=2) + "\n")


def role_text(settings: dict[str, Any], role: str) -> str | None:
    """The text of a special token's role: plain, or the `content` of an object."""
    value = settings.get(role)
    return value.get("content") if isinstance(value, dict) else value


def _add_roles(settings: dict[str, Any], roles: Mapping[str, Any]) -> None:
    """Those roles that nothing has named before."""
    for role, token in roles.items():
        if role in ROLES and token is not None and settings.get(role) is None:
            settings[role] = token


def _roles_of(backend: Backend, named: bool) -> dict[str, str]:
    """What tokenizer.json itself tells of its special tokens: what frames a text, and the usual names.

    The names count only where no file of the folder has `named` a role: then they are left to a Python class
    (bert-base-chinese, roberta-base). The frame is what stands on both sides of a text, [CLS] A [SEP]; one side alone
    is a start (LLaMA) or an end (T5). So an encoder without a frame here was published without one: it reads bare text.
    """
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    roles = {} if named else {role: text for text, role in _NAMES.items() if text in special}
    before, after = around(backend)
    if len(before) == len(after) == 1 and special.issuperset(before + after):
        roles = {"cls_token": before[0], "sep_token": after[0], **roles}
    return roles


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({_first_line(error)}): save or download it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a {type(value).__name__}, not an object: save or download it again")
    return value


def _text(path: Path) -> str:
    """The text of a file that came from elsewhere. UserError if it is larger than any such file."""
    size = path.stat().st_size
    if size > _LARGEST.get(path.name, _SETTINGS):
        raise UserError(f"{path} has {size:,} bytes: no file of that kind is so large; download it again")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({_first_line(error)}): save or download it again") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
