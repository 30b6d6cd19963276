"""Published weight names ↔ GGUF names, and what the conversion does to the numbers.

llama.cpp turns neighbouring pairs (x0, x1) where Hugging Face's LLaMA turns (x0, x_half): so the rows of LLaMA's query
and key are stored in another order. Gemma's norms multiply by 1 + w; the file holds 1 + w. GPT-2's matrices are stored
as PyTorch's linear layers have them, published transposed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from yuwen.errors import UserError


class Unchanged:
    """A weight that both store alike."""

    def to_gguf(self, weight: Tensor) -> Tensor:
        return weight

    def from_gguf(self, weight: Tensor) -> Tensor:
        return weight


class Transposed(Unchanged):
    """Input and output swapped."""

    def to_gguf(self, weight: Tensor) -> Tensor:
        return weight.T

    from_gguf = to_gguf


class PlusOne(Unchanged):
    """A norm that multiplies by 1 + w. Subtracting the one in fp32 loses nothing that a 16-bit w had."""

    def to_gguf(self, weight: Tensor) -> Tensor:
        return weight.float() + 1

    def from_gguf(self, weight: Tensor) -> Tensor:
        return weight - 1


@dataclass(frozen=True)
class Paired(Unchanged):
    """Rows of each of `heads` heads: halves one behind the other here, interleaved in the file."""

    heads: int

    def to_gguf(self, weight: Tensor) -> Tensor:
        return weight.unflatten(0, (self.heads, 2, -1)).transpose(1, 2).reshape(weight.shape)

    def from_gguf(self, weight: Tensor) -> Tensor:
        return weight.unflatten(0, (self.heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


@dataclass(frozen=True)
class Name:
    """The name of a weight in the file, and its change. `{n}` stands for the layer."""

    gguf: str
    change: Unchanged = Unchanged()

    @property
    def keeps_dtype(self) -> bool:
        """Whether the change loses nothing in 16 bits: a sum would."""
        return not isinstance(self.change, PlusOne)


_ENDS = {
    "model.embed_tokens.weight": Name("token_embd.weight"),
    "model.norm.weight": Name("output_norm.weight"),
    "lm_head.weight": Name("output.weight"),
}
_FEEDFORWARD = {
    f"model.layers.{{n}}.mlp.{part}_proj.weight": Name(f"blk.{{n}}.ffn_{part}.weight")
    for part in ("gate", "up", "down")
}
_ATTENTION = {
    f"model.layers.{{n}}.self_attn.{part}_proj.{kind}": Name(f"blk.{{n}}.attn_{name}.{kind}")
    for part, name in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "output"))
    for kind in ("weight", "bias")
}
_HEAD_NORMS = {
    f"model.layers.{{n}}.self_attn.{part}_norm.weight": Name(f"blk.{{n}}.attn_{part}_norm.weight")
    for part in ("q", "k")
}
_NORMS = {
    "model.layers.{n}.input_layernorm.weight": Name("blk.{n}.attn_norm.weight"),
    "model.layers.{n}.post_attention_layernorm.weight": Name("blk.{n}.ffn_norm.weight"),
}
_FOUR_NORMS = {
    "model.layers.{n}.input_layernorm.weight": Name("blk.{n}.attn_norm.weight"),
    "model.layers.{n}.post_attention_layernorm.weight": Name("blk.{n}.post_attention_norm.weight"),
    "model.layers.{n}.pre_feedforward_layernorm.weight": Name("blk.{n}.ffn_norm.weight"),
    "model.layers.{n}.post_feedforward_layernorm.weight": Name("blk.{n}.post_ffw_norm.weight"),
}
_QWEN = {**_ENDS, **_NORMS, **_ATTENTION, **_HEAD_NORMS, **_FEEDFORWARD}


def names(architecture: str, heads: int, kv_heads: int) -> dict[str, Name]:
    """Every published name of an architecture (`{n}` for the layer's number) → its name in the file."""
    if architecture == "gpt2":
        return _gpt2()
    if architecture == "gemma3":
        ours = {**_ENDS, **_FOUR_NORMS, **_ATTENTION, **_HEAD_NORMS, **_FEEDFORWARD}
        return {
            theirs: Name(name.gguf, PlusOne() if "norm" in theirs else name.change) for theirs, name in ours.items()
        }
    if architecture == "llama":
        pairs = {"q": Paired(heads), "k": Paired(kv_heads)}
        turned = {
            f"model.layers.{{n}}.self_attn.{part}_proj.{kind}": Name(f"blk.{{n}}.attn_{part}.{kind}", change)
            for part, change in pairs.items()
            for kind in ("weight", "bias")
        }
        return {**_ENDS, **_NORMS, **_ATTENTION, **_FEEDFORWARD, **turned}
    return _QWEN


def _gpt2() -> dict[str, Name]:
    parts = {
        "ln_1": ("attn_norm", False),
        "attn.c_attn": ("attn_qkv", True),
        "attn.c_proj": ("attn_output", True),
        "ln_2": ("ffn_norm", False),
        "mlp.c_fc": ("ffn_up", True),
        "mlp.c_proj": ("ffn_down", True),
    }
    layers = {
        f"transformer.h.{{n}}.{theirs}.{kind}": Name(
            f"blk.{{n}}.{name}.{kind}", Transposed() if matrix and kind == "weight" else Unchanged()
        )
        for theirs, (name, matrix) in parts.items()
        for kind in ("weight", "bias")
    }
    return {
        "transformer.wte.weight": Name("token_embd.weight"),
        "transformer.wpe.weight": Name("position_embd.weight"),
        "transformer.ln_f.weight": Name("output_norm.weight"),
        "transformer.ln_f.bias": Name("output_norm.bias"),
        "lm_head.weight": Name("output.weight"),
        **layers,
    }


def name_of(published: str, table: Mapping[str, Name]) -> Name:
    """Where the file has a published weight. UserError if llama.cpp knows no such weight."""
    number = re.search(r"\.(\d+)\.", published)
    pattern = published if number is None else published.replace(number[0], ".{n}.", 1)
    if pattern not in table:
        raise UserError(f"GGUF has no place for the weight {published}: this model cannot be written so")
    name = table[pattern]
    return name if number is None else Name(name.gguf.format(n=number[1]), name.change)
