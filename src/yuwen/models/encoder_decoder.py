"""The skeleton that the Transformer of 2017, T5 and BART share: one text is read from both sides, one is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.errors import UserError
from yuwen.models.config import AttentionConfig, Reads, divides
from yuwen.nn import (
    Causal,
    Dropout,
    EncoderDecoderCache,
    Everything,
    Mask,
    Padding,
    RelativeBias,
    TokenEmbedding,
    TokenHead,
)
from yuwen.nn.mask import Allowed


class Stack(nn.Module):
    """The layers of one side: embedded tokens (+ positions) -> (norm) -> blocks -> (norm).

    The way through the blocks is the model's to go (`EncoderDecoder`): a decoder's read a memory besides.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        *,
        positions: nn.Module | None = None,
        embedding_norm: nn.Module | None = None,
        bias: RelativeBias | None = None,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.positions, self.bias = positions, bias
        self.embedding_norm = embedding_norm or nn.Identity()
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm or nn.Identity()

    def enter(self, h_BTD: Tensor, past: int) -> Tensor:
        """Embedded tokens as the first block takes them; `past` positions were read before."""
        if self.positions is not None:
            positions = torch.arange(past, past + h_BTD.shape[1], device=h_BTD.device)[None]
            h_BTD = h_BTD + self.positions(positions).to(h_BTD.dtype)
        return self.dropout(self.embedding_norm(h_BTD))

    def allowed(self, mask: Mask, queries: int, keys: int, device: torch.device) -> Allowed:
        """Where the last `queries` of `keys` positions may look, with the bias of their distances if there is one."""
        allowed = mask.resolve(queries, keys, device)
        return allowed if self.bias is None else self.bias(allowed, queries, keys)


class EncoderDecoder(nn.Module):
    """p(target | source): the encoder reads the source, the decoder continues the target and looks at what was read.

        source ─ embedding ─ encoder ─> memory ─┐
        target ─ embedding ─ decoder ───────────┴──> h ─ readout ─ head ─> logits

    `encode(ids_BS) -> memory_BSD`, `decode(ids_BT, memory_BSD) -> h_BTD`, `output(h_BTD) -> logits_BTV`. A target
    begins with `start_id`, and h at a position scores the token that follows it. `mask` defaults to everything for a
    source and to causal for a target; a batch of sources is padded at the right and gives `Padding(keep_BS)` to both.
    """

    def __init__(
        self, config: Any, *, embedding: TokenEmbedding, encoder: Stack, decoder: Stack, head: TokenHead
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.encoder, self.decoder = encoder, decoder
        self.head = head

    @property
    def start_id(self) -> int:
        """The token that every target begins with; it is never drawn."""
        return self.config.start

    @property
    def opening(self) -> tuple[int, ...]:
        """What the decoder is given before a target's text: `start_id`, and in some models a token behind it."""
        return self.config.opening

    def forward(self, ids_BS: Tensor, decoder_ids_BT: Tensor, mask: Mask | None = None) -> Tensor:
        """Hidden states of the target, [B, T, D]; `mask` is the source's."""
        return self.decode(decoder_ids_BT, self.encode(ids_BS, mask), memory_mask=mask)

    def encode(self, ids_BS: Tensor, mask: Mask | None = None) -> Tensor:
        """What is remembered of the source, [B, S, D]."""
        S = ids_BS.shape[1]
        allowed = self.encoder.allowed(mask or Everything(), S, S, ids_BS.device)
        h_BSD = self.encoder.enter(self.embedding(ids_BS), 0)
        for block in self.encoder.blocks:
            h_BSD = block(h_BSD, allowed)
        return self.encoder.norm(h_BSD)

    def decode(
        self,
        ids_BT: Tensor,
        memory_BSD: Tensor,
        mask: Mask | None = None,
        memory_mask: Mask | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Hidden states of the target's next T tokens, [B, T, D], after those that the cache holds."""
        if memory_mask is not None and not isinstance(memory_mask, Padding | Everything):
            raise ValueError("memory_mask must be Padding: a memory is the same for every token of the target")
        past = cache.length if cache is not None else 0
        T, S = ids_BT.shape[1], memory_BSD.shape[1]
        allowed = self.decoder.allowed(mask or Causal(), T, past + T, ids_BT.device)
        readable = (memory_mask or Everything()).resolve(1, S, ids_BT.device)
        h_BTD = self.decoder.enter(self.embedding(ids_BT), past)
        for n, block in enumerate(self.decoder.blocks):
            h_BTD = block(h_BTD, memory_BSD, allowed, readable, cache.layers[n] if cache is not None else None)
        return self.decoder.norm(h_BTD)

    def readout(self, h_BTD: Tensor) -> Tensor:
        """What the head reads: here the hidden states themselves."""
        return h_BTD

    def output(self, h_BTD: Tensor) -> Tensor:
        """Scores over the vocabulary, [..., D] -> [..., V]."""
        return self.head(self.readout(h_BTD))

    def new_cache(self) -> EncoderDecoderCache:
        """An empty cache for generation: of one source, or of the rows of one batch of them."""
        return EncoderDecoderCache(len(self.decoder.blocks))


class EncoderDecoderConfig(AttentionConfig):
    """Shape of an encoder–decoder. `layers` are the decoder's; the encoder has as many unless `encoder_layers` says.

    `ffn` is the hidden width of the feed-forward, `start` the id that begins every target. `MIRRORED` maps published
    settings of the encoder to those of the decoder which must be the same here.
    """

    context: int = Field(default=512, gt=0, le=16_777_216)
    encoder_layers: int = Field(default=6, gt=0, le=1024, description="as many as layers")
    ffn: int = Field(default=0, ge=0, le=16_777_216, description="0: 4 x width")
    start: int = Field(default=0, ge=0, le=16_777_216)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    READS: ClassVar[Reads] = "pairs"
    MIRRORED: ClassVar[Mapping[str, str]] = {}

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids that every target is given to begin with."""
        return (self.start,)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        values = dict(values)
        width = values.get("width", cls.model_fields["width"].default)
        if isinstance(width, int):
            values["ffn"] = values.get("ffn") or 4 * width
        layers = values.get("layers", cls.model_fields["layers"].default)
        return {"encoder_layers": layers, **values}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        divides(self.heads, self.heads, self.width, getattr(self, "head_width", None))
        if self.start >= self.vocabulary:
            raise ValueError(f"start={self.start} must be an id below vocabulary={self.vocabulary}")
        return self

    def kept(self, length: int) -> int:
        """As of a model with the layers of both sides; what a decoder keeps of its memory is about a layer's half."""
        if not self.encoder_layers:
            return super().kept(length)
        return super().kept(length) * (2 * self.encoder_layers + 3 * self.layers) // (2 * self.layers)

    def published(self) -> dict[str, Any]:
        values = super().published()
        return {**values, **{other: values[one] for one, other in self.MIRRORED.items()}, "is_encoder_decoder": True}

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        for one, other in cls.MIRRORED.items():
            if values.get(other) not in (None, values.get(one)):
                raise UserError(f"{where}: {other}={values[other]!r} beside {one}={values.get(one)!r} is not supported")
        return super().from_published({k: v for k, v in values.items() if k not in cls.MIRRORED.values()}, where)


def initialise(model: nn.Module, generator: torch.Generator | None, *, std: float = 0.02) -> None:
    """Normal(0, std) matrices and tables, no bias: BART's and Marian's published start."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.is_meta:  # nothing to fill, and to draw there PyTorch would first import its compiler for seconds
                continue
            if name.endswith(".bias"):
                weight.zero_()
            elif weight.dim() > 1:
                weight.normal_(0.0, std, generator=generator)
