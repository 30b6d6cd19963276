"""Qwen2 Technical Report (Yang et al. 2024), and Qwen2.5, which has its shape.

    q = Wq x + bq,   k = Wk x + bk,   v = Wv x + bv;   all else as in `llama.py`

Section 2.2: LLaMA's block with grouped queries, SwiGLU, rotary positions and RMSNorm as pre-normalisation, and with a
bias on queries, keys and values (Su 2023: it helps beyond the lengths trained on), none on attention's output.
Differences here: embeddings are tied by default; rotary theta defaults to 10,000 (published: 1,000,000), enough for the
short contexts trained here. The windows that published settings speak of are switched off in the published models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from typing_extensions import Self

from yuwen.errors import UserError
from yuwen.models.decoder import Decoder
from yuwen.models.llama import LlamaConfig
from yuwen.models.llama import build as build_llama
from yuwen.models.llama import weights as llama_weights
from yuwen.models.weights import Entry


class Qwen2Config(LlamaConfig):
    """Shape of a Qwen2."""

    attention_bias: Literal[True] = True

    ARCHITECTURE: ClassVar[str] = "Qwen2ForCausalLM"
    MODEL_TYPE: ClassVar[str] = "qwen2"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        ours: theirs for ours, theirs in LlamaConfig.PUBLISHED.items() if ours != "attention_bias"
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {"hidden_act": "silu", "use_sliding_window": False}
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        {"attention_dropout", "sliding_window", "max_window_layers", "layer_types"}
    )

    @property
    def output_bias(self) -> bool:
        return False

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        refuse_windows(values, where)
        return super().from_published(values, where)


def refuse_windows(values: Mapping[str, Any], where: str) -> None:
    """The settings of windows say nothing while windows are off; UserError if a layer has one all the same."""
    kinds = values.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise UserError(f"{where}: layer_types={str(kinds)[:80]} is not supported (only full_attention)")


def build(config: Qwen2Config, generator: torch.Generator | None = None) -> Decoder:
    """A Qwen2 with fresh weights."""
    return build_llama(config, generator)


def weights(config: Qwen2Config) -> list[Entry]:
    """Our names and the published ones."""
    return llama_weights(config)
