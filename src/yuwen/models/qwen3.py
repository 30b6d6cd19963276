"""Qwen3 Technical Report (Yang et al. 2025).

    q = RMSNorm(Wq x),   k = RMSNorm(Wk x)      for each head, then rotated;   all else as in `llama.py`

Section 2: LLaMA's block with grouped queries, SwiGLU, rotary positions and RMSNorm as pre-normalisation, without
Qwen2's biases on queries, keys and values, and with an RMSNorm on each head's query and key before they are rotated
(QK-norm, Dehghani et al. 2023), which keeps attention's scores in bounds and lets the learning rate be high.
Differences here: `head_width` defaults to width / heads (published: 128); rotary theta defaults to 10,000, enough for
the short contexts trained here (published: 1,000,000).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from typing_extensions import Self

from yuwen.models.decoder import Decoder
from yuwen.models.llama import LlamaConfig
from yuwen.models.llama import build as build_llama
from yuwen.models.llama import weights as llama_weights
from yuwen.models.qwen2 import refuse_windows
from yuwen.models.weights import Entry


class Qwen3Config(LlamaConfig):
    """Shape of a Qwen3."""

    ARCHITECTURE: ClassVar[str] = "Qwen3ForCausalLM"
    MODEL_TYPE: ClassVar[str] = "qwen3"
    CONSTANT: ClassVar[Mapping[str, Any]] = {"hidden_act": "silu", "use_sliding_window": False}
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        {"attention_dropout", "sliding_window", "max_window_layers", "layer_types"}
    )

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        refuse_windows(values, where)
        return super().from_published({"head_dim": 128, **values}, where)


def build(config: Qwen3Config, generator: torch.Generator | None = None) -> Decoder:
    """A Qwen3 with fresh weights."""
    return build_llama(config, generator, qk_norm=True)


def weights(config: Qwen3Config) -> list[Entry]:
    """Our names and the published ones."""
    return llama_weights(config, qk_norm=True)
