"""The Hugging Face folder: config.json, model.safetensors, tokenizer.json, generation_config.json. Both ways.

Loading goes from cheap to dear, and stops at the first thing that does not fit: settings, then the headers of the
weight files against the shapes those settings ask for, then the tokenizer's size, and only then the weights, which are
mapped rather than read and put in place of a model built without memory (on PyTorch's meta device).
"""

from __future__ import annotations

import functools
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from yuwen.disk import sync
from yuwen.errors import UserError
from yuwen.interop.fitting import assign, check_fit, entries_of
from yuwen.interop.json_file import read_json, write_json
from yuwen.interop.sentence import Pooling, write_pooling
from yuwen.interop.weight_files import SINGLE, WeightFiles, few, save_weights
from yuwen.models import Classifier, EncoderDecoder, Model, build, build_classifier, config_from_published
from yuwen.models.classifier import classifier_config
from yuwen.models.config import ModelConfig
from yuwen.models.weights import current_name, to_published

if TYPE_CHECKING:
    from yuwen.tokens import Tokenizer

# What published files hold beside weights: tables that follow from the settings.
_BUFFERS = re.compile(
    r"(.*\.)?(attn\.(masked_)?bias|rotary_emb\.inv_freq|embeddings\.(position|token_type)_ids"
    r"|(encoder|decoder)\.embed_positions\.weight"  # sinusoids, where positions are not learned
    r"|EncDecAttention\.relative_attention_bias\.weight)"  # in T5's first files, and read by nobody
)
# Heads that someone trained for another use of the same body.
_HEADS = re.compile(
    r"(score|(pre_)?classifier|qa_outputs|multiple_choice_head|v_head|value_head|cls"
    r"|sequence_summary|logits_proj|start_logits|end_logits|answer_class)\..*"
)


def save_folder(
    folder: Path,
    model: Model | Classifier,
    tokenizer: Tokenizer | None = None,
    *,
    generation: Mapping[str, Any] | None = None,
    pooling: Pooling | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes a model so that transformers opens it too; `generation` adds to generation_config.json.

    With a `pooling` the folder is a sentence encoder's, which sentence-transformers opens.

    The folder is made when absent, its files are replaced; who needs them to appear at once writes to a folder of
    another name and renames it (`export_folder`). UserError if the tokenizer has ids the model lacks, OSError when
    the disk refuses.
    """
    check_fit(tokenizer, model, str(folder))
    start, end, pad, stop = None, None, None, None
    if tokenizer is not None:
        start, end, pad = tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id
        stop = [end, *sorted(tokenizer.stop_ids - {end})] if end is not None else None
    folder.mkdir(parents=True, exist_ok=True)
    # Not pad_token_id: transformers would never train the embedding of that id, which is our end token's.
    ids = {"bos_token_id": start, "eos_token_id": end, "torch_dtype": str(dtype).removeprefix("torch.")}
    write_json(folder / "config.json", {**model.config.published(), **ids})
    settings = {"bos_token_id": start, "eos_token_id": stop, "pad_token_id": pad, **(generation or {})}
    if isinstance(model, EncoderDecoder):
        start_id, *bos = model.opening
        settings = {"decoder_start_token_id": start_id, **settings}
        if "forced_bos_token_id" in model.config.MOVED:  # ours to say; another family's is handed on as it came
            settings["forced_bos_token_id"] = bos[0] if bos else None
    write_json(folder / "generation_config.json", {key: value for key, value in settings.items() if value is not None})
    save_weights(folder / SINGLE, to_published(entries_of(model), model.state_dict()), dtype)
    shutil.copymode(folder / "config.json", folder / SINGLE)  # safetensors lets only the owner read what it writes
    if tokenizer is not None:
        tokenizer.save(folder)
    if pooling is not None:
        write_pooling(folder, pooling, model.config.width)


def export_folder(
    folder: Path,
    model: Model | Classifier,
    tokenizer: Tokenizer | None = None,
    *,
    generation: Mapping[str, Any] | None = None,
    pooling: Pooling | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """`save_folder` to a new folder that appears whole or not at all. UserError if something is there already."""
    check_free(folder)
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        partial = Path(temporary) / folder.name  # inside, so that its permissions are the usual ones
        save_folder(partial, model, tokenizer, generation=generation, pooling=pooling, dtype=dtype)
        for path in [*partial.rglob("*"), partial]:
            sync(path)
        partial.rename(folder)
        sync(folder.parent)


def check_free(folder: Path) -> None:
    """Raises UserError unless nothing, or an empty folder, has that name."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} exists already: give what is written a name of its own")


def load_folder(folder: Path, dtype: torch.dtype | None = torch.float32) -> tuple[Model, Tokenizer | None]:
    """The model (in evaluation mode) and the tokenizer, if there is one, of a folder in the Hugging Face layout.

    Weights of `dtype`, and integers, are mapped from the file, others converted; None keeps all types as stored.
    UserError for anything malformed, for a shape that config.json does not ask for, and for weights unset or unused.
    """
    config = _config(folder)
    files = WeightFiles(folder)
    with torch.device("meta"):
        model = build(_as_stored(config, files, folder))
    return model, _filled(model, files, folder, dtype)


def stored_config(folder: Path) -> ModelConfig:
    """The settings of the model that `load_folder` finds there, with the heads that the weights hold."""
    config = _config(folder)
    return config.as_stored(WeightFiles(folder).shapes)


def load_classifier(
    folder: Path, dtype: torch.dtype | None = torch.float32
) -> tuple[Classifier, Tokenizer | None] | None:
    """As `load_folder`, for a folder of a published class of sequences, with its head; None for any other folder."""
    config = classifier_config(read_json(folder / "config.json"), str(folder / "config.json"))
    if config is None:
        return None
    with torch.device("meta"):
        model = build_classifier(config)
    return model, _filled(model, WeightFiles(folder), folder, dtype)


def _config(folder: Path) -> ModelConfig:
    path = folder / "config.json"
    return config_from_published(read_json(path), str(path), lambda: generation_settings(folder))


def _filled(model: Model | Classifier, files: WeightFiles, folder: Path, dtype: torch.dtype | None) -> Tokenizer | None:
    """Puts the folder's weights in a model without memory; the folder's tokenizer, read before them."""
    tokenizer = load_tokenizer(folder)
    check_fit(tokenizer, model, str(folder))
    stored = _matched(files, model, folder)
    if dtype is None:
        kinds = {files.dtype(name) for name in stored.values()}
        dtype = functools.reduce(torch.promote_types, {kind for kind in kinds if kind.is_floating_point})
    weights: dict[str, Tensor] = {}
    for entry in entries_of(model):  # one at a time: what is converted never stands in memory twice
        read = files.tensor(stored[entry.theirs])
        made = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in entry.from_published(read).items()
        }
        weights.update(made)
        if not any(
            tensor.untyped_storage().data_ptr() == read.untyped_storage().data_ptr() for tensor in made.values()
        ):
            files.release(stored[entry.theirs])
    assign(model, weights)
    model.eval()
    return tokenizer


def generation_settings(folder: Path) -> dict[str, Any]:
    """What generation_config.json says, to be handed on when a model is written again; empty without one."""
    path = folder / "generation_config.json"
    return read_json(path) if path.is_file() else {}


def load_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer, or None where it has none."""
    if (folder / "tokenizer.json").is_file():
        from yuwen.tokens import Tokenizer

        return Tokenizer.load(folder)
    others = [name for name in ("tokenizer.model", "vocab.json", "vocab.txt") if (folder / name).is_file()]
    if others:
        _note(f"{folder}: {others[0]} without tokenizer.json: the model is loaded without its tokenizer")
    return None


def _as_stored(config: ModelConfig, files: WeightFiles, folder: Path) -> ModelConfig:
    """The settings with the heads that the weights hold; what config.json says otherwise is named."""
    stored = config.as_stored(files.shapes)
    changed = [name for name, value in stored if value != getattr(config, name)]
    also, without = [n for n in changed if getattr(stored, n)], [n for n in changed if not getattr(stored, n)]
    if also:
        _note(f"{folder}: heads that architectures does not name, loaded too: {', '.join(also)}")
    if without:
        _note(f"{folder}: no weights for: {', '.join(without)}; loaded without")
    return stored


def _matched(files: WeightFiles, model: Model | Classifier, folder: Path) -> dict[str, str]:
    """Published name → name in the files, once every name and every shape is as config.json asks."""
    config, entries = model.config, entries_of(model)
    expected = to_published(entries, model.state_dict())  # on the meta device: shapes only
    copied = {name: _theirs(entries, ours) for name, ours in config.copies.items()}
    stored: dict[str, str] = {}
    for name in files.shapes:
        now = current_name(name)
        # files of a body alone may leave the first part of the names out, or have it where we write none
        forms = (now, f"{config.BODY}.{now}", now.removeprefix(f"{config.BODY}."))
        full = next((form for form in forms if form in expected), now)
        if full in stored:
            raise UserError(f"{folder}: {stored[full]} and {name} are the same weight")
        stored[full] = name
    missing = [name for name in expected if name not in stored]
    extra = [name for name in stored if name not in expected]
    buffers = [name for name in extra if _BUFFERS.fullmatch(name)]
    copies = [name for name in extra if name in copied]
    heads = [name for name in extra if _HEADS.fullmatch(name) and name not in copied]
    unused = sorted(set(extra) - {*buffers, *heads, *copies})
    if missing:
        also = f"; without a place: {few(unused)}" if unused else ""
        raise UserError(
            f"{folder}: {len(missing)} weights of this {config.MODEL_TYPE} are missing: {few(missing)}{also}"
        )
    if unused:
        raise UserError(f"{folder}: {len(unused)} weights have no place in this {config.MODEL_TYPE}: {few(unused)}")
    for name, tensor in expected.items():
        shape = files.shapes[stored[name]]
        if shape != tuple(tensor.shape):
            raise UserError(f"{folder}: {name} is {list(shape)}, but config.json asks for {list(tensor.shape)}")
        files.dtype(stored[name], tensor.dtype)
    if buffers:
        _note(f"{folder}: not weights, left out: {few(buffers)}")
    if heads:
        _note(f"{folder}: a head for another task, left out: {few(heads)}")
    for name in copies:
        pair = stored[name], stored[copied[name]]
        if not _equal(*map(files.tensor, pair)):
            raise UserError(f"{folder}: {name} is not {copied[name]}: set tie_word_embeddings to false in config.json")
        for one in pair:
            files.release(one)
    return {name: stored[name] for name in expected}


def _theirs(entries: Any, ours: str) -> str:
    """The published name of one of our weights."""
    return next(entry.theirs for entry in entries if entry.ours == ours)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
