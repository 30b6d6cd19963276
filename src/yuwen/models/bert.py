"""BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding (Devlin et al. 2019).

    h = LN(E[token] + S[segment] + P[position])                                                          (figure 2)
    h = LN(h + attention(h)),   h = LN(h + W2 gelu(W1 h + b1) + b2)                  in every layer     (section 3)
    p(hidden word) = softmax(E LN(gelu(W h_t + b)) + c)                                                  (3.1, task 1)
    p(B follows A) = softmax(W' tanh(W_p h_0 + b_p) + b')                                                (3.1, task 2)

The encoder of 2017 with GELU. What stands between h and the scores of words, and the pooler's tanh, are their code's.
Differences here: dropout is 0 by default (published: 0.1), and fresh positions are sinusoids (published: Normal(0,
0.02); `encoder.initialise` says why).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from typing_extensions import Self

from yuwen.models.encoder import Encoder, EncoderConfig, cut_normal, encoder_block, initialise, task_classes
from yuwen.models.weights import Entry, Repeated, Same, both, per_layer
from yuwen.nn import HeadTransform, LayerNorm, LearnedPositions, Linear, Pooler, TokenEmbedding, TokenHead


class BertConfig(EncoderConfig):
    """Shape of a BERT. `segments` is how many kinds of sentence there are."""

    segments: int = Field(default=2, gt=0, le=4096)
    norm_eps: float = Field(default=1e-12, gt=0)
    pooler: bool = True
    next_sentence: bool = True

    ARCHITECTURE: ClassVar[str] = "BertForPreTraining"
    MODEL_TYPE: ClassVar[str] = "bert"
    BODY: ClassVar[str] = "bert"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "max_position_embeddings",
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "ffn": "intermediate_size",
        "activation": "hidden_act",
        "segments": "type_vocab_size",
        "norm_eps": "layer_norm_eps",
        "tied": "tie_word_embeddings",
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {
        "is_decoder": False,
        "add_cross_attention": False,
        "position_embedding_type": "absolute",
    }
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        [
            "attention_probs_dropout_prob",
            "hidden_dropout_prob",
            "classifier_dropout",
            "gradient_checkpointing",
            "finetuning_task",
            "num_labels",
            "output_past",
            "directionality",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
            "pooler_type",
        ]
    )
    HEADS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "masked": ("cls.predictions.",),
        "pooler": ("pooler.",),
        "next_sentence": ("cls.seq_relationship.",),
    }
    ASKS: ClassVar[Mapping[str, frozenset[str]]] = {
        "BertModel": frozenset({"pooler"}),
        "BertForMaskedLM": frozenset({"masked"}),
        "BertForPreTraining": frozenset({"masked", "pooler", "next_sentence"}),
        "BertForNextSentencePrediction": frozenset({"pooler", "next_sentence"}),
        **task_classes("Bert"),
    }

    @property
    def copies(self) -> Mapping[str, str]:
        decoder = "cls.predictions.decoder."
        return (
            {f"{decoder}weight": "embedding.weight", f"{decoder}bias": "head.bias"} if self.tied and self.masked else {}
        )

    @model_validator(mode="after")
    def _pooled(self) -> Self:
        if self.next_sentence and not self.pooler:
            raise ValueError("next_sentence reads the pooler: set pooler to true, or next_sentence to false")
        return self


def build(config: BertConfig, generator: torch.Generator | None = None) -> Encoder:
    """A BERT with fresh weights."""
    embedding = TokenEmbedding(config.vocabulary, config.width)
    tied_to = embedding if config.tied else None
    transform = HeadTransform(config.width, LayerNorm(config.width, config.norm_eps), activation=config.activation)
    model = Encoder(
        config,
        embedding=embedding,
        positions=LearnedPositions(config.context, config.width),
        segments=TokenEmbedding(config.segments, config.width),
        norm=LayerNorm(config.width, config.norm_eps),
        blocks=[encoder_block(config, config.norm_eps) for _ in range(config.layers)],
        transform=transform if config.masked else None,
        head=TokenHead(config.vocabulary, config.width, tied_to=tied_to, bias=True) if config.masked else None,
        pooler=Pooler(config.width) if config.pooler else None,
        sentence_head=Linear(config.width, 2) if config.next_sentence else None,
        dropout=config.dropout,
    )
    initialise(model, generator, cut_normal)
    return model


def weights(config: BertConfig) -> list[Entry]:
    """Our names and the published ones."""
    entries = body_weights(config)
    if config.pooler:
        entries += both("pooler.dense", f"{config.prefix}pooler.dense")
    if config.masked:
        entries += [
            *both("transform.dense", "cls.predictions.transform.dense"),
            *both("transform.norm", "cls.predictions.transform.LayerNorm"),
            Same("head.bias", "cls.predictions.bias") if config.tied else Repeated("head.bias", "cls.predictions.bias"),
        ]
        if not config.tied:  # then transformers adds the decoder's own bias, not the one beside it
            entries += both("head", "cls.predictions.decoder")
    if config.next_sentence:
        entries += both("sentence_head", "cls.seq_relationship")
    return entries


def body_weights(config: EncoderConfig) -> list[Entry]:
    """The names of embeddings and layers, RoBERTa's too."""
    embeddings, layer = f"{config.prefix}embeddings.", f"{config.prefix}encoder.layer.{{n}}."
    tables = [("embedding", "word"), ("positions", "position"), ("segments", "token_type")]
    block = [
        ("attention.query", "attention.self.query"),
        ("attention.key", "attention.self.key"),
        ("attention.value", "attention.self.value"),
        ("attention.output", "attention.output.dense"),
        ("attention_norm", "attention.output.LayerNorm"),
        ("feedforward.up", "intermediate.dense"),
        ("feedforward.down", "output.dense"),
        ("feedforward_norm", "output.LayerNorm"),
    ]
    entries = [entry for ours, theirs in block for entry in both(f"blocks.{{n}}.{ours}", f"{layer}{theirs}")]
    return [
        *(Same(f"{ours}.weight", f"{embeddings}{theirs}_embeddings.weight") for ours, theirs in tables),
        *both("norm", f"{embeddings}LayerNorm"),
        *per_layer(config.layers, entries),
    ]
