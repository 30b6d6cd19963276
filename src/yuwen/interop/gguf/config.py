"""A file's settings ↔ the published config.json of the family, so that each family reads its own settings itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from yuwen.errors import UserError
from yuwen.interop.gguf.header import GGUFFile, plain
from yuwen.interop.gguf.stretched import FACTORS, formula
from yuwen.interop.weight_files import few

# llama.cpp's names of architectures → model_type and architectures of config.json.
ARCHITECTURES = {
    "gpt2": ("gpt2", "GPT2LMHeadModel"),
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
}
# What the file repeats of its tensors, or says of how it was made.
_IDLE = ("vocab_size", "rope.dimension_count", "tensor_data_layout", "block_count", "attention.value_length")
_KINDS = {True: "sliding_attention", False: "full_attention"}
_LOCAL_BASE, _GLOBAL_EVERY = 10_000.0, 6  # Gemma 3's, which llama.cpp has in its code rather than in the file


class Asked:
    """The settings of one architecture, which remember what was asked for: what nobody asks for cannot be honoured."""

    def __init__(self, file: GGUFFile, architecture: str) -> None:
        self.path, self.prefix = file.path, architecture + "."
        self.values = {
            name.removeprefix(self.prefix): value
            for name, value in file.settings.items()
            if name.startswith(self.prefix)
        }
        self.asked: set[str] = set(_IDLE)

    def number(self, name: str, kind: type, default: Any = None) -> Any:
        """A number, or one number for every layer; None stands for a setting that must be there."""
        self.asked.add(name)
        value = self.values.get(name, default)
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        if value is None:
            raise UserError(f"{self.path}: no {self.prefix}{name}: not the complete file of a model")
        if kind is float and type(value) in (int, float):
            value = _decimal(value)
        if type(value) is not kind:
            each = ", a value for each layer," if isinstance(value, np.ndarray) else ""
            raise UserError(f"{self.path}: {self.prefix}{name}{each} is not one {kind.__name__}")
        return value

    def text(self, name: str, default: str) -> str:
        self.asked.add(name)
        value = self.values.get(name, default)
        return value if isinstance(value, str) else repr(value)[:40]

    def __contains__(self, name: str) -> bool:
        self.asked.add(name)
        return name in self.values

    def finish(self) -> None:
        """UserError names the settings that nothing here understands."""
        idle = {name for name, value in self.values.items() if isinstance(value, (int, float)) and value == 0}
        unknown = [plain(self.prefix + name) for name in sorted(set(self.values) - self.asked - idle)]
        if unknown:
            raise UserError(f"{self.path}: settings this version does not know: {few(unknown)}")


def published_config(file: GGUFFile) -> tuple[str, dict[str, Any]]:
    """(llama.cpp's name of the architecture, what config.json would say). UserError for what is not supported."""
    architecture = file.settings.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"{file.path}: architecture {str(architecture)[:40]!r} is not one known here ({known})")
    parts = file.settings.get("split.count", 0)
    if not isinstance(parts, int) or parts > 1:
        raise UserError(f"{file.path}: one part of a split model: join the parts with llama-gguf-split --merge")
    asked = Asked(file, architecture)
    vocabulary, width = (*file.shape_of("token_embd.weight"), 0)[:2]
    if asked.number("embedding_length", int) != width:
        raise UserError(f"{file.path}: {architecture}.embedding_length is not the width {width} of token_embd.weight")
    layers = asked.number("block_count", int)
    there = {name.split(".")[1] for name in file.tensors if name.startswith("blk.")}
    if there != {str(n) for n in range(min(layers, len(there) + 1))}:
        raise UserError(f"{file.path}: {architecture}.block_count is {layers}, but there are {len(there)} layers")
    model_type, published = ARCHITECTURES[architecture]
    config = {
        "model_type": model_type,
        "architectures": [published],
        "vocab_size": vocabulary,
        "tie_word_embeddings": _tied(file),
    }
    heads = asked.number("attention.head_count", int)
    if architecture == "gpt2":
        config |= {
            "n_positions": asked.number("context_length", int),
            "n_layer": layers,
            "n_embd": width,
            "n_head": heads,
            "n_inner": asked.number("feed_forward_length", int),
            "layer_norm_epsilon": asked.number("attention.layer_norm_epsilon", float),
        }
        asked.finish()
        return architecture, config
    head_width = asked.number("attention.key_length", int, width // max(heads, 1))
    for name in ("attention.value_length", "rope.dimension_count"):
        if asked.number(name, int, head_width) != head_width:
            raise UserError(f"{file.path}: {architecture}.{name} is not the width {head_width} of a head")
    config |= {
        "max_position_embeddings": asked.number("context_length", int),
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": asked.number("attention.head_count_kv", int, heads),
        "head_dim": head_width,
        "intermediate_size": asked.number("feed_forward_length", int),
        "rms_norm_eps": asked.number("attention.layer_norm_rms_epsilon", float),
        "rope_theta": asked.number("rope.freq_base", float, 10_000.0),
    }
    if scaling := _scaling(file, asked, config):
        config["rope_scaling"] = scaling
    _OWN[architecture](file, asked, config)
    asked.finish()
    return architecture, config


def _llama(file: GGUFFile, asked: Asked, config: dict[str, Any]) -> None:
    if "blk.0.attn_q.bias" in file.tensors:
        config["attention_bias"] = True


def _qwen2(file: GGUFFile, asked: Asked, config: dict[str, Any]) -> None:
    if config["head_dim"] * config["num_attention_heads"] != config["hidden_size"]:
        raise UserError(f"{file.path}: qwen2.attention.key_length is not the width divided by the heads")
    del config["head_dim"]  # its config.json has no such key: it is always the width divided by the heads


def _qwen3(file: GGUFFile, asked: Asked, config: dict[str, Any]) -> None:
    pass


def _gemma3(file: GGUFFile, asked: Asked, config: dict[str, Any]) -> None:
    layers = config["num_hidden_layers"]
    config |= {
        "sliding_window": asked.number("attention.sliding_window", int),
        "layer_types": [_KINDS[slides] for slides in _sliding(asked, layers)],
        "rope_local_base_freq": asked.number("rope.freq_base_swa", float, _LOCAL_BASE),
        "query_pre_attn_scalar": gemma3_scale(layers, config["hidden_size"], config),
        "hidden_activation": "gelu_pytorch_tanh",
    }
    if "final_logit_softcapping" in asked:
        config["final_logit_softcapping"] = asked.number("final_logit_softcapping", float)


def _sliding(asked: Asked, layers: int) -> list[bool]:
    """Which layers slide: said of each, or by the number of the first that does not."""
    name = "attention.sliding_window_pattern"
    said = asked.values.get(name)
    if isinstance(said, np.ndarray) and said.dtype == bool and len(said) == layers:
        asked.asked.add(name)
        return said.tolist()
    every = asked.number(name, int, _GLOBAL_EVERY)
    if every < 1:
        raise UserError(f"{asked.path}: {asked.prefix}{name} is {every}, not a number of layers")
    return [bool((n + 1) % every) for n in range(layers)]


_OWN: dict[str, Callable[[GGUFFile, Asked, dict[str, Any]], None]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma3": _gemma3,
}


def gemma3_scale(layers: int, width: int, config: Mapping[str, Any]) -> int:
    """What scores are divided by the root of, as llama.cpp's code has it: a head's width, but in the 27B model."""
    return width // config["num_attention_heads"] if layers == 62 else config["head_dim"]


def _scaling(file: GGUFFile, asked: Asked, config: Mapping[str, Any]) -> dict[str, Any] | None:
    kind, first = asked.text("rope.scaling.type", "none"), None
    if "rope.scaling.original_context_length" in asked:
        first = asked.number("rope.scaling.original_context_length", int)
    if FACTORS in file.tensors:
        if kind != "none":
            raise UserError(f"{file.path}: rotary positions stretched twice, by {kind} and by {FACTORS}")
        return formula(file, config["head_dim"], config["rope_theta"], first)
    if kind == "none":
        return None
    scaling = {"rope_type": kind, "factor": asked.number("rope.scaling.factor", float)}
    if first is not None and kind != "linear":  # where positions are only divided it says nothing about the numbers
        scaling["original_max_position_embeddings"] = first
    return scaling


def _decimal(value: float) -> float:
    """A number kept in fp32, as one wrote it down: 1e-05, not 9.999999747378752e-06."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return float(str(single)) if single == value else float(value)


def _tied(file: GGUFFile) -> bool:
    """Whether the head is the embedding: left out, or written a second time as it is."""
    return "output.weight" not in file.tensors or file.same_bytes("output.weight", "token_embd.weight")


def gguf_config(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(llama.cpp's name of the architecture, its settings) from what config.json says.

    UserError for a model that llama.cpp has no architecture for, or whose settings it has no key for.
    """
    known = {model_type: name for name, (model_type, _) in ARCHITECTURES.items()}
    if config["model_type"] not in known:
        usable = ", ".join(ARCHITECTURES)
        raise UserError(f"{config['model_type']} cannot be written as GGUF: only {usable} can (--to hf writes any)")
    architecture = known[config["model_type"]]
    if architecture == "gpt2":
        return architecture, _prefixed(
            architecture,
            {
                "context_length": config["n_positions"],
                "embedding_length": config["n_embd"],
                "feed_forward_length": config["n_inner"],
                "block_count": config["n_layer"],
                "attention.head_count": config["n_head"],
                "attention.layer_norm_epsilon": config["layer_norm_epsilon"],
                "vocab_size": config["vocab_size"],
            },
        )
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head_width = config.get("head_dim") or width // heads
    rope = {**(config.get("rope_parameters") or {}), **(config.get("rope_scaling") or {})}
    sliding = rope.pop("sliding_attention", {}) or {}
    rope = rope.get("full_attention") or rope  # Gemma's two kinds of layers have each their own
    values = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": width,
        "feed_forward_length": config["intermediate_size"],
        "block_count": config["num_hidden_layers"],
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "attention.key_length": head_width,
        "attention.value_length": head_width,
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.dimension_count": head_width,
        "rope.freq_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        "vocab_size": config["vocab_size"],
    }
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "linear":
        values |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    elif kind == "llama3" and architecture == "llama":  # the formula itself goes into a tensor
        values["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
        if (rope.get("low_freq_factor"), rope.get("high_freq_factor")) != (1.0, 4.0):
            raise UserError(
                "rotary positions stretched by other bounds than LLaMA 3's 1 and 4 cannot be written as GGUF"
            )
    elif kind != "default":
        raise UserError(f"scaled rotary positions of type {kind} cannot be written as GGUF here: use --to hf")
    if architecture == "gemma3":
        values |= _gemma3_settings(config, sliding)
    return architecture, _prefixed(architecture, values)


def _gemma3_settings(config: Mapping[str, Any], sliding: Mapping[str, Any]) -> dict[str, Any]:
    layers = config["num_hidden_layers"]
    kinds = config.get("layer_types")
    if kinds is None:
        every = config.get("sliding_window_pattern") or _GLOBAL_EVERY
        kinds = [_KINDS[bool((n + 1) % every)] for n in range(layers)]
    theirs = [_KINDS[bool((n + 1) % _GLOBAL_EVERY)] for n in range(layers)]
    if list(kinds) != theirs:
        raise UserError(f"llama.cpp makes each {_GLOBAL_EVERY}th layer of a gemma3 global, not so here: use --to hf")
    scale = gemma3_scale(layers, config["hidden_size"], config)
    if config.get("query_pre_attn_scalar", scale) != scale:
        raise UserError(f"llama.cpp divides a gemma3's scores by the root of {scale}: this one differs; use --to hf")
    base = float(sliding.get("rope_theta") or config.get("rope_local_base_freq") or _LOCAL_BASE)
    if base != _LOCAL_BASE:
        raise UserError(f"llama.cpp turns a gemma3's sliding layers by base {_LOCAL_BASE:g}: this one differs; --to hf")
    if config.get("final_logit_softcapping") or config.get("attn_logit_softcapping"):
        raise UserError("llama.cpp does not bound the scores of a gemma3, this one does: use --to hf")
    return {"attention.sliding_window": config["sliding_window"]}


def _prefixed(architecture: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{architecture}.{name}": value for name, value in values.items()}
