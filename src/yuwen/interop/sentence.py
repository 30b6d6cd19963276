"""How a sentence encoder's folder makes one vector of a text's hidden states (Reimers & Gurevych 2019, section 3).

Such a folder, in the layout of sentence-transformers, lists its steps in modules.json: the encoder, a pooling over its
states, often a normalisation. What those steps' settings ask for beyond that would change every vector: it is refused
by name, never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from yuwen.errors import UserError
from yuwen.interop.json_file import read_json, read_json_list, write_json
from yuwen.models import config_from_published
from yuwen.models.config import ModelConfig

Mode = Literal["mean", "cls", "max"]


@dataclass(frozen=True)
class Pooling:
    """The steps from hidden states to a vector.

    `mode` is the mean of the states, the first one (cls), or the largest value in each coordinate; `normalize` divides
    by the length; texts are cut to `length` ids, special tokens included, and written in small letters if `lower`.
    """

    mode: Mode
    normalize: bool
    length: int
    lower: bool = False


# As older files say it (one switch a mode), and as newer ones do.
_SWITCHES: dict[str, Mode] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
_MODES: dict[str, Mode] = {mode: mode for mode in _SWITCHES.values()}
_SETTINGS = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json")
# What else an encoder's settings may hold: only this, because anything else would change the vectors.
_ENCODER: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}
_FASTER = {"unpad_inputs"}  # changes no number
_LEAST = 3  # [CLS], one token, [SEP]


def read_pooling(folder: Path) -> Pooling | None:
    """The pooling that a model folder was published with, or None where it is no sentence encoder's.

    UserError for anything malformed, and for steps and settings that are not built here: other modules (Dense …), other
    poolings (weighted mean …), several poolings side by side, a prompt in front of every text.
    """
    if not (folder / "modules.json").is_file():
        return None
    paths = _modules(folder / "modules.json")
    config: Any = config_from_published(read_json(folder / "config.json"), str(folder / "config.json"))
    _refuse_prompt(folder / "config_sentence_transformers.json")
    length, lower = _encoder(folder, config)
    mode = _mode(folder / paths["Pooling"] / "config.json", config.width)
    if "Normalize" in paths:
        _check_normalize(folder / paths["Normalize"] / "config.json")
    return Pooling(mode, "Normalize" in paths, length, lower)


def write_pooling(folder: Path, pooling: Pooling, width: int) -> None:
    """Writes the files that `read_pooling` and sentence-transformers read, beside an encoder of that width."""
    kinds = {"Transformer": "", "Pooling": "1_Pooling", **({"Normalize": "2_Normalize"} if pooling.normalize else {})}
    modules = [
        {"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, place) in enumerate(kinds.items())
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / _SETTINGS[0], {"max_seq_length": pooling.length, "do_lower_case": pooling.lower})
    (folder / kinds["Pooling"]).mkdir(exist_ok=True)
    switches = {key: mode == pooling.mode for key, mode in _SWITCHES.items()}
    write_json(folder / kinds["Pooling"] / "config.json", {"word_embedding_dimension": width, **switches})
    if pooling.normalize:
        (folder / kinds["Normalize"]).mkdir(exist_ok=True)


def _modules(path: Path) -> dict[str, str]:
    """The folder of each step by its kind, in order."""
    modules = read_json_list(path)
    found: dict[str, str] = {}
    for module in modules[:8]:
        kind, place = (module.get("type"), module.get("path")) if isinstance(module, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(place, str):
            raise UserError(f"{path}: each module is an object with type and path: download it again")
        package, _, name = kind.rpartition(".")
        if package.split(".")[0] != "sentence_transformers" or name in found:
            raise UserError(f"{path}: module {_shown(kind)} is not one of sentence-transformers, or is there twice")
        if not re.fullmatch(r"(?!\.)[\w.-]*", place):
            raise UserError(f"{path}: {_shown(place)} is not the name of a folder beside it")
        found[name] = place
    names = list(found)
    if names[:2] != ["Transformer", "Pooling"] or names[2:] not in ([], ["Normalize"]) or len(modules) != len(names):
        raise UserError(
            f"{path}: {_shown(', '.join(names))} is not supported: only Transformer, Pooling, and then Normalize"
        )
    if found["Transformer"]:
        raise UserError(f"{path}: the encoder lies in {_shown(found['Transformer'])}, not in the folder itself")
    return found


def _mode(path: Path, width: int) -> Mode:
    """Which pooling one of its settings files asks for."""
    settings = read_json(path)
    for key in ("word_embedding_dimension", "embedding_dimension"):
        if settings.get(key) not in (None, width):
            raise UserError(f"{path}: {key}={_shown(settings[key])}, but the encoder's width is {width}")
    asked = settings.get("pooling_mode")
    if asked is None:
        asked = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value]
    asked = asked if isinstance(asked, list) else [asked]
    known = {**_SWITCHES, **_MODES}
    if len(asked) != 1 or not isinstance(asked[0], str) or asked[0] not in known:
        raise UserError(f"{path}: pooling {_shown(asked)} is not supported: only one of {', '.join(_MODES)}")
    return known[asked[0]]


def _encoder(folder: Path, config: ModelConfig) -> tuple[int, bool]:
    """(ids a text is cut to, whether it is written in small letters)."""
    path = next((folder / name for name in _SETTINGS if (folder / name).is_file()), None)
    settings: Mapping[str, Any] = {} if path is None else read_json(path)
    for key, value in settings.items():
        if key in ("max_seq_length", "do_lower_case") or key in _FASTER or not value:
            continue
        if value != _ENCODER.get(key):
            raise UserError(f"{path}: {_shown(key)}={_shown(value)} is not supported")
    lower, length = settings.get("do_lower_case") or False, settings.get("max_seq_length")
    where = f"{path}: max_seq_length"
    if length is None and (folder / "tokenizer_config.json").is_file():
        length = read_json(folder / "tokenizer_config.json").get("model_max_length")
        where = f"{folder / 'tokenizer_config.json'}: model_max_length"
        length = int(min(length, config.context)) if isinstance(length, float) and length > 0 else length
    length = config.context if length is None else length
    if not isinstance(lower, bool):
        raise UserError(f"{path}: do_lower_case={_shown(lower)} is neither true nor false")
    if not isinstance(length, int) or isinstance(length, bool) or length < _LEAST:
        raise UserError(f"{where}={_shown(length)}: a text needs at least {_LEAST} ids")
    return min(length, config.context), lower  # what the positions end at is never read


def _check_normalize(path: Path) -> None:
    settings = read_json(path) if path.is_file() else {}
    for key in ("module_input_name", "module_output_name"):
        if settings.get(key) not in (None, "sentence_embedding"):
            raise UserError(f"{path}: {key}={_shown(settings[key])} is not supported: only sentence_embedding")


def _refuse_prompt(path: Path) -> None:
    if path.is_file() and (name := read_json(path).get("default_prompt_name")):
        raise UserError(f"{path}: default_prompt_name={_shown(name)}: a prompt in front of every text is not supported")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
