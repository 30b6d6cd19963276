"""DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter (Sanh et al. 2019).

    h = LN(E[token] + P[position]);   layers as in `bert.py`;   p(hidden word) = softmax(E LN(gelu(W h_t + b)) + c)

Section 3: BERT's encoder with every second layer taken, without segments and without pooler, which learns from a BERT
teacher by masked words alone. The names of settings and weights are its own. Differences here: dropout is 0 by default
(published: 0.1), fresh weights are drawn rather than taken from a teacher's layers, and fresh positions are sinusoids
(`encoder.initialise` says why).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from yuwen.models.encoder import Encoder, EncoderConfig, encoder_block, initialise, task_classes
from yuwen.models.weights import Entry, Same, both, per_layer
from yuwen.nn import HeadTransform, LayerNorm, LearnedPositions, TokenEmbedding, TokenHead

_EPS = 1e-12  # of every norm; no setting


class DistilBertConfig(EncoderConfig):
    """Shape of a DistilBERT."""

    ARCHITECTURE: ClassVar[str] = "DistilBertForMaskedLM"
    MODEL_TYPE: ClassVar[str] = "distilbert"
    BODY: ClassVar[str] = "distilbert"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "max_position_embeddings",
        "layers": "n_layers",
        "width": "dim",
        "heads": "n_heads",
        "ffn": "hidden_dim",
        "activation": "activation",
        "tied": "tie_word_embeddings",
    }
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        [
            "attention_dropout",
            "dropout",
            "qa_dropout",
            "seq_classif_dropout",
            "sinusoidal_pos_embds",  # how the table began; files hold it either way
            "tie_weights_",
            "finetuning_task",
            "num_labels",
            "output_past",
        ]
    )
    HEADS: ClassVar[Mapping[str, tuple[str, ...]]] = {"masked": ("vocab_",)}
    ASKS: ClassVar[Mapping[str, frozenset[str]]] = {
        "DistilBertModel": frozenset(),
        "DistilBertForMaskedLM": frozenset({"masked"}),
        **task_classes("DistilBert"),
    }

    @property
    def copies(self) -> Mapping[str, str]:
        return {"vocab_projector.weight": "embedding.weight"} if self.tied and self.masked else {}


def build(config: DistilBertConfig, generator: torch.Generator | None = None) -> Encoder:
    """A DistilBERT with fresh weights."""
    embedding = TokenEmbedding(config.vocabulary, config.width)
    tied_to = embedding if config.tied else None
    transform = HeadTransform(config.width, LayerNorm(config.width, _EPS), activation=config.activation)
    model = Encoder(
        config,
        embedding=embedding,
        positions=LearnedPositions(config.context, config.width),
        norm=LayerNorm(config.width, _EPS),
        blocks=[encoder_block(config, _EPS) for _ in range(config.layers)],
        transform=transform if config.masked else None,
        head=TokenHead(config.vocabulary, config.width, tied_to=tied_to, bias=True) if config.masked else None,
        dropout=config.dropout,
    )
    initialise(model, generator)
    return model


def weights(config: DistilBertConfig) -> list[Entry]:
    """Our names and the published ones."""
    embeddings, layer = f"{config.prefix}embeddings.", f"{config.prefix}transformer.layer.{{n}}."
    block = [
        ("attention.query", "attention.q_lin"),
        ("attention.key", "attention.k_lin"),
        ("attention.value", "attention.v_lin"),
        ("attention.output", "attention.out_lin"),
        ("attention_norm", "sa_layer_norm"),
        ("feedforward.up", "ffn.lin1"),
        ("feedforward.down", "ffn.lin2"),
        ("feedforward_norm", "output_layer_norm"),
    ]
    entries: list[Entry] = [
        Same("embedding.weight", f"{embeddings}word_embeddings.weight"),
        Same("positions.weight", f"{embeddings}position_embeddings.weight"),
        *both("norm", f"{embeddings}LayerNorm"),
        *per_layer(
            config.layers,
            [entry for ours, theirs in block for entry in both(f"blocks.{{n}}.{ours}", f"{layer}{theirs}")],
        ),
    ]
    if config.masked:
        entries += [
            *both("transform.dense", "vocab_transform"),
            *both("transform.norm", "vocab_layer_norm"),
            Same("head.bias", "vocab_projector.bias"),
        ]
        if not config.tied:
            entries.append(Same("head.weight", "vocab_projector.weight"))
    return entries
