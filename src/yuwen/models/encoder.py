"""The skeleton that BERT and its kin share: embed, norm, blocks, and the heads they learn by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.errors import UserError
from yuwen.models.config import AttentionConfig, Reads, divides
from yuwen.nn import (
    Attention,
    Dropout,
    Everything,
    FeedForward,
    HeadTransform,
    LayerNorm,
    LearnedPositions,
    Mask,
    Pooler,
    PostNormBlock,
    ScaledDotProduct,
    TokenEmbedding,
    TokenHead,
    sinusoids,
)


class Encoder(nn.Module):
    """ids -> embedding + positions (+ segments) -> norm (-> widen) -> blocks -> h: every position saw both sides.

        h ─┬─ transform ─ head ──> scores of the word that stood there        "masked"
           └─ pooler ─┬──────────> one vector for the sequence                "pooler"
                      ├─ sentence head ──> does B follow A?                   "next_sentence"
                      └─ order head ─────> does B stand before A?             "sentence_order"

    `forward(ids_BT) -> h_BTD`, `output(h_BTD) -> logits_BTV`. `mask` defaults to everything; a padded batch gives
    `Padding(keep_BS)`. `positions` are rows of the family's table, which counts them itself by default; `segments_BT`
    tells sentence A (0, the default) from B (1). `heads` names what this model has. `order` lists the blocks as they
    are run, where that is not one after another: ALBERT runs the same ones again. `widen` leads from the width of the
    embeddings to that of the blocks.
    """

    def __init__(
        self,
        config: Any,
        *,
        embedding: TokenEmbedding,
        positions: LearnedPositions | None,
        norm: nn.Module,
        blocks: Sequence[nn.Module],
        order: Sequence[int] | None = None,
        segments: TokenEmbedding | None = None,
        widen: nn.Module | None = None,
        transform: HeadTransform | None = None,
        head: TokenHead | None = None,
        pooler: Pooler | None = None,
        sentence_head: nn.Linear | None = None,
        order_head: nn.Linear | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding, self.positions, self.segments = embedding, positions, segments
        self.norm = norm
        self.dropout = Dropout(dropout)
        self.widen = widen or nn.Identity()
        self.blocks = nn.ModuleList(blocks)
        self.order = tuple(range(len(blocks)) if order is None else order)
        self.transform, self.head = transform or nn.Identity(), head
        self.pooler, self.sentence_head, self.order_head = pooler, sentence_head, order_head

    @property
    def heads(self) -> frozenset[str]:
        """What this model has of "masked", "pooler", "next_sentence", "sentence_order"."""
        modules = {
            "masked": self.head,
            "pooler": self.pooler,
            "next_sentence": self.sentence_head,
            "sentence_order": self.order_head,
        }
        return frozenset(name for name, module in modules.items() if module is not None)

    def forward(
        self,
        ids_BT: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        T = ids_BT.shape[1]
        allowed = (mask or Everything()).resolve(T, T, ids_BT.device)
        h_BTD = self.embedding(ids_BT)
        if self.positions is not None:
            h_BTD = h_BTD + self.positions(self.positions.of(ids_BT) if positions is None else positions)
        if self.segments is not None:
            h_BTD = h_BTD + (self.segments.weight[0] if segments_BT is None else self.segments(segments_BT))
        elif segments_BT is not None:
            raise UserError(f"a {self.config.MODEL_TYPE} has no segments: leave segments_BT out")
        h_BTD = self.widen(self.dropout(self.norm(h_BTD)))
        for n in self.order:
            h_BTD = self.blocks[n](h_BTD, allowed)
        return h_BTD

    def unmask(
        self, ids_BT: Tensor, masked_BT: Tensor, mask: Mask | None = None, segments_BT: Tensor | None = None
    ) -> Tensor:
        """What `readout` takes to tell the words where `masked_BT` is True, from all the others: [N, D], row by row.

        The ids there should be the tokenizer's mask, as in training.
        """
        return self(ids_BT, mask, None, segments_BT)[masked_BT]

    def readout(self, h_BTD: Tensor) -> Tensor:
        """What the masked-word head reads, [..., D] -> [..., D or E]. UserError without that head."""
        if self.head is None:
            raise self._lacks("masked-word head: it gives hidden states, not words")
        return self.transform(h_BTD)

    def output(self, h_BTD: Tensor) -> Tensor:
        """Scores of the word at each position, [..., D] -> [..., V]. UserError without a masked-word head."""
        read_BTD = self.readout(h_BTD)
        assert self.head is not None
        return self.head(read_BTD)

    def pooled(self, h_BTD: Tensor) -> Tensor:
        """The sequence as one vector, [B, T, D] -> [B, D]. UserError without a pooler."""
        if self.pooler is None:
            raise self._lacks("pooler: average its hidden states instead")
        return self.pooler(h_BTD)

    def next_sentence(self, h_BTD: Tensor) -> Tensor:
        """Scores of (B follows A, B is random), [B, T, D] -> [B, 2]. UserError without that head."""
        if self.sentence_head is None:
            raise self._lacks("next-sentence head")
        return self.sentence_head(self.pooled(h_BTD))

    def sentence_order(self, h_BTD: Tensor) -> Tensor:
        """Scores of (A stands before B, B before A), [B, T, D] -> [B, 2]. UserError without that head."""
        if self.order_head is None:
            raise self._lacks("sentence-order head")
        return self.order_head(self.pooled(h_BTD))

    def _lacks(self, what: str) -> UserError:
        return UserError(f"this {self.config.MODEL_TYPE} ({self.config.architecture}) has no {what}")


class EncoderConfig(AttentionConfig):
    """Shape of an encoder. `ffn` is the hidden width of the feed-forward.

    `masked`, and `pooler`, `next_sentence` and `sentence_order` where a family has them, say which heads are built.
    `HEADS` maps them to the first parts of their published weight names; `ASKS` maps the published classes to the heads
    each must have.
    """

    context: int = Field(default=512, gt=0, le=16_777_216)
    ffn: int = Field(default=0, ge=0, le=16_777_216, description="0: 4 x width")
    activation: Literal["gelu", "gelu_new", "relu", "silu"] = "gelu"
    masked: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)

    READS: ClassVar[Reads] = "both"
    HEADS: ClassVar[Mapping[str, tuple[str, ...]]]
    ASKS: ClassVar[Mapping[str, frozenset[str]]]

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

    @classmethod
    def architectures(cls) -> tuple[str, ...]:
        return tuple(cls.ASKS)

    @property
    def answers(self) -> frozenset[str]:
        """The heads that are built."""
        return frozenset(name for name in self.HEADS if getattr(self, name))

    @property
    def architecture(self) -> str:
        # a pooler more or less is no other class
        return next(name for name, heads in self.ASKS.items() if heads - {"pooler"} == self.answers - {"pooler"})

    @property
    def prefix(self) -> str:
        """What the body's published weight names begin with: nothing where there is no head beside it."""
        return f"{self.BODY}." if self.answers - {"pooler"} else ""

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        # what a config.json leaves out means the published default, not ours
        values = {cls.PUBLISHED["ffn"]: 3072, **values}
        unpruned = {key: value for key, value in values.items() if (key, value) != ("pruned_heads", {})}
        config = super().from_published(unpruned, where)
        named = [name for name in values.get("architectures") or () if isinstance(name, str) and name in cls.ASKS]
        asked = frozenset[str]().union(*(cls.ASKS[name] for name in named))
        return config.model_copy(update={name: name in asked for name in cls.HEADS})

    def as_stored(self, names: Iterable[str]) -> Self:
        """These settings with the heads a checkpoint holds beside those asked for; its pooler may be left out."""
        bare = [name.removeprefix(f"{self.BODY}.") for name in names]
        found = {head for head, parts in self.HEADS.items() if any(name.startswith(parts) for name in bare)}
        asked = self.answers - {"pooler"}
        built = found | asked | ({"pooler"} if asked & {"next_sentence", "sentence_order"} else set())
        return self.model_copy(update={name: name in built for name in self.HEADS})


def task_classes(name: str) -> dict[str, frozenset[str]]:
    """Published classes with a head that someone trained for another task: their body is read."""
    tasks = ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice")
    return {f"{name}For{task}": frozenset() for task in tasks}


def encoder_block(config: EncoderConfig, norm_eps: float) -> PostNormBlock:
    """One layer, the same in all these families."""
    score = ScaledDotProduct(dropout=config.dropout)
    return PostNormBlock(
        Attention(config.width, config.heads, bias=True, output_bias=True, score=score),
        LayerNorm(config.width, norm_eps),
        FeedForward(config.width, config.ffn, activation=config.activation),
        LayerNorm(config.width, norm_eps),
        dropout=config.dropout,
    )


STD = 0.02  # of all fresh matrices and tables
AMPLITUDE = 0.2  # of the sinusoids that fresh positions begin as


def normal(weight: Tensor, generator: torch.Generator | None) -> None:
    """Normal(0, 0.02): RoBERTa's code, DistilBERT's, XLNet's."""
    weight.normal_(0.0, STD, generator=generator)


def cut_normal(weight: Tensor, generator: torch.Generator | None) -> None:
    """Normal(0, 0.02), redrawn beyond two standard deviations: BERT's code and ALBERT's."""
    nn.init.trunc_normal_(weight, 0.0, STD, -2 * STD, 2 * STD, generator=generator)


def initialise(
    model: Encoder, generator: torch.Generator | None, draw: Callable[[Tensor, torch.Generator | None], None] = normal
) -> None:
    """Draws all but the biases of linear maps, which are zero, norms, which begin as identity, and positions.

    Learned positions begin as the sinusoids of 2017, 0.2 high. A hidden word tells nothing of itself, so before a model
    of hidden words learns anything from a word's neighbours its attention must find them, and among sinusoids it does
    much sooner than among random vectors (docs/models.md has both curves).
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.is_meta:  # nothing to fill, and to draw there PyTorch would first import its compiler for seconds
                continue
            if name.endswith(".bias"):
                weight.zero_()
            elif name == "positions.weight":
                rows, width = weight.shape
                weight.copy_(AMPLITUDE * sinusoids(torch.arange(rows), width + width % 2)[:, :width])
            elif not name.endswith("norm.weight"):
                draw(weight, generator)
