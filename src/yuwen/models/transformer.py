"""Attention Is All You Need (Vaswani et al. 2017): the Transformer.

    h = sqrt(D) E[token] + P[position]; encoder layer   h = LN(h + attention(h)),   h = LN(h + W2 relu(W1 h + b1) + b2)
    decoder layer, between these two   h = LN(h + attention(h to what the encoder made));   p(next) = softmax(E h + c)

Section 3.1: encoder and decoder of post-norm layers, h = LayerNorm(x + sublayer(x)); the decoder's have a second
attention, to what the encoder made. Section 3.2: scaled dot products. Section 3.3: W2 relu(W1 x + b1) + b2. Section
3.4: one table for both embeddings, there times sqrt(width), and for the head. Section 3.5: sinusoidal positions.
`norm: pre` moves the norms to the entrance of each branch and adds one at the end (Wang et al. 2019, Learning Deep
Transformer Models, figure 1b), which needs no warm-up. `score: additive` asks by the network of Bahdanau et al. (2015)
instead of by a product. Label smoothing (section 5.4) is the objective's. `encoder_layers: 0` is the decoder alone,
without the second attention, which learns the next token of a single text (Liu et al. 2018, Generating Wikipedia by
Summarizing Long Sequences, section 4.2.3).

Differences here: the head has a bias, which starts at 0 (Marian's); dropout falls on attention weights too, and is 0 by
default (published: 0.1); fresh weights are Normal(0, 0.02), the paper does not say how its own began.

Published layouts: Marian is this model with post-norm, Pegasus with pre-norm, so that is what is read and written for
scaled dot products and a tied head. Anything else (additive scores, an untied head, the decoder alone) is no class of
`transformers`: its config.json says model_type "transformer" and its weights have Marian's names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from typing_extensions import Self

from yuwen.errors import UserError
from yuwen.models.config import Reads
from yuwen.models.decoder import Decoder
from yuwen.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Stack, initialise
from yuwen.models.weights import Entry, Row, Same, both, per_layer
from yuwen.nn import (
    Additive,
    Attention,
    CrossAttention,
    FeedForward,
    LayerNorm,
    PostNormBlock,
    PostNormCrossBlock,
    PreNormBlock,
    PreNormCrossBlock,
    ScaledDotProduct,
    ScaledTokenEmbedding,
    SinusoidalPositions,
    TokenHead,
)

_EPS = 1e-5  # of every norm; no setting

# What config files of Marian, Pegasus and BART say beside the shape: how to train, how to draw, how others were made.
PAIR_HARMLESS = frozenset(
    [
        *["attention_dropout", "activation_dropout", "dropout", "encoder_layerdrop", "decoder_layerdrop", "init_std"],
        *["classif_dropout", "classifier_dropout", "gradient_checkpointing", "num_hidden_layers", "output_past"],
        *["num_beams", "length_penalty", "early_stopping", "no_repeat_ngram_size", "bad_words_ids", "prefix"],
        *["max_length", "min_length", "forced_bos_token_id", "forced_eos_token_id", "task_specific_params"],
        *["num_labels", "extra_pos_embeddings", "force_bos_token_to_be_generated", "finetuning_task"],
    ]
)


class TransformerConfig(EncoderDecoderConfig):
    """Shape of a Transformer. `encoder_layers` 0: a decoder alone."""

    encoder_layers: int = Field(default=6, ge=0, le=1024, description="as many as layers")
    norm: Literal["post", "pre"] = "post"
    score: Literal["dot", "additive"] = "dot"
    activation: Literal["relu", "gelu", "gelu_new", "silu"] = "relu"
    head_bias: bool = True

    ARCHITECTURE: ClassVar[str] = "TransformerForConditionalGeneration"
    MODEL_TYPE: ClassVar[str] = "transformer"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "max_position_embeddings",
        "layers": "decoder_layers",
        "encoder_layers": "encoder_layers",
        "width": "d_model",
        "heads": "encoder_attention_heads",
        "ffn": "encoder_ffn_dim",
        "activation": "activation_function",
        "start": "decoder_start_token_id",
        "tied": "tie_word_embeddings",
        "norm": "norm",
        "score": "score",
    }
    MIRRORED: ClassVar[Mapping[str, str]] = {
        "encoder_attention_heads": "decoder_attention_heads",
        "encoder_ffn_dim": "decoder_ffn_dim",
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "static_position_embeddings": True,
        "normalize_embedding": False,
        "add_bias_logits": False,
        "is_decoder": False,
    }
    HARMLESS: ClassVar[frozenset[str]] = PAIR_HARMLESS | {"normalize_before", "add_final_layer_norm"}
    # the classes of transformers that are this model, by where their norms stand
    LAYOUTS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "post": ("marian", "MarianMTModel"),
        "pre": ("pegasus", "PegasusForConditionalGeneration"),
    }

    @property
    def reads(self) -> Reads:
        return "pairs" if self.encoder_layers else "forwards"

    @classmethod
    def model_types(cls) -> tuple[str, ...]:
        return (cls.MODEL_TYPE, *(name for name, _ in cls.LAYOUTS.values()))

    @classmethod
    def architectures(cls) -> tuple[str, ...]:
        return (cls.ARCHITECTURE, "TransformerForCausalLM", *(name for _, name in cls.LAYOUTS.values()))

    @property
    def elsewhere(self) -> bool:
        """Whether transformers has a class for these settings."""
        return bool(self.encoder_layers) and self.score == "dot" and self.tied

    @property
    def architecture(self) -> str:
        if self.elsewhere:
            return self.LAYOUTS[self.norm][1]
        return self.ARCHITECTURE if self.encoder_layers else "TransformerForCausalLM"

    @property
    def copies(self) -> Mapping[str, str]:
        return shared_table(tied=self.tied)

    def as_stored(self, names: Iterable[str]) -> Self:
        """Files of a body alone have no bias of the head."""
        return self.model_copy(update={"head_bias": "final_logits_bias" in names})

    @model_validator(mode="after")
    def _waves(self) -> Self:
        if self.width % 2:
            raise ValueError(f"width={self.width} must be even: sinusoidal positions come in pairs")
        return self

    def published(self) -> dict[str, Any]:
        values = {**super().published(), "pad_token_id": None}  # transformers would never train the row of that id
        if not self.elsewhere:
            return {**values, "is_encoder_decoder": bool(self.encoder_layers)}
        del values["norm"], values["score"]
        return {**values, "model_type": self.LAYOUTS[self.norm][0], "decoder_vocab_size": self.vocabulary}

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        norms = {model_type: norm for norm, (model_type, _) in cls.LAYOUTS.items()}
        norm = norms.get(values["model_type"])
        if norm is not None:
            for key in ("normalize_before", "add_final_layer_norm"):
                if values.get(key) not in (None, norm == "pre"):
                    raise UserError(f"{where}: {key}={values[key]!r} is not supported for {values['model_type']}")
            # what a config.json leaves out means the published default, not ours
            values = {"scale_embedding": False, "activation_function": "gelu", **values, "norm": norm, "score": "dot"}
        if values.get("activation_function") == "swish":
            values = {**values, "activation_function": "silu"}
        if values.get("decoder_vocab_size") == values.get("vocab_size"):
            values = {key: value for key, value in values.items() if key != "decoder_vocab_size"}
        return super().from_published(values, where)


def build(config: TransformerConfig, generator: torch.Generator | None = None) -> EncoderDecoder | Decoder:
    """A Transformer with fresh weights: a `Decoder` if it has no encoder."""
    embedding = ScaledTokenEmbedding(config.vocabulary, config.width)
    tied_to = embedding if config.tied else None
    head = TokenHead(config.vocabulary, config.width, tied_to=tied_to, bias=config.head_bias)
    model: EncoderDecoder | Decoder
    if config.encoder_layers:
        model = EncoderDecoder(
            config,
            embedding=embedding,
            encoder=_stack(config, [_block(config) for _ in range(config.encoder_layers)]),
            decoder=_stack(config, [_cross_block(config) for _ in range(config.layers)]),
            head=head,
        )
    else:
        model = Decoder(
            config,
            embedding=embedding,
            blocks=[_block(config) for _ in range(config.layers)],
            norm=_last_norm(config) or nn.Identity(),
            head=head,
            positions=SinusoidalPositions(config.width),
            dropout=config.dropout,
        )
    initialise(model, generator)
    return model


def _stack(config: TransformerConfig, blocks: list[nn.Module]) -> Stack:
    positions = SinusoidalPositions(config.width)
    return Stack(blocks, positions=positions, norm=_last_norm(config), dropout=config.dropout)


def _last_norm(config: TransformerConfig) -> LayerNorm | None:
    """Post-norm layers end with one already."""
    return LayerNorm(config.width, _EPS) if config.norm == "pre" else None


def _block(config: TransformerConfig) -> nn.Module:
    attention = Attention(config.width, config.heads, bias=True, output_bias=True, score=_score(config))
    feedforward = FeedForward(config.width, config.ffn, activation=config.activation)
    norms = [LayerNorm(config.width, _EPS) for _ in range(2)]
    if config.norm == "pre":
        return PreNormBlock(norms[0], attention, norms[1], feedforward, dropout=config.dropout)
    return PostNormBlock(attention, norms[0], feedforward, norms[1], dropout=config.dropout)


def _cross_block(config: TransformerConfig) -> nn.Module:
    attention = Attention(config.width, config.heads, bias=True, output_bias=True, score=_score(config))
    cross = CrossAttention(config.width, config.heads, bias=True, output_bias=True, score=_score(config))
    feedforward = FeedForward(config.width, config.ffn, activation=config.activation)
    norms = [LayerNorm(config.width, _EPS) for _ in range(3)]
    if config.norm == "pre":
        return PreNormCrossBlock(norms[0], attention, norms[1], cross, norms[2], feedforward, dropout=config.dropout)
    return PostNormCrossBlock(attention, norms[0], cross, norms[1], feedforward, norms[2], dropout=config.dropout)


def _score(config: TransformerConfig) -> nn.Module:
    if config.score == "additive":
        return Additive(config.heads, config.width // config.heads, dropout=config.dropout)
    return ScaledDotProduct(dropout=config.dropout)


def weights(config: TransformerConfig) -> list[Entry]:
    """Our names and the published ones."""
    entries: list[Entry] = [Same("embedding.weight", "model.shared.weight")]
    if config.head_bias:
        entries.append(Row("head.bias", "final_logits_bias"))
    if not config.tied:
        entries.append(Same("head.weight", "lm_head.weight"))
    alone = not config.encoder_layers
    decoder, encoder = ("" if alone else "decoder.", "model.decoder."), ("encoder.", "model.encoder.")
    for side, layers in ((encoder, config.encoder_layers), (decoder, config.layers)):
        cross = side is decoder and not alone
        entries += layer_weights(*side, layers, cross=cross, additive=config.score == "additive")
        if config.norm == "pre" and layers:
            entries += both(f"{side[0]}norm", f"{side[1]}layer_norm")
    return entries


def layer_weights(ours: str, theirs: str, layers: int, *, cross: bool = False, additive: bool = False) -> list[Entry]:
    """The names of one side's layers, BART's too, whose names begin as given: "encoder." and "model.encoder."."""
    attentions = [("attention", "self_attn"), *([("cross", "encoder_attn")] if cross else [])]
    maps = [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "out_proj")]
    names = [("feedforward.up", "fc1"), ("feedforward.down", "fc2"), ("feedforward_norm", "final_layer_norm")]
    entries: list[Entry] = []
    for one, other in attentions:
        names += [(f"{one}.{child}", f"{other}.{map}") for child, map in maps] + [
            (f"{one}_norm", f"{other}_layer_norm")
        ]
        if additive:
            entries.append(Same(f"{ours}blocks.{{n}}.{one}.score.weight", f"{theirs}layers.{{n}}.{other}.score.weight"))
    for one, other in names:
        entries += both(f"{ours}blocks.{{n}}.{one}", f"{theirs}layers.{{n}}.{other}")
    return list(per_layer(layers, entries))


def shared_table(*, tied: bool) -> Mapping[str, str]:
    """Names under which files of Marian, Pegasus and BART repeat the one table; those of a body begin further in."""
    sides = [f"{body}{side}.embed_tokens.weight" for body in ("model.", "") for side in ("encoder", "decoder")]
    return dict.fromkeys([*sides, *(["lm_head.weight"] if tied else [])], "embedding.weight")
