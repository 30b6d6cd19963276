"""ALBERT: A Lite BERT for Self-supervised Learning of Language Representations (Lan et al. 2020).

    h = M LN(W[token] + S[segment] + P[position]) + m,   W [V, E], M [D, E]             factorised embeddings
    h = block(h), again and again the same one                                          shared parameters
    p(hidden word) = softmax(W LN(gelu(U h_t + b)) + c),   U [E, D]
    p(A stands before B) = softmax(U' tanh(W_p h_0 + b_p) + b')                         sentence order

BERT with two savings and another second task (section 3.1). Factorised embeddings: a table of width E, and one matrix
from E to the width D of the blocks, so that a large vocabulary costs V E + E D instead of V D; the masked word is told
from a vector of width E too. Parameters shared across layers: all layers are the same one (`groups` 1, as published),
or in each of several groups, layers that follow one another; sharing saves memory, not work. In their code a group may
hold `inner` blocks, so that `layers` x `inner` are run. Sentence order: from the first position, whether two
consecutive segments stand in their order or swapped.

Differences here: `layers` must be a multiple of `groups`, no dropout falls before the order head (their code's
classifier_dropout_prob), and fresh positions are sinusoids (`encoder.initialise` says why).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from typing_extensions import Self

from yuwen.models.encoder import Encoder, EncoderConfig, cut_normal, encoder_block, initialise, task_classes
from yuwen.models.weights import Entry, Repeated, Same, both
from yuwen.nn import HeadTransform, LayerNorm, LearnedPositions, Linear, Pooler, TokenEmbedding, TokenHead


class AlbertConfig(EncoderConfig):
    """Shape of an ALBERT. `embedding_width` is E; each of the `groups` holds `inner` blocks of its own."""

    embedding_width: int = Field(default=128, gt=0, le=1_048_576)
    groups: int = Field(default=1, gt=0, le=1024)
    inner: int = Field(default=1, gt=0, le=1024)
    activation: Literal["gelu", "gelu_new", "relu", "silu"] = "gelu_new"
    segments: int = Field(default=2, gt=0, le=4096)
    norm_eps: float = Field(default=1e-12, gt=0)
    pooler: bool = True
    sentence_order: bool = True

    ARCHITECTURE: ClassVar[str] = "AlbertForPreTraining"
    MODEL_TYPE: ClassVar[str] = "albert"
    BODY: ClassVar[str] = "albert"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "max_position_embeddings",
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "ffn": "intermediate_size",
        "embedding_width": "embedding_size",
        "groups": "num_hidden_groups",
        "inner": "inner_group_num",
        "activation": "hidden_act",
        "segments": "type_vocab_size",
        "norm_eps": "layer_norm_eps",
        "tied": "tie_word_embeddings",
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {
        "position_embedding_type": "absolute",
        # memory across layers and gaps between them, which its authors' code tried and the paper left
        "down_scale_factor": 1,
        "gap_size": 0,
        "net_structure_type": 0,
        "num_memory_blocks": 0,
    }
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        [
            "attention_probs_dropout_prob",
            "hidden_dropout_prob",
            "classifier_dropout_prob",
            "gradient_checkpointing",
            "finetuning_task",
            "num_labels",
            "output_past",
        ]
    )
    HEADS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "masked": ("predictions.",),
        "pooler": ("pooler.",),
        "sentence_order": ("sop_classifier.",),
    }
    ASKS: ClassVar[Mapping[str, frozenset[str]]] = {
        "AlbertModel": frozenset({"pooler"}),
        "AlbertForMaskedLM": frozenset({"masked"}),
        "AlbertForPreTraining": frozenset({"masked", "pooler", "sentence_order"}),
        **task_classes("Albert"),
    }

    @property
    def copies(self) -> Mapping[str, str]:
        decoder = "predictions.decoder."
        return (
            {f"{decoder}weight": "embedding.weight", f"{decoder}bias": "head.bias"} if self.tied and self.masked else {}
        )

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        if self.sentence_order and not (self.pooler and self.masked):
            raise ValueError("sentence_order needs pooler and masked: set both to true, or sentence_order to false")
        if self.layers % self.groups:
            raise ValueError(f"layers={self.layers} must be a multiple of groups={self.groups}")
        return self

    def as_stored(self, names: Iterable[str]) -> Self:
        stored = super().as_stored(names)
        if stored.sentence_order and not stored.masked:  # no published class: its weights are named as without a place
            return stored.model_copy(update={"sentence_order": False})
        return stored

    def kept(self, length: int) -> int:
        return super().kept(length) * self.inner  # a layer that is run again keeps as much again

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        return super().from_published({"intermediate_size": 16384, **values}, where)


def build(config: AlbertConfig, generator: torch.Generator | None = None) -> Encoder:
    """An ALBERT with fresh weights."""
    width, narrow, eps = config.width, config.embedding_width, config.norm_eps
    embedding = TokenEmbedding(config.vocabulary, narrow)
    tied_to = embedding if config.tied else None
    transform = HeadTransform(width, LayerNorm(narrow, eps), activation=config.activation, output=narrow)
    in_group = config.layers // config.groups
    model = Encoder(
        config,
        embedding=embedding,
        positions=LearnedPositions(config.context, narrow),
        segments=TokenEmbedding(config.segments, narrow),
        norm=LayerNorm(narrow, eps),
        widen=Linear(narrow, width),
        blocks=[encoder_block(config, eps) for _ in range(config.groups * config.inner)],
        order=[n // in_group * config.inner + i for n in range(config.layers) for i in range(config.inner)],
        transform=transform if config.masked else None,
        head=TokenHead(config.vocabulary, narrow, tied_to=tied_to, bias=True) if config.masked else None,
        pooler=Pooler(width) if config.pooler else None,
        order_head=Linear(width, 2) if config.sentence_order else None,
        dropout=config.dropout,
    )
    initialise(model, generator, cut_normal)
    return model


def weights(config: AlbertConfig) -> list[Entry]:
    """Our names and the published ones."""
    embeddings, encoder = f"{config.prefix}embeddings.", f"{config.prefix}encoder."
    tables = [("embedding", "word"), ("positions", "position"), ("segments", "token_type")]
    block = [
        ("attention.query", "attention.query"),
        ("attention.key", "attention.key"),
        ("attention.value", "attention.value"),
        ("attention.output", "attention.dense"),
        ("attention_norm", "attention.LayerNorm"),
        ("feedforward.up", "ffn"),
        ("feedforward.down", "ffn_output"),
        ("feedforward_norm", "full_layer_layer_norm"),
    ]
    entries: list[Entry] = [
        *(Same(f"{ours}.weight", f"{embeddings}{theirs}_embeddings.weight") for ours, theirs in tables),
        *both("norm", f"{embeddings}LayerNorm"),
        *both("widen", f"{encoder}embedding_hidden_mapping_in"),
    ]
    for n in range(config.groups * config.inner):
        layer = f"{encoder}albert_layer_groups.{n // config.inner}.albert_layers.{n % config.inner}."
        entries += [entry for ours, theirs in block for entry in both(f"blocks.{n}.{ours}", f"{layer}{theirs}")]
    if config.pooler:
        entries += both("pooler.dense", f"{config.prefix}pooler")
    if config.masked:
        entries += [
            *both("transform.dense", "predictions.dense"),
            *both("transform.norm", "predictions.LayerNorm"),
            Same("head.bias", "predictions.bias") if config.tied else Repeated("head.bias", "predictions.bias"),
        ]
        if not config.tied:  # then transformers adds the decoder's own bias, not the one beside it
            entries += both("head", "predictions.decoder")
    if config.sentence_order:
        entries += both("order_head", "sop_classifier.classifier")
    return entries
