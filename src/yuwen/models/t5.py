"""Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer (Raffel et al. 2020): T5.

Section 2.1: the Transformer of 2017 with the norm at the entrance of each branch and one behind the last layer, RMSNorm
in its place (no mean, no bias), no biases anywhere, and positions told by a bias on the scores for each distance, one
table for all layers of a side. Scores are not scaled: fresh queries are drawn smaller instead. Every task is text to
text, from span corruption (section 3.1.4) on.

    h = h + attention(N(h)) (+ attention(N(h) to memory)),   h = h + ffn(N(h)),   N(x) = x / sqrt(mean(x²) + ε) * w
    score(t, s) = q_t · k_s + b[bucket(s - t), head]

    v1.0   W2 relu(W1 x)                   one table for embeddings and head, h times width^-0.5 before the head
    v1.1   W2 (gelu(Wg x) * W1 x)          a head of its own, h as it is          (Shazeer 2020, GEGLU)

`activation` and `tied` choose; the published checkpoints pair them as above. Differences here: dropout is 0 by default
(published: 0.1) and falls on embeddings, attention weights and branches, not inside the feed-forward nor behind the
last norm; a fresh head of its own is Normal(0, width^-0.5), so that training starts near the loss of not knowing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.models.config import divides, gated_hidden
from yuwen.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Stack
from yuwen.models.weights import Entry, Same, per_layer
from yuwen.nn import (
    Attention,
    BiasedDotProduct,
    CrossAttention,
    FeedForward,
    GatedFeedForward,
    PreNormBlock,
    PreNormCrossBlock,
    RelativeBias,
    RMSNorm,
    ScaledDotProduct,
    TokenEmbedding,
    TokenHead,
)


class T5Config(EncoderDecoderConfig):
    """Shape of a T5. `buckets` of distances reach to `furthest`; `context` bounds what is read, not what could be."""

    ffn: int = Field(default=0, ge=0, le=16_777_216, description="0: 4 x width; gated: 8/3 of it, rounded up to 64")
    head_width: int = Field(default=0, ge=0, le=1_048_576, description="0: width / heads")
    activation: Literal["relu", "gated-gelu"] = "relu"
    buckets: int = Field(default=32, ge=4, le=65_536)
    furthest: int = Field(default=128, gt=0, le=16_777_216)
    norm_eps: float = Field(default=1e-6, gt=0)

    ARCHITECTURE: ClassVar[str] = "T5ForConditionalGeneration"
    MODEL_TYPE: ClassVar[str] = "t5"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "n_positions",
        "layers": "num_decoder_layers",
        "encoder_layers": "num_layers",
        "width": "d_model",
        "heads": "num_heads",
        "head_width": "d_kv",
        "ffn": "d_ff",
        "activation": "feed_forward_proj",
        "buckets": "relative_attention_num_buckets",
        "furthest": "relative_attention_max_distance",
        "norm_eps": "layer_norm_epsilon",
        "start": "decoder_start_token_id",
        "tied": "tie_word_embeddings",
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {"is_decoder": False}
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        [
            "classifier_dropout",
            "dense_act_fn",
            "dropout_rate",
            "gradient_checkpointing",
            "initializer_factor",
            "is_gated_act",
            "output_past",
            "task_specific_params",
        ]
    )

    @classmethod
    def architectures(cls) -> tuple[str, ...]:
        return (cls.ARCHITECTURE, "T5WithLMHeadModel")

    @property
    def copies(self) -> Mapping[str, str]:
        sides = [f"{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
        return dict.fromkeys([*sides, *(["lm_head.weight"] if self.tied else [])], "embedding.weight")

    @model_validator(mode="before")
    @classmethod
    def _fill_heads(cls, values: Any) -> Any:
        values = dict(values)
        width, heads = (values.get(key, cls.model_fields[key].default) for key in ("width", "heads"))
        if isinstance(width, int) and isinstance(heads, int) and heads > 0:
            if not values.get("head_width"):
                divides(heads, heads, width, None)
                values["head_width"] = width // heads
            if values.get("activation") == "gated-gelu":
                values["ffn"] = values.get("ffn") or gated_hidden(width)
        return values

    @model_validator(mode="after")
    def _reach(self) -> Self:
        if self.furthest <= self.buckets // 2:
            raise ValueError(f"furthest={self.furthest} must be beyond the {self.buckets // 2} distances told apart")
        return self

    def published(self) -> dict[str, Any]:
        # a target begins with padding there; another start is no more than the name of that id
        return {**super().published(), "pad_token_id": self.start}

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        # what a config.json leaves out means the published default, not ours
        defaults = {"n_positions": 512, "d_kv": 64, "d_ff": 2048, "num_decoder_layers": values.get("num_layers")}
        values = {**defaults, **{key: value for key, value in values.items() if value is not None}}
        if "scale_decoder_outputs" in values:  # newer files say so what older ones meant by their tie_word_embeddings
            values["tie_word_embeddings"] = values.pop("scale_decoder_outputs")
        return super().from_published(values, where)


class TiedT5(EncoderDecoder):
    """v1.0: what the shared table reads is made smaller, because its rows are as large as embeddings are."""

    def readout(self, h_BTD: Tensor) -> Tensor:
        return h_BTD * self.config.width**-0.5


def build(config: T5Config, generator: torch.Generator | None = None) -> EncoderDecoder:
    """A T5 with fresh weights."""
    embedding = TokenEmbedding(config.vocabulary, config.width)
    embedding.lr_scale = config.width**0.5  # it begins so much larger than a map: Adafactor moves each by its size
    model = (TiedT5 if config.tied else EncoderDecoder)(
        config,
        embedding=embedding,
        encoder=_stack(config, [_block(config) for _ in range(config.encoder_layers)], both_sides=True),
        decoder=_stack(config, [_cross_block(config) for _ in range(config.layers)], both_sides=False),
        head=TokenHead(config.vocabulary, config.width, tied_to=embedding if config.tied else None),
    )
    _initialise(model, config, generator)
    return model


def _stack(config: T5Config, blocks: list[nn.Module], *, both_sides: bool) -> Stack:
    bias = RelativeBias(config.heads, buckets=config.buckets, furthest=config.furthest, both_sides=both_sides)
    return Stack(blocks, bias=bias, norm=RMSNorm(config.width, config.norm_eps), dropout=config.dropout)


def _block(config: T5Config) -> PreNormBlock:
    norms = [RMSNorm(config.width, config.norm_eps) for _ in range(2)]
    return PreNormBlock(norms[0], _attention(config), norms[1], _feedforward(config), dropout=config.dropout)


def _cross_block(config: T5Config) -> PreNormCrossBlock:
    norms = [RMSNorm(config.width, config.norm_eps) for _ in range(3)]
    unbiased = ScaledDotProduct(dropout=config.dropout, scale=1.0)  # a memory has no distance from here
    cross = CrossAttention(config.width, config.heads, head_width=config.head_width, score=unbiased)
    cross.query.lr_scale = config.head_width**-0.5
    return PreNormCrossBlock(
        norms[0], _attention(config), norms[1], cross, norms[2], _feedforward(config), dropout=config.dropout
    )


def _attention(config: T5Config) -> Attention:
    biased = BiasedDotProduct(dropout=config.dropout)
    attention = Attention(config.width, config.heads, head_width=config.head_width, score=biased)
    attention.query.lr_scale = config.head_width**-0.5  # it holds the scale that the score leaves out
    return attention


def _feedforward(config: T5Config) -> nn.Module:
    if config.activation == "gated-gelu":
        return GatedFeedForward(config.width, config.ffn, activation="gelu_new")
    return FeedForward(config.width, config.ffn, activation="relu", bias=False)


def _initialise(model: EncoderDecoder, config: T5Config, generator: torch.Generator | None) -> None:
    """Each matrix so that unit inputs stay units (fan-in), queries smaller by sqrt(K), as in the published code."""
    inner = config.heads * config.head_width
    stds = {
        "embedding.weight": 1.0,
        "query.weight": (config.width * config.head_width) ** -0.5,
        "output.weight": inner**-0.5,
        "down.weight": config.ffn**-0.5,
    }
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and not weight.is_meta:
                std = next((std for end, std in stds.items() if name.endswith(end)), config.width**-0.5)
                weight.normal_(0.0, std, generator=generator)


def weights(config: T5Config) -> list[Entry]:
    """Our names and the published ones."""
    entries: list[Entry] = [Same("embedding.weight", "shared.weight")]
    if not config.tied:
        entries.append(Same("head.weight", "lm_head.weight"))
    attention, cross = ("attention", "SelfAttention"), ("cross", "EncDecAttention")
    for side, layers, attentions in (
        ("encoder", config.encoder_layers, [attention]),
        ("decoder", config.layers, [attention, cross]),
    ):
        first = f"{side}.block.0.layer.0.SelfAttention"
        entries.append(Same(f"{side}.bias.weight", f"{first}.relative_attention_bias.weight"))
        entries.append(Same(f"{side}.norm.weight", f"{side}.final_layer_norm.weight"))
        entries += per_layer(layers, _layer(side, attentions, gated=config.activation == "gated-gelu"))
    return entries


def _layer(side: str, attentions: list[tuple[str, str]], *, gated: bool) -> list[Entry]:
    """One layer's names; the branches are numbered in the order in which they act."""
    ours, theirs = f"{side}.blocks.{{n}}.", f"{side}.block.{{n}}.layer."
    maps = [("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")]
    names = [
        (f"{one}.{child}", f"{branch}.{other}.{map}")
        for branch, (one, other) in enumerate(attentions)
        for child, map in maps
    ]
    names += [(f"{one}_norm", f"{branch}.layer_norm") for branch, (one, _) in enumerate(attentions)]
    last = len(attentions)
    ups = [("gate", "wi_0"), ("up", "wi_1")] if gated else [("up", "wi")]
    names += [(f"feedforward.{one}", f"{last}.DenseReluDense.{other}") for one, other in [*ups, ("down", "wo")]]
    names.append(("feedforward_norm", f"{last}.layer_norm"))
    return [Same(f"{ours}{one}.weight", f"{theirs}{other}.weight") for one, other in names]
