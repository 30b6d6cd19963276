"""The skeleton that the recurrent families share: embed, recurrent layers one on another, head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.models.config import ModelConfig
from yuwen.models.left_to_right import LeftToRight
from yuwen.models.weights import Entry, Same, per_layer
from yuwen.nn import LockedDropout, Mask, Recurrence, RecurrentCache, TokenEmbedding, TokenHead, WordDropout
from yuwen.nn.recurrent import pieces

_ENDLESS = 16_777_216


class RecurrentConfig(ModelConfig):
    """Shape of a recurrent model, and what is dropped while it learns (Merity et al. 2018, sections 2 and 4).

    `width` is that of the embedding and of the last layer's states, which are scored against the same table when
    `tied`; `hidden` that of the layers before. `context` only bounds how far generation goes: a state has no end.

    dropout         of the states each layer hands on, the same coordinates at all positions (locked)
    input_dropout   of the embedded words, likewise; None: as `dropout`
    output_dropout  of the last layer's states, likewise; None: as `dropout`
    word_dropout    of whole words of the vocabulary
    weight_drop     of the weights of the recurrent matrices
    """

    context: int = Field(default=_ENDLESS, gt=0, le=_ENDLESS)
    layers: int = Field(default=2, gt=0, le=1024)
    width: int = Field(default=384, gt=0, le=1_048_576)
    hidden: int = Field(default=0, ge=0, le=1_048_576, description="0: as width")
    tied: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)
    input_dropout: float | None = Field(default=None, ge=0, lt=1)
    output_dropout: float | None = Field(default=None, ge=0, lt=1)
    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    weight_drop: float = Field(default=0.0, ge=0, lt=1)

    CARRIES: ClassVar[bool] = True
    REQUIRED: ClassVar[tuple[str, ...]] = ("vocabulary", "layers", "width", "hidden")
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "max_length",
        "layers": "num_hidden_layers",
        "width": "embedding_size",
        "hidden": "hidden_size",
        "tied": "tie_word_embeddings",
    }

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        values = dict(values)
        values["hidden"] = values.get("hidden") or values.get("width", cls.model_fields["width"].default)
        return values

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.layers == 1 and self.hidden != self.width:
            raise ValueError(f"hidden={self.hidden} is of the layers before the last: with layers=1 leave it out")
        return self

    @property
    def copies(self) -> Mapping[str, str]:
        return {"lm_head.weight": "embedding.weight"} if self.tied else {}

    def kept(self, length: int) -> int:
        """Of each layer its input, the gates before and after they are squeezed, and the states."""
        return self.layers * 12 * max(self.width, self.hidden)

    def widths(self) -> list[int]:
        """Of the embedding, and of each layer's states."""
        return [self.width, *[self.hidden] * (self.layers - 1), self.width]


class Recurrent(LeftToRight):
    """ids -> embedding -> layer -> ... -> layer -> h;  head(h) -> logits. Dropout between any two of them.

    `forward` takes masks that a state can obey (causal, padding, packed documents) and counts no positions: order is
    what a recurrence knows anyway.
    """

    positions = None

    def __init__(self, config: RecurrentConfig, layers: Sequence[Recurrence]) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(layers)
        tied_to = self.embedding if config.tied else None
        self.head = TokenHead(config.vocabulary, config.width, tied_to=tied_to, bias=True)
        either = [config.dropout if rate is None else rate for rate in (config.input_dropout, config.output_dropout)]
        self.word_dropout = WordDropout(config.vocabulary, config.word_dropout)
        self.input_dropout, self.output_dropout = map(LockedDropout, either)
        self.dropout = LockedDropout(config.dropout)

    def forward(
        self,
        ids_BT: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        cache: RecurrentCache | None = None,
    ) -> Tensor:
        B, T = ids_BT.shape
        before = self.new_cache() if cache is None else cache
        stretches = pieces(mask, B, T, before.length, ids_BT.device)
        h_BTH = self.input_dropout(self.word_dropout(self.embedding(ids_BT), ids_BT))
        states = []
        for n, layer in enumerate(self.layers):
            h_BTH, state = layer(h_BTH if n == 0 else self.dropout(h_BTH), before.states[n], stretches)
            states.append(state)
        before.put(states, T)
        return h_BTH

    def readout(self, h_BTD: Tensor) -> Tensor:
        """The last layer's states, dropped out while training."""
        return self.output_dropout(h_BTD)

    def new_cache(self) -> RecurrentCache:
        """No states yet: before the first token."""
        return RecurrentCache([layer.STATE for layer in self.layers])

    @property
    def layers(self) -> Sequence[Recurrence]:
        """The blocks, by their own type."""
        return cast("Sequence[Recurrence]", self.blocks)


def build(config: RecurrentConfig, layer: type[Recurrence], generator: torch.Generator | None) -> Recurrent:
    """A model of such layers with fresh weights."""
    widths = config.widths()
    pairs = zip(widths, widths[1:], strict=False)
    model = Recurrent(config, [layer(width, hidden, weight_drop=config.weight_drop) for width, hidden in pairs])
    _initialise(model, generator)
    return model


def _initialise(model: Recurrent, generator: torch.Generator | None) -> None:
    """Uniform(-0.1, 0.1) tables (Merity et al. 2018, section 5); matrices Uniform within 1 / sqrt(H), as PyTorch's."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and not weight.is_meta:
                owner = model.get_submodule(name.rpartition(".")[0])
                bound = owner.hidden**-0.5 if isinstance(owner, Recurrence) else 0.1
                weight.uniform_(-bound, bound, generator=generator)


def weights(config: RecurrentConfig) -> list[Entry]:
    """Our names and those we publish: a layer's are those of `torch.nn.LSTMCell`, whose second bias is 0 here."""
    layer, block = "model.layers.{n}.", "blocks.{n}."
    entries = [
        Same(block + "input", layer + "weight_ih"),
        Same(block + "recurrent", layer + "weight_hh"),
        Same(block + "bias", layer + "bias_ih"),
    ]
    ends: list[Entry] = [Same("embedding.weight", "model.embed_tokens.weight"), Same("head.bias", "lm_head.bias")]
    if not config.tied:
        ends.append(Same("head.weight", "lm_head.weight"))
    return [*ends, *per_layer(config.layers, entries)]
