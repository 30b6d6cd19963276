"""Gemma 3 Technical Report (Gemma Team 2025), its text models.

    h = sqrt(D) E[token];   h = h + N(attention(N(h))),   h = h + N(W2 (gelu(Wg x) * W1 x)), x = N(h)
    N(x) = x / sqrt(mean(x²) + ε) * (1 + w);   queries and keys each through an N of their own

Section 2: five local layers, which see a window, to one global; rotary theta 10,000 in the local ones and 1,000,000 in
the global ones, stretched by a factor in the larger models; QK-norm in place of Gemma 2's soft caps; grouped queries;
RMSNorm before and after each branch. From the published code: GeGLU with the tanh GELU, norms multiply by 1 + weight,
the embedding is scaled by sqrt(width) and tied to the head, scores are scaled by 1 / sqrt(query_scalar).
Differences here: `head_width` defaults to width / heads (published: 256), the feed-forward to 8/3 of the width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from typing_extensions import Self

from yuwen.errors import UserError
from yuwen.models.decoder import Decoder, initialise
from yuwen.models.llama import LlamaConfig, rotary
from yuwen.models.llama import weights as llama_weights
from yuwen.models.local_global import LocalGlobalDecoder
from yuwen.models.rope import an_object, old_spelling, one_rope, published_rope
from yuwen.models.weights import Entry, Same, per_layer
from yuwen.nn import (
    Attention,
    GatedFeedForward,
    OffsetRMSNorm,
    Rotary,
    SandwichNormBlock,
    ScaledDotProduct,
    ScaledTokenEmbedding,
    TokenHead,
)

_KINDS = {True: "full_attention", False: "sliding_attention"}


class Gemma3Config(LlamaConfig):
    """Shape of a Gemma 3. Layer n (from 1) is global if `global_every` divides n, else it sees `window` positions: with
    fewer layers than that none is global, and nothing sees further."""

    rope_theta: float = Field(default=1_000_000.0, gt=0, description="of the global layers")
    rope_local_theta: float = Field(default=10_000.0, gt=0)
    window: int = Field(default=512, gt=0, le=16_777_216)
    global_every: int = Field(default=6, gt=0, le=1025, description="1: every layer is global")
    query_scalar: int = Field(default=0, ge=0, le=65_536, description="0: head_width")

    ARCHITECTURE: ClassVar[str] = "Gemma3ForCausalLM"
    MODEL_TYPE: ClassVar[str] = "gemma3_text"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        **LlamaConfig.PUBLISHED,
        "rope_local_theta": "rope_local_base_freq",
        "window": "sliding_window",
        "global_every": "sliding_window_pattern",
        "query_scalar": "query_pre_attn_scalar",
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {
        "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
    }
    HARMLESS: ClassVar[frozenset[str]] = frozenset({"attention_dropout", "cache_implementation", "layer_types"})

    @model_validator(mode="after")
    def _as_one_writes_it(self) -> Self:
        """Equal settings are written equally: without a global layer `global_every` is layers + 1."""
        object.__setattr__(self, "query_scalar", self.query_scalar or self.head_width)
        object.__setattr__(self, "global_every", min(self.global_every, self.layers + 1))
        if self.rope_scaling is not None and len(self.local_layers) == self.layers:
            raise ValueError(f"rope_scaling is of global layers, and none of {self.layers} is one: lower global_every")
        return self

    @property
    def local_layers(self) -> list[int]:
        """Numbers, from 0, of the layers that see a window."""
        return [n for n in range(self.layers) if (n + 1) % self.global_every]

    def published(self) -> dict[str, Any]:
        values = super().published()
        local = set(self.local_layers)
        kinds = [_KINDS[n not in local] for n in range(self.layers)]
        rope = {
            "full_attention": published_rope(self.rope_theta, self.rope_scaling),
            "sliding_attention": published_rope(self.rope_local_theta, None),
        }
        return {**values, "layer_types": kinds, "rope_parameters": rope}

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        # what an old config.json leaves out means the published defaults, not ours
        defaults = {
            "num_key_value_heads": 4,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 4096,
            "sliding_window_pattern": 6,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
            "tie_word_embeddings": True,
        }
        said = {key: value for key, value in values.items() if value is not None}
        said = {**defaults, **_rope(said, where), **_pattern(said, where)}
        return super(LlamaConfig, cls).from_published(said, where)  # past LLaMA's own reading of rotary settings


def _rope(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings with those of both rotaries in our own words: new files write one object for each kind of layer."""
    rope = an_object(values, "rope_parameters", where)
    odd = sorted(str(key) for key in set(rope) - set(_KINDS.values()))
    if odd:
        raise UserError(f"{where}: rope_parameters of a {Gemma3Config.MODEL_TYPE} are by kind of layer, not {odd[0]}")
    far = {**an_object(rope, "full_attention", where), **old_spelling(values, where)}
    theta, scaling = one_rope(far, values.get("max_position_embeddings"), where)
    local_theta, squeezed = one_rope(an_object(rope, "sliding_attention", where), None, where)
    if squeezed is not None:
        raise UserError(f"{where}: scaled rotary positions in the local layers are not supported")
    found = {"rope_theta": theta, "rope_local_base_freq": local_theta, "rope_scaling": scaling}
    rest = {key: value for key, value in values.items() if key not in ("rope_parameters", "rope_scaling")}
    return {**rest, **{key: value for key, value in found.items() if value is not None}}


def _pattern(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`sliding_window_pattern` as `layer_types` spells it out; nothing where it does not."""
    kinds = values.get("layer_types")
    if kinds is None:
        return {}
    named = isinstance(kinds, list) and len(kinds) == values.get("num_hidden_layers")
    every = kinds.index(_KINDS[True]) + 1 if named and _KINDS[True] in kinds else len(kinds) + 1 if named else 0
    if not named or kinds != [_KINDS[n % every == 0] for n in range(1, len(kinds) + 1)]:
        raise UserError(
            f"{where}: layer_types={str(kinds)[:80]} is not supported (only every n-th layer {_KINDS[True]}, "
            f"the others {_KINDS[False]})"
        )
    return {"sliding_window_pattern": every}


def build(config: Gemma3Config, generator: torch.Generator | None = None) -> Decoder:
    """A Gemma 3 with fresh weights."""
    embedding = ScaledTokenEmbedding(config.vocabulary, config.width, rounded=True)
    model = LocalGlobalDecoder(
        config,
        embedding=embedding,
        blocks=[_block(config) for _ in range(config.layers)],
        norm=OffsetRMSNorm(config.width, config.norm_eps),
        head=TokenHead(config.vocabulary, config.width, tied_to=embedding if config.tied else None),
        rotary=rotary(config),
        local=config.local_layers,
        window=config.window,
        local_rotary=Rotary(config.head_width, config.rope_local_theta),
        dropout=config.dropout,
    )
    initialise(model, generator)
    return model


def _block(config: Gemma3Config) -> SandwichNormBlock:
    def norm(width: int) -> OffsetRMSNorm:
        return OffsetRMSNorm(width, config.norm_eps)

    attention = Attention(
        config.width,
        config.heads,
        kv_heads=config.kv_heads,
        head_width=config.head_width,
        bias=config.attention_bias,
        output_bias=config.attention_bias,
        query_norm=norm(config.head_width),
        key_norm=norm(config.head_width),
        score=ScaledDotProduct(dropout=config.dropout, scale=config.query_scalar**-0.5),
    )
    feedforward = GatedFeedForward(config.width, config.ffn, activation="gelu_new")
    outer = [norm(config.width) for _ in range(4)]
    return SandwichNormBlock(outer[0], attention, outer[1], outer[2], feedforward, outer[3], dropout=config.dropout)


def weights(config: Gemma3Config) -> list[Entry]:
    """Our names and the published ones: LLaMA's, but for the four norms of a block."""
    norms = {
        "attention_norm": "input_layernorm",
        "attention_out_norm": "post_attention_layernorm",
        "feedforward_norm": "pre_feedforward_layernorm",
        "feedforward_out_norm": "post_feedforward_layernorm",
    }
    layer: list[Entry] = [
        Same(f"blocks.{{n}}.{ours}.weight", f"model.layers.{{n}}.{theirs}.weight") for ours, theirs in norms.items()
    ]
    others = [e for e in llama_weights(config, qk_norm=True) if "_layernorm." not in e.theirs]
    return [*others, *per_layer(config.layers, layer)]
