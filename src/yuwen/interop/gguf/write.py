"""A model and its tokenizer → a GGUF file (version 3) that llama.cpp runs.

Matrices are written in the type that is asked for; norms, biases and positions stay fp32, as llama.cpp wants them.
`Q4_0` keeps the embedding and the head in `Q8_0`, and a matrix whose rows are no multiple of 32 stays `F16`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from yuwen.disk import sync
from yuwen.errors import UserError
from yuwen.interop.fitting import check_fit, entries_of
from yuwen.interop.gguf.config import gguf_config
from yuwen.interop.gguf.names import name_of, names
from yuwen.interop.gguf.stretched import FACTORS, factors
from yuwen.interop.gguf.types import type_named
from yuwen.interop.weight_files import few
from yuwen.models import Model

if TYPE_CHECKING:
    from yuwen.tokens import Tokenizer

WRITABLE = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2}  # their numbers as `general.file_type`


def write_gguf(
    path: Path,
    model: Model,
    tokenizer: Tokenizer | None = None,
    type: str = "F16",
    *,
    chat: bool | None = None,
    name: str | None = None,
) -> None:
    """Writes a decoder to a new file, which appears whole or not at all.

    `chat` says whether the model has learned its tokenizer's chat template (default: if there is one), which is left
    out otherwise, as programs offer a chat where they find it. UserError if something is there already, and for a
    model, a tokenizer or a number that GGUF cannot hold.
    """
    if type not in WRITABLE:
        raise UserError(f"weights of type {type} cannot be written: choose one of {', '.join(WRITABLE)}")
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already: choose another name or remove it first")
    check_fit(tokenizer, model, str(path))
    architecture, settings = gguf_config(model.config.published())
    settings |= _general(name or path.stem, type)
    if tokenizer is None:
        settings["tokenizer.ggml.model"] = "none"
    else:
        from yuwen.interop.gguf.vocabulary import gguf_vocabulary

        settings |= gguf_vocabulary(tokenizer, model.config.vocabulary, chat=chat is not False)
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        _write(Path(partial), architecture, settings, model, type)
        mask = os.umask(0)
        os.umask(mask)
        Path(partial).chmod(0o666 & ~mask)  # as any new file; a temporary one is the owner's alone
        sync(Path(partial))
        Path(partial).rename(path)
        sync(path.parent)
    finally:
        Path(partial).unlink(missing_ok=True)


def _general(name: str, type: str) -> dict[str, Any]:
    settings = {"general.type": "model", "general.name": name, "general.file_type": WRITABLE[type]}
    return {**settings, "general.quantization_version": 2} if type.startswith("Q") else settings


def _write(path: Path, architecture: str, settings: Mapping[str, Any], model: Model, type: str) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    for key, value in settings.items():
        _add(writer, key, value)
    state = model.state_dict()
    kept = []
    for name, weight in _named(model, architecture, {name: weight.to("meta") for name, weight in state.items()}):
        kind = _kind(name, weight, type)
        kept += [name] if kind == "F16" != type else []
        size = type_named(kind).size(weight.numel())
        writer.add_tensor_info(name, tuple(weight.shape), np.dtype(np.float32), size, _raw(kind))
    if kept:
        print(f"rows of no multiple of 32 weights stay in F16: {few(kept)}", file=sys.stderr, flush=True)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, weight in _named(model, architecture, state):
            writer.write_tensor_data(_stored(name, weight, _kind(name, weight, type)))
    finally:
        writer.close()


def _named(model: Model, architecture: str, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """(name in the file, weight) of every tensor, one at a time."""
    config = model.config
    table = names(architecture, config.heads, getattr(config, "kv_heads", config.heads))
    rope = config.published().get("rope_parameters", {})
    if rope.get("rope_type") == "llama3":
        yield FACTORS, factors(config.head_width, rope["rope_theta"], rope)
    for entry in entries_of(model):
        place = name_of(entry.theirs, table)
        yield place.gguf, place.change.to_gguf(entry.to_published(state).detach())


def _kind(name: str, weight: Tensor, type: str) -> str:
    if weight.dim() == 1 or name == "position_embd.weight":
        return "F32"
    if type.startswith("Q") and weight.shape[-1] % 32:
        return "F16"
    return "Q8_0" if type == "Q4_0" and name in ("token_embd.weight", "output.weight") else type


def _stored(name: str, weight: Tensor, kind: str) -> np.ndarray:
    """The bytes of a weight in a type. UserError for a number that type cannot hold."""
    from gguf.quants import quantize

    if not torch.isfinite(weight).all():
        raise UserError(f"{name} holds a number that is not finite: this model cannot be used")
    if kind == "BF16":
        return weight.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
    values = weight.to(torch.float32).contiguous().numpy()
    if kind == "F32":
        return values
    # fp16 holds the weights themselves, or the scale of a block: its largest number is 65504
    if np.abs(values).max() / {"F16": 1, "Q8_0": 127, "Q4_0": 8}[kind] > 65_504:
        raise UserError(f"{name} holds numbers too large for {kind}: write --type BF16 or F32")
    return values.astype(np.float16) if kind == "F16" else quantize(values, _raw(kind))


def _raw(kind: str) -> Any:
    from gguf.constants import GGMLQuantizationType

    return GGMLQuantizationType[kind]


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value:
        writer.add_array(key, value)
