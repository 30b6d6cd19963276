"""BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation (Lewis et al. 2020).

    p(x) = prod_t p(x_t | x_<t, noised x)
    x = LN(E[token] + P[position]);   every layer   h = LN(h + f(h)),   f self-attention, then in the decoder attention
    to what the encoder made, then W2 gelu(W1 h + b1) + b2;   p(next) = softmax(E h + c)

Section 2.1: the Transformer of 2017 (post-norm) with GELU; it learns to write a text whose source was noised (section
2.2, `yuwen.objectives`). As in the published code positions are learned, a table for each side, a LayerNorm stands
behind the embeddings of each, one table of tokens serves both sides and the head, and the head has a bias
(`final_logits_bias`), which there stays 0 and here may learn. A published BART's targets have the frame of its sources,
so `<s>` stands before a target's text (`bos`). Differences here: dropout is 0 by default (published: 0.1), and a fresh
model's targets begin with their text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from typing_extensions import Self

from yuwen.errors import UserError
from yuwen.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Stack, initialise
from yuwen.models.transformer import PAIR_HARMLESS, TransformerConfig, layer_weights, shared_table
from yuwen.models.weights import Entry, Row, Same, both
from yuwen.nn import (
    Attention,
    CrossAttention,
    FeedForward,
    LayerNorm,
    PostNormBlock,
    PostNormCrossBlock,
    ScaledDotProduct,
    ScaledTokenEmbedding,
    ShiftedPositions,
    TokenEmbedding,
    TokenHead,
)

_EPS = 1e-5  # of every norm; no setting


class BartConfig(EncoderDecoderConfig):
    """Shape of a BART. `scaled` multiplies embeddings by sqrt(width), as in BART models of the time of mBART.

    `bos` is given behind `start`, before every target's text, and neither asked for nor drawn.
    """

    bos: int | None = Field(default=None, ge=0, le=16_777_216, description="the id behind start; none")
    activation: Literal["gelu", "gelu_new", "relu", "silu"] = "gelu"
    scaled: bool = False
    tied: Literal[True] = True
    head_bias: bool = True

    ARCHITECTURE: ClassVar[str] = "BartForConditionalGeneration"
    MODEL_TYPE: ClassVar[str] = "bart"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        **{ours: theirs for ours, theirs in TransformerConfig.PUBLISHED.items() if ours not in ("norm", "score")},
        "scaled": "scale_embedding",
        "bos": "forced_bos_token_id",
    }
    MIRRORED: ClassVar[Mapping[str, str]] = TransformerConfig.MIRRORED
    CONSTANT: ClassVar[Mapping[str, Any]] = {
        "static_position_embeddings": False,
        "normalize_embedding": True,
        "normalize_before": False,
        "add_final_layer_norm": False,
        "add_bias_logits": False,
        "is_decoder": False,
    }
    HARMLESS: ClassVar[frozenset[str]] = PAIR_HARMLESS
    MOVED: ClassVar[frozenset[str]] = frozenset(["forced_bos_token_id"])

    @model_validator(mode="after")
    def _an_id(self) -> Self:
        if self.bos is not None and self.bos >= self.vocabulary:
            raise ValueError(f"bos={self.bos} must be an id below vocabulary={self.vocabulary}")
        return self

    @classmethod
    def architectures(cls) -> tuple[str, ...]:
        return (cls.ARCHITECTURE, "BartModel")

    @property
    def opening(self) -> tuple[int, ...]:
        return (self.start,) if self.bos is None else (self.start, self.bos)

    @property
    def copies(self) -> Mapping[str, str]:
        return shared_table(tied=True)

    def as_stored(self, names: Iterable[str]) -> Self:
        """Files of a body alone have no bias of the head."""
        return self.model_copy(update={"head_bias": "final_logits_bias" in names})

    def published(self) -> dict[str, Any]:
        values = {**super().published(), "pad_token_id": None}  # transformers would never train the row of that id
        return {key: value for key, value in values.items() if key not in self.MOVED or value is not None}

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        # what a config.json leaves out means the published default, not ours
        defaults = {"max_position_embeddings": 1024, "decoder_start_token_id": 2, "encoder_ffn_dim": 4096}
        values = {**defaults, **values}
        bos = values.pop("forced_bos_token_id", None)
        if bos is None and values.get("force_bos_token_to_be_generated"):  # as files of 2020 say it
            bos = values.get("bos_token_id", 0)
        if bos is not None and bos is not False:
            if type(bos) is not int or not 0 <= bos < values.get("vocab_size", 0):
                raise UserError(
                    f"{where}: forced_bos_token_id={bos!r}, here or in generation_config.json: give an id of the "
                    "vocabulary, or null"
                )
            values["forced_bos_token_id"] = bos
        return super().from_published(values, where)


def build(config: BartConfig, generator: torch.Generator | None = None) -> EncoderDecoder:
    """A BART with fresh weights."""
    table = ScaledTokenEmbedding if config.scaled else TokenEmbedding
    embedding = table(config.vocabulary, config.width)
    model = EncoderDecoder(
        config,
        embedding=embedding,
        encoder=_stack(config, [_block(config) for _ in range(config.encoder_layers)]),
        decoder=_stack(config, [_cross_block(config) for _ in range(config.layers)]),
        head=TokenHead(config.vocabulary, config.width, tied_to=embedding, bias=config.head_bias),
    )
    initialise(model, generator)
    return model


def _stack(config: BartConfig, blocks: list[nn.Module]) -> Stack:
    positions = ShiftedPositions(config.context, config.width)
    return Stack(blocks, positions=positions, embedding_norm=LayerNorm(config.width, _EPS), dropout=config.dropout)


def _block(config: BartConfig) -> PostNormBlock:
    score = ScaledDotProduct(dropout=config.dropout)
    return PostNormBlock(
        Attention(config.width, config.heads, bias=True, output_bias=True, score=score),
        LayerNorm(config.width, _EPS),
        FeedForward(config.width, config.ffn, activation=config.activation),
        LayerNorm(config.width, _EPS),
        dropout=config.dropout,
    )


def _cross_block(config: BartConfig) -> PostNormCrossBlock:
    score = ScaledDotProduct(dropout=config.dropout)
    return PostNormCrossBlock(
        Attention(config.width, config.heads, bias=True, output_bias=True, score=score),
        LayerNorm(config.width, _EPS),
        CrossAttention(config.width, config.heads, bias=True, output_bias=True, score=score),
        LayerNorm(config.width, _EPS),
        FeedForward(config.width, config.ffn, activation=config.activation),
        LayerNorm(config.width, _EPS),
        dropout=config.dropout,
    )


def weights(config: BartConfig) -> list[Entry]:
    """Our names and the published ones."""
    entries: list[Entry] = [Same("embedding.weight", "model.shared.weight")]
    if config.head_bias:
        entries.append(Row("head.bias", "final_logits_bias"))
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.layers)):
        entries.append(Same(f"{side}.positions.weight", f"model.{side}.embed_positions.weight"))
        entries += both(f"{side}.embedding_norm", f"model.{side}.layernorm_embedding")
        entries += layer_weights(f"{side}.", f"model.{side}.", layers, cross=side == "decoder")
    return entries
