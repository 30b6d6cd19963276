"""Language Models are Unsupervised Multitask Learners (Radford et al. 2019): GPT-2.

    h = E[token] + P[position]
    h = h + attention(LN(h)),   h = h + W2 gelu(W1 LN(h) + b1) + b2         in every layer
    p(next) = softmax(E LN(h))

Section 2.3: the 2017 decoder with LayerNorm moved to the input of each sub-block (pre-norm), one more after the last
block, learned positions, GELU, and what writes into the residual stream scaled by 1 / sqrt(number of writes) at the
start. Embedding and head are tied. Published weights keep query, key and value in one transposed matrix.
Differences here: dropout is 0 by default (published: 0.1), and fresh positions are Normal(0, 0.02), as all else is (in
its authors' code 0.01).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from typing_extensions import Self

from yuwen.models.config import AttentionConfig, divides
from yuwen.models.decoder import Decoder, initialise
from yuwen.models.weights import Entry, Same, Stacked, Transposed, per_layer
from yuwen.nn import (
    Attention,
    FeedForward,
    LayerNorm,
    LearnedPositions,
    PreNormBlock,
    ScaledDotProduct,
    TokenEmbedding,
    TokenHead,
)


class GPT2Config(AttentionConfig):
    """Shape of a GPT-2."""

    ffn: int = Field(default=0, ge=0, le=16_777_216, description="0: 4 x width")
    norm_eps: float = Field(default=1e-5, gt=0)
    tied: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)

    ARCHITECTURE: ClassVar[str] = "GPT2LMHeadModel"
    MODEL_TYPE: ClassVar[str] = "gpt2"
    BODY: ClassVar[str] = "transformer"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "n_positions",
        "layers": "n_layer",
        "width": "n_embd",
        "heads": "n_head",
        "ffn": "n_inner",
        "norm_eps": "layer_norm_epsilon",
        "tied": "tie_word_embeddings",
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        [
            "n_ctx",
            "attn_pdrop",
            "embd_pdrop",
            "resid_pdrop",
            "reorder_and_upcast_attn",
            "summary_type",
            "summary_use_proj",
            "summary_activation",
            "summary_proj_to_labels",
            "summary_first_dropout",
            "task_specific_params",
        ]
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        values = dict(values)
        width = values.get("width", cls.model_fields["width"].default)
        if isinstance(width, int):
            values["ffn"] = values.get("ffn") or 4 * width
        return values

    @model_validator(mode="after")
    def _possible(self) -> Self:
        divides(self.heads, self.heads, self.width, None)
        return self


def build(config: GPT2Config, generator: torch.Generator | None = None) -> Decoder:
    """A GPT-2 with fresh weights."""
    embedding = TokenEmbedding(config.vocabulary, config.width)
    model = Decoder(
        config,
        embedding=embedding,
        blocks=[_block(config) for _ in range(config.layers)],
        norm=LayerNorm(config.width, config.norm_eps),
        head=TokenHead(config.vocabulary, config.width, tied_to=embedding if config.tied else None),
        positions=LearnedPositions(config.context, config.width),
        dropout=config.dropout,
    )
    initialise(model, generator)
    return model


def _block(config: GPT2Config) -> PreNormBlock:
    return PreNormBlock(
        LayerNorm(config.width, config.norm_eps),
        Attention(
            config.width,
            config.heads,
            bias=True,
            output_bias=True,
            score=ScaledDotProduct(dropout=config.dropout),
        ),
        LayerNorm(config.width, config.norm_eps),
        FeedForward(config.width, config.ffn, activation="gelu_new"),
        dropout=config.dropout,
    )


def weights(config: GPT2Config) -> list[Entry]:
    """Our names and the published ones."""
    layer, block = "transformer.h.{n}.", "blocks.{n}."
    entries: list[Entry] = []
    for kind in ("weight", "bias"):
        linear = Transposed if kind == "weight" else Same
        stacked = tuple(f"{block}attention.{name}.{kind}" for name in ("query", "key", "value"))
        entries += [
            Same(f"{block}attention_norm.{kind}", f"{layer}ln_1.{kind}"),
            Same(f"{block}feedforward_norm.{kind}", f"{layer}ln_2.{kind}"),
            Stacked(stacked, f"{layer}attn.c_attn.{kind}", transposed=kind == "weight"),
            linear(f"{block}attention.output.{kind}", f"{layer}attn.c_proj.{kind}"),
            linear(f"{block}feedforward.up.{kind}", f"{layer}mlp.c_fc.{kind}"),
            linear(f"{block}feedforward.down.{kind}", f"{layer}mlp.c_proj.{kind}"),
        ]
    ends: list[Entry] = [
        Same("embedding.weight", "transformer.wte.weight"),
        Same("positions.weight", "transformer.wpe.weight"),
        Same("norm.weight", "transformer.ln_f.weight"),
        Same("norm.bias", "transformer.ln_f.bias"),
    ]
    if not config.tied:
        ends.append(Same("head.weight", "lm_head.weight"))
    return [*ends, *per_layer(config.layers, entries)]
