"""A GGUF file → a model and its tokenizer.

From cheap to dear, as folders are loaded: header, settings, every name and shape, tokenizer, and only then the
weights, tensor by tensor straight into the type that is computed with.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from yuwen.errors import UserError
from yuwen.interop.fitting import assign, check_fit, entries_of
from yuwen.interop.gguf.config import published_config
from yuwen.interop.gguf.dequantise import FLOATS, read_tensor
from yuwen.interop.gguf.header import GGUFFile, plain
from yuwen.interop.gguf.names import Name, name_of, names
from yuwen.interop.gguf.stretched import FACTORS
from yuwen.interop.weight_files import few
from yuwen.models import Model, build, config_from_published
from yuwen.models.weights import Entry, to_published

if TYPE_CHECKING:
    from yuwen.tokens import Tokenizer


def load_gguf(path: Path | GGUFFile, dtype: torch.dtype | None = torch.float32) -> tuple[Model, Tokenizer | None]:
    """The model (in evaluation mode) and the tokenizer, if it has one, of a GGUF file, or of one opened already.

    Quantised weights are unpacked to `dtype`, others mapped from the file or converted; None keeps floating-point
    types as they are and unpacks to fp32. UserError for anything malformed, for an architecture, a number format or a
    tokenizer not known here, for a shape its settings do not ask for, and for weights unset or unused.
    """
    file = _opened(path)
    architecture, published = published_config(file)
    config = config_from_published(published, str(file.path))
    with torch.device("meta"):
        model = build(config)
    entries = entries_of(model)
    table = names(architecture, model.config.heads, getattr(model.config, "kv_heads", model.config.heads))
    places = _matched(file, model, entries, table)
    tokenizer = _tokenizer(file)
    check_fit(tokenizer, model, str(file.path))
    if dtype is None:
        stored = {FLOATS.get(file.tensors[place.gguf].type.name, torch.float32) for place in places.values()}
        dtype = functools.reduce(torch.promote_types, stored)
    weights: dict[str, Tensor] = {}
    for entry in entries:  # one tensor at a time: what a family takes apart or turns is never there twice for all
        place = places[entry.theirs]
        info = file.tensors[place.gguf]
        read = read_tensor(file.bytes, info, dtype if place.keeps_dtype else torch.float32)
        weights.update(entry.from_published(place.change.from_gguf(read).to(dtype)))
        if FLOATS.get(info.type.name) != read.dtype:  # a copy: what was read is needed no more
            file.release(place.gguf)
    assign(model, weights)
    return model.eval(), tokenizer


def gguf_generation(path: Path | GGUFFile) -> dict[str, Any]:
    """What generation_config.json would say: start and end ids, and whether the model was made for chat."""
    from yuwen.interop.gguf.tokenizer import end_ids

    file = _opened(path)
    try:
        values: dict[str, Any] = {"eos_token_id": end_ids(file.settings)}
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from None
    for name, key in (("bos_token_id", "bos_token_id"), ("pad_token_id", "padding_token_id")):
        values[name] = file.settings.get(f"tokenizer.ggml.{key}")
    values = {name: value for name, value in values.items() if type(value) is int or (name == "eos_token_id" and value)}
    template = file.settings.get("tokenizer.chat_template")
    return {**values, "yuwen": {"chat": isinstance(template, str) and template != ""}}


def _opened(path: Path | GGUFFile) -> GGUFFile:
    return path if isinstance(path, GGUFFile) else GGUFFile(path)


def _tokenizer(file: GGUFFile) -> Tokenizer | None:
    from yuwen.interop.gguf.tokenizer import gguf_tokenizer

    try:
        return gguf_tokenizer(file.settings)
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from None


def _matched(file: GGUFFile, model: Model, entries: Sequence[Entry], table: dict[str, Name]) -> dict[str, Name]:
    """Published name → place in the file, once every name and every shape is as the settings ask."""
    config = model.config
    expected = to_published(entries, model.state_dict())  # on the meta device: shapes only
    places = {theirs: name_of(theirs, table) for theirs in expected}
    wanted = {place.gguf for place in places.values()}
    missing = [place.gguf for place in places.values() if place.gguf not in file.tensors]
    idle = {FACTORS, "output.weight"} if config.tied else {FACTORS}  # both have been looked at
    unused = [plain(name) for name in sorted(set(file.tensors) - wanted - idle)]
    if missing:
        also = f"; without a place: {few(unused)}" if unused else ""
        raise UserError(
            f"{file.path}: {len(missing)} weights of this {config.MODEL_TYPE} are missing: {few(missing)}{also}"
        )
    if unused:
        raise UserError(f"{file.path}: {len(unused)} weights have no place in this {config.MODEL_TYPE}: {few(unused)}")
    for theirs, tensor in expected.items():
        place = places[theirs]
        asked = tuple(place.change.to_gguf(tensor).shape)
        if file.tensors[place.gguf].shape != asked:
            shape = list(file.tensors[place.gguf].shape)
            raise UserError(f"{file.path}: {place.gguf} is {shape}, but the settings ask for {list(asked)}")
    return places
