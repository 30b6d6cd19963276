"""RoBERTa: A Robustly Optimized BERT Pretraining Approach (Liu et al. 2019).

    h = LN(E[token] + S[0] + P[padding + t]),   t = 1, 2, …;   layers and p(hidden word) as in `bert.py`

BERT's architecture, learned better: section 4.1, the hidden words are drawn anew each time (dynamic masking); 4.2, no
next sentence, inputs are filled with full sentences; 4.3, larger batches; 4.4, a byte-level BPE vocabulary of 50,000.
What this file says differently from `bert.py` is in their code: positions are counted from padding + 1, the masked-word
head has its own names and always GELU. Differences here: dropout is 0 by default (published: 0.1), and fresh positions
are sinusoids (`encoder.initialise` says why).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from typing_extensions import Self

from yuwen.models.bert import BertConfig, body_weights
from yuwen.models.encoder import Encoder, EncoderConfig, encoder_block, initialise, task_classes
from yuwen.models.weights import Entry, Repeated, Same, both
from yuwen.nn import CountedPositions, HeadTransform, LayerNorm, Pooler, TokenEmbedding, TokenHead


class RobertaConfig(EncoderConfig):
    """Shape of a RoBERTa. `padding` is the id that fills rows up, and counts no position; `context` counts tokens, not
    the table's rows."""

    segments: int = Field(default=1, gt=0, le=4096)
    norm_eps: float = Field(default=1e-5, gt=0)
    padding: int = Field(default=1, ge=0, le=16_777_216)
    pooler: bool = False

    ARCHITECTURE: ClassVar[str] = "RobertaForMaskedLM"
    MODEL_TYPE: ClassVar[str] = "roberta"
    BODY: ClassVar[str] = "roberta"
    PUBLISHED: ClassVar[Mapping[str, str]] = {**BertConfig.PUBLISHED, "padding": "pad_token_id"}
    CONSTANT: ClassVar[Mapping[str, Any]] = BertConfig.CONSTANT
    HARMLESS: ClassVar[frozenset[str]] = BertConfig.HARMLESS
    HEADS: ClassVar[Mapping[str, tuple[str, ...]]] = {"masked": ("lm_head.",), "pooler": ("pooler.",)}
    ASKS: ClassVar[Mapping[str, frozenset[str]]] = {
        "RobertaModel": frozenset({"pooler"}),
        "RobertaForMaskedLM": frozenset({"masked"}),
        **task_classes("Roberta"),
    }

    @model_validator(mode="after")
    def _in_the_table(self) -> Self:
        if self.padding >= self.vocabulary:
            raise ValueError(f"padding={self.padding} is no id of a vocabulary of {self.vocabulary}")
        return self

    @property
    def copies(self) -> Mapping[str, str]:
        decoder = "lm_head.decoder."
        return (
            {f"{decoder}weight": "embedding.weight", f"{decoder}bias": "head.bias"} if self.tied and self.masked else {}
        )

    def published(self) -> dict[str, Any]:
        return {**super().published(), "max_position_embeddings": self.context + self.padding + 1}

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        values = {"layer_norm_eps": 1e-12, "type_vocab_size": 2, **values}
        rows, padding = values.get("max_position_embeddings"), values.get("pad_token_id")
        if isinstance(rows, int):
            padding = padding if isinstance(padding, int) else cls.model_fields["padding"].default
            values["max_position_embeddings"] = rows - padding - 1
        return super().from_published(values, where)


def build(config: RobertaConfig, generator: torch.Generator | None = None) -> Encoder:
    """A RoBERTa with fresh weights."""
    embedding = TokenEmbedding(config.vocabulary, config.width)
    tied_to = embedding if config.tied else None
    transform = HeadTransform(config.width, LayerNorm(config.width, config.norm_eps))
    model = Encoder(
        config,
        embedding=embedding,
        positions=CountedPositions(config.context, config.width, padding=config.padding),
        segments=TokenEmbedding(config.segments, config.width),
        norm=LayerNorm(config.width, config.norm_eps),
        blocks=[encoder_block(config, config.norm_eps) for _ in range(config.layers)],
        transform=transform if config.masked else None,
        head=TokenHead(config.vocabulary, config.width, tied_to=tied_to, bias=True) if config.masked else None,
        pooler=Pooler(config.width) if config.pooler else None,
        dropout=config.dropout,
    )
    initialise(model, generator)
    return model


def weights(config: RobertaConfig) -> list[Entry]:
    """Our names and the published ones."""
    entries = body_weights(config)
    if config.pooler:
        entries += both("pooler.dense", f"{config.prefix}pooler.dense")
    if config.masked:
        entries += [
            *both("transform.dense", "lm_head.dense"),
            *both("transform.norm", "lm_head.layer_norm"),
            Same("head.bias", "lm_head.bias") if config.tied else Repeated("head.bias", "lm_head.bias"),
        ]
        if not config.tied:  # then transformers adds the decoder's own bias, not the one beside it
            entries += both("head", "lm_head.decoder")
    return entries
