"""PaLM: Scaling Language Modeling with Pathways (Chowdhery et al. 2022).

    h = h + attention(LN(h)) + SwiGLU(LN(h))         in every layer                                      (section 2)
    p(next) = softmax(E LN(h) / sqrt(D))                                                                 (section 5)

Section 2: attention and feed-forward side by side (`ParallelBlock`), one key-value head for all queries (multi-query),
SwiGLU, rotary positions, no biases anywhere (LayerNorm has only its scale), input and output embeddings shared.
Section 5: matrices start at Normal(0, 1 / sqrt(inputs)), the embedding at Normal(0, 1), since no norm follows it; and
as the head is the same table, its scores are divided by sqrt(width). The published optimiser moves each matrix by its
own size, so this table learns sqrt(width) times as fast as the others.
Differences here: dropout can be had (published: none while pretraining), neither the auxiliary z-loss nor Adafactor.
No weights were published, and transformers has no PaLM: `config.json` and the names of the weights are our own
(`model_type` "palm").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from yuwen.models.config import AttentionConfig, divides
from yuwen.models.decoder import Decoder
from yuwen.models.weights import Entry, Same, per_layer
from yuwen.nn import (
    Attention,
    GatedFeedForward,
    LayerNorm,
    ParallelBlock,
    Rotary,
    ScaledDotProduct,
    TokenEmbedding,
    TokenHead,
)


class PalmConfig(AttentionConfig):
    """Shape of a PaLM. `ffn` is the hidden width of the feed-forward; its three matrices are the gate's, too."""

    head_width: int = Field(default=0, ge=0, le=65_536, description="0: width / heads")
    ffn: int = Field(default=0, ge=0, le=16_777_216, description="0: 4 x width")
    rope_theta: float = Field(default=10_000.0, gt=0)
    norm_eps: float = Field(default=1e-5, gt=0)
    tied: Literal[True] = True
    dropout: float = Field(default=0.0, ge=0, lt=1)

    ARCHITECTURE: ClassVar[str] = "PalmForCausalLM"
    MODEL_TYPE: ClassVar[str] = "palm"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "max_position_embeddings",
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "head_width": "head_dim",
        "ffn": "intermediate_size",
        "rope_theta": "rope_theta",
        "norm_eps": "layer_norm_eps",
        "tied": "tie_word_embeddings",
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {"hidden_act": "silu", "num_key_value_heads": 1}

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        values = dict(values)
        width, heads = (values.get(name, cls.model_fields[name].default) for name in ("width", "heads"))
        if isinstance(heads, int) and isinstance(width, int) and heads > 0:
            if not values.get("head_width"):
                divides(heads, 1, width, None)
                values["head_width"] = width // heads
            values["ffn"] = values.get("ffn") or 4 * width
        return values

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.head_width % 2:
            raise ValueError(f"head_width={self.head_width} must be even: rotary positions turn pairs")
        return self


class Palm(Decoder):
    """The decoder whose scores are divided by sqrt(width)."""

    def readout(self, h_BTD: Tensor) -> Tensor:
        return h_BTD * self.config.width**-0.5


def build(config: PalmConfig, generator: torch.Generator | None = None) -> Palm:
    """A PaLM with fresh weights."""
    embedding = TokenEmbedding(config.vocabulary, config.width)
    embedding.lr_scale = config.width**0.5  # its scores are divided by it
    model = Palm(
        config,
        embedding=embedding,
        blocks=[_block(config) for _ in range(config.layers)],
        norm=LayerNorm(config.width, config.norm_eps, bias=False),
        head=TokenHead(config.vocabulary, config.width, tied_to=embedding),
        rotary=Rotary(config.head_width, config.rope_theta),
        dropout=config.dropout,
    )
    _initialise(model, generator)
    return model


def _block(config: PalmConfig) -> ParallelBlock:
    attention = Attention(
        config.width,
        config.heads,
        kv_heads=1,
        head_width=config.head_width,
        score=ScaledDotProduct(dropout=config.dropout),
    )
    return ParallelBlock(
        LayerNorm(config.width, config.norm_eps, bias=False),
        attention,
        GatedFeedForward(config.width, config.ffn),
        dropout=config.dropout,
    )


def _initialise(model: Palm, generator: torch.Generator | None) -> None:
    """Section 5: matrices by the number of their inputs, the embedding with unit variance."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.is_meta or weight.dim() < 2:
                continue
            std = 1.0 if name == "embedding.weight" else weight.shape[1] ** -0.5
            weight.normal_(0.0, std, generator=generator)


def weights(config: PalmConfig) -> list[Entry]:
    """Our names and those we publish."""
    layer, block = "model.layers.{n}.", "blocks.{n}."
    projections = [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "o_proj")]
    entries: list[Entry] = [
        Same(block + "norm.weight", layer + "input_layernorm.weight"),
        *(Same(f"{block}attention.{ours}.weight", f"{layer}self_attn.{theirs}.weight") for ours, theirs in projections),
        *(Same(f"{block}feedforward.{n}.weight", f"{layer}mlp.{n}_proj.weight") for n in ("gate", "up", "down")),
    ]
    ends = [Same("embedding.weight", "model.embed_tokens.weight"), Same("norm.weight", "model.norm.weight")]
    return [*ends, *per_layer(config.layers, entries)]
