"""JSON that came from elsewhere: read in bounded memory, and every fault is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yuwen.errors import UserError

_LARGEST = 64 * 1024 * 1024  # the index of a model of ten thousand shards is a tenth of this


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. UserError names file and line when there is none."""
    value = _value(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a {type(value).__name__}, not an object of settings")
    return value


def read_json_list(path: Path) -> list[Any]:
    """The list in a JSON file. UserError names file and line when there is none."""
    value = _value(path)
    if not isinstance(value, list):
        raise UserError(f"{path}: holds a {type(value).__name__}, not a list")
    return value


def _value(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path} is missing: a model folder needs it")
    size = path.stat().st_size
    if size > _LARGEST:
        raise UserError(f"{path} has {size:,} bytes: no settings file is that large; download it again")
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg}): download or write it again") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, an integer of thousands of digits, thousands of brackets
        raise UserError(f"{path}: not JSON that can be read ({error}): download or write it again") from None


def write_json(path: Path, value: dict[str, Any] | list[Any]) -> None:
    """Writes an object or a list as other tools do: indented, UTF-8, a line break at the end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
