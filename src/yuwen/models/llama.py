"""LLaMA: Open and Efficient Foundation Language Models (Touvron et al. 2023), and SmolLM2, which has its shape.

    h = h + attention(RMSNorm(h)),   h = h + W2 (silu(Wg x) * W1 x), x = RMSNorm(h)         in every layer
    p(next) = softmax(E RMSNorm(h))

Section 2.2: pre-normalisation with RMSNorm, SwiGLU in place of ReLU, rotary positions in place of absolute ones; no
biases. Grouped queries (`kv_heads` < `heads`) as in LLaMA 2 70B and LLaMA 3, stretched rotary positions as in LLaMA 3.1
(`rope_scaling`). Differences here: the hidden width of the feed-forward is rounded up to a multiple of 64 (published:
256); embeddings are tied by default (published: not), which small models want.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from typing_extensions import Self

from yuwen.models.config import AttentionConfig, divides, gated_hidden
from yuwen.models.decoder import Decoder, initialise
from yuwen.models.rope import RopeScaling, published_rope, read_rope
from yuwen.models.weights import Entry, Same, per_layer
from yuwen.nn import (
    Attention,
    GatedFeedForward,
    PreNormBlock,
    RMSNorm,
    Rotary,
    ScaledDotProduct,
    TokenEmbedding,
    TokenHead,
)


class LlamaConfig(AttentionConfig):
    """Shape of a LLaMA. `ffn` is the hidden width of the feed-forward; `tied` shares embedding and head."""

    kv_heads: int = Field(default=0, ge=0, description="0: as many as heads")
    head_width: int = Field(default=0, ge=0, le=65_536, description="0: width / heads")
    ffn: int = Field(default=0, ge=0, le=16_777_216, description="0: 8/3 of the width, rounded up to 64")
    rope_theta: float = Field(default=10_000.0, gt=0)
    rope_scaling: RopeScaling | None = None
    norm_eps: float = Field(default=1e-6, gt=0)
    tied: bool = True
    attention_bias: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)

    ARCHITECTURE: ClassVar[str] = "LlamaForCausalLM"
    MODEL_TYPE: ClassVar[str] = "llama"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "max_position_embeddings",
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "head_width": "head_dim",
        "ffn": "intermediate_size",
        "rope_theta": "rope_theta",
        "rope_scaling": "rope_scaling",
        "norm_eps": "rms_norm_eps",
        "tied": "tie_word_embeddings",
        "attention_bias": "attention_bias",
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {"hidden_act": "silu"}
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        {"attention_dropout", "pretraining_tp", "rope_interleaved", "is_llama_config"}
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        values = dict(values)
        width, heads = (
            values.get("width", cls.model_fields["width"].default),
            values.get("heads", cls.model_fields["heads"].default),
        )
        if isinstance(heads, int) and isinstance(width, int) and heads > 0:
            values["kv_heads"] = values.get("kv_heads") or heads
            values["head_width"] = values.get("head_width") or cls._head_width(width, heads)
            values["ffn"] = values.get("ffn") or gated_hidden(width)
        return values

    @classmethod
    def _head_width(cls, width: int, heads: int) -> int:
        divides(heads, heads, width, None)
        return width // heads

    @model_validator(mode="after")
    def _possible(self) -> Self:
        divides(self.heads, self.kv_heads, self.width, self.head_width)
        if self.head_width % 2:
            raise ValueError(f"head_width={self.head_width} must be even: rotary positions turn pairs")
        if self.rope_scaling is not None and self.rope_scaling.kind == "yarn" and self.rope_theta <= 1:
            raise ValueError(f"rope_theta={self.rope_theta} must be above 1 for yarn scaling")
        return self

    @property
    def output_bias(self) -> bool:
        """Whether attention's output has a bias as queries, keys and values have."""
        return self.attention_bias

    def published(self) -> dict[str, Any]:
        values = super().published()
        del values["rope_scaling"]  # the old name of rope_parameters
        return {**values, "rope_parameters": published_rope(self.rope_theta, self.rope_scaling)}

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        # what an old config.json leaves out means the published defaults, not ours
        values = {"tie_word_embeddings": False, **read_rope(values, where)}
        return super().from_published(values, where)


def build(config: LlamaConfig, generator: torch.Generator | None = None, *, qk_norm: bool = False) -> Decoder:
    """A LLaMA with fresh weights; with `qk_norm` it is a Qwen3."""
    embedding = TokenEmbedding(config.vocabulary, config.width)
    model = Decoder(
        config,
        embedding=embedding,
        blocks=[block(config, qk_norm=qk_norm) for _ in range(config.layers)],
        norm=RMSNorm(config.width, config.norm_eps),
        head=TokenHead(config.vocabulary, config.width, tied_to=embedding if config.tied else None),
        rotary=rotary(config),
        dropout=config.dropout,
    )
    initialise(model, generator)
    return model


def rotary(config: LlamaConfig) -> Rotary:
    """The rotary positions that the settings ask for."""
    scaling = None if config.rope_scaling is None else config.rope_scaling.build()
    return Rotary(config.head_width, config.rope_theta, scaling)


def block(config: LlamaConfig, *, qk_norm: bool = False) -> PreNormBlock:
    """One layer; with `qk_norm` it is Qwen3's."""
    attention = Attention(
        config.width,
        config.heads,
        kv_heads=config.kv_heads,
        head_width=config.head_width,
        bias=config.attention_bias,
        output_bias=config.output_bias,
        query_norm=RMSNorm(config.head_width, config.norm_eps) if qk_norm else None,
        key_norm=RMSNorm(config.head_width, config.norm_eps) if qk_norm else None,
        score=ScaledDotProduct(dropout=config.dropout),
    )
    return PreNormBlock(
        RMSNorm(config.width, config.norm_eps),
        attention,
        RMSNorm(config.width, config.norm_eps),
        GatedFeedForward(config.width, config.ffn),
        dropout=config.dropout,
    )


def weights(config: LlamaConfig, *, qk_norm: bool = False) -> list[Entry]:
    """Our names and the published ones."""
    layer, attention, feedforward = "model.layers.{n}.", "blocks.{n}.attention.", "blocks.{n}.feedforward."
    projections = [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "o_proj")]
    entries: list[Entry] = [
        Same("blocks.{n}.attention_norm.weight", layer + "input_layernorm.weight"),
        Same("blocks.{n}.feedforward_norm.weight", layer + "post_attention_layernorm.weight"),
        *(Same(f"{feedforward}{name}.weight", f"{layer}mlp.{name}_proj.weight") for name in ("gate", "up", "down")),
    ]
    entries += [Same(f"{attention}{ours}.weight", f"{layer}self_attn.{theirs}.weight") for ours, theirs in projections]
    if config.attention_bias:
        biased = projections if config.output_bias else projections[:-1]
        entries += [Same(f"{attention}{ours}.bias", f"{layer}self_attn.{theirs}.bias") for ours, theirs in biased]
    if qk_norm:
        entries += [
            Same(attention + "query_norm.weight", layer + "self_attn.q_norm.weight"),
            Same(attention + "key_norm.weight", layer + "self_attn.k_norm.weight"),
        ]
    head = [] if config.tied else [Same("head.weight", "lm_head.weight")]
    ends = [Same("embedding.weight", "model.embed_tokens.weight"), Same("norm.weight", "model.norm.weight"), *head]
    return [*ends, *per_layer(config.layers, entries)]
