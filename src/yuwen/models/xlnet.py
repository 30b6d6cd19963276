"""XLNet: Generalized Autoregressive Pretraining for Language Understanding (Yang et al. 2019).

    log p(x) = sum_t log p(x_z(t) | x_z(1) … x_z(t-1)),   z a random order of the places                  (eq. 3)
    h = layer(h; reads h at places up to its own in z),   g = layer(g; reads h at places before its own)   (section 2.3)
    p(x_z(t) | …) = softmax(E g_z(t) + c)                                                                  (eq. 4)

Section 2.2: a sentence is told token by token, but in a random order, so that each token learns from both sides without
a [MASK] that real text never has. Section 2.3: to tell the token at a place one must know the place and not the token,
to help the later ones one must know both; hence two streams, g and h, through the same weights (`nn/two_stream.py`).
Section 2.4: places are distances, and earlier segments are kept as memory, as in Transformer-XL (Dai et al. 2019;
`nn/relative.py`, `nn/memory.py`). Section 2.5: a segment is the same one or another, not the first or the second.
Blocks are post-norm; the head is the embedding's own table plus a bias.

Differences here: dropout is 0 by default (published: 0.1) and does not fall inside the feed-forward; a query before
everything in the order, without memory, reads nothing (in the published code it reads all tokens alike, its own too);
[CLS] is of the last text's segment, and a single text has none (the authors give [CLS] a segment of its own, which
`transformers` does only for those who pass `token_type_ids`);
`bi_data`, `same_length`, `clamp_len` and one-way attention (`attn_type` uni) are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.errors import UserError
from yuwen.models.config import Reads
from yuwen.models.encoder import Encoder, EncoderConfig, initialise, task_classes
from yuwen.models.weights import Entry, Headed, Same, both, per_layer
from yuwen.nn import (
    Distances,
    Everything,
    FeedForward,
    LayerNorm,
    Mask,
    RelativeAttention,
    SegmentMemory,
    Sight,
    TokenEmbedding,
    TokenHead,
    TwoStreamBlock,
)


class TwoStream(Encoder):
    """ids -> embedding -> blocks -> h, the content stream;  start -> blocks -> g, the query stream;  head(g) -> scores.

    `forward(ids_BT) -> h_BTD` reads a text from both sides, for use. `predict(ids_BT, order_BT, places_BP) -> g_BPD`
    tells the tokens at some places in a given order, for learning. Both read `memory` and then add to it.
    """

    def __init__(
        self,
        config: Any,
        *,
        embedding: TokenEmbedding,
        distances: Distances,
        blocks: Sequence[TwoStreamBlock],
        head: TokenHead | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            config, embedding=embedding, positions=None, norm=nn.Identity(), blocks=blocks, head=head, dropout=dropout
        )
        self.distances = distances
        self.start = nn.Parameter(torch.empty(1, 1, embedding.weight.shape[1]))  # a query before it has read anything

    def forward(
        self,
        ids_BT: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        segments_BT: Tensor | None = None,
        memory: SegmentMemory | None = None,
    ) -> Tensor:
        if positions is not None:
            raise UserError(f"a {self.config.MODEL_TYPE} knows distances, not positions: leave positions out")
        memory = memory or self.new_memory()
        table_BHTT = None
        if mask is not None or memory.visible_BM is not None:
            slots_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
            table_BHTT = (mask or Everything()).table(slots_T, slots_T)
        sight = self._sight(table_BHTT, None, segments_BT, memory)
        h_BTD, _ = self._streams(ids_BT, memory, sight, None, None)
        assert h_BTD is not None
        return self.dropout(h_BTD)

    def predict(
        self,
        ids_BT: Tensor,
        order_BT: Tensor,
        places_BP: Tensor,
        mask: Mask | None = None,
        segments_BT: Tensor | None = None,
        memory: SegmentMemory | None = None,
    ) -> Tensor:
        """What `output` reads to tell the tokens in the slots `places_BP`, [B, P] -> [B, P, D] (eq. 4).

        `order_BT` ranks the tokens: the query at a place reads the tokens of lower rank, a token's content those of
        lower or equal rank, so that tokens seen from the beginning share the lowest.
        """
        B, T = ids_BT.shape
        slots_T, rows_B1 = torch.arange(T, device=ids_BT.device), torch.arange(B, device=ids_BT.device)[:, None]
        ranks_BP = order_BT[rows_B1, places_BP]
        content_BTT = order_BT[:, None, :] <= order_BT[:, :, None]
        query_BPT = order_BT[:, None, :] < ranks_BP[:, :, None]
        if mask is not None:
            table_BTT = mask.table(slots_T, slots_T)[:, 0].expand(B, T, T)
            content_BTT, query_BPT = content_BTT & table_BTT, query_BPT & table_BTT[rows_B1, places_BP]
        memory = memory or self.new_memory()
        h_sight = self._sight(content_BTT[:, None], None, segments_BT, memory)
        g_sight = self._sight(query_BPT[:, None], places_BP, segments_BT, memory)
        start_BPD = self.dropout(self.start.expand(B, places_BP.shape[1], -1))
        _, g_BPD = self._streams(ids_BT, memory, h_sight, start_BPD, g_sight)
        assert g_BPD is not None
        return self.dropout(g_BPD)

    def unmask(
        self, ids_BT: Tensor, masked_BT: Tensor, mask: Mask | None = None, segments_BT: Tensor | None = None
    ) -> Tensor:
        """What `readout` takes to tell the words where `masked_BT` is True, from all the others: [N, D], row by row.

        The ids there are not looked at.
        """
        most = int(masked_BT.sum(1).max())
        found_BP, places_BP = masked_BT.int().sort(dim=1, descending=True, stable=True)
        g_BPD = self.predict(ids_BT, masked_BT.long(), places_BP[:, :most], mask, segments_BT)
        return g_BPD[found_BP[:, :most].bool()]

    def new_memory(self) -> SegmentMemory:
        """An empty memory of as many positions as the settings say."""
        return SegmentMemory(len(self.blocks), self.config.memory)

    def _sight(
        self, table_BHPT: Tensor | None, places_BP: Tensor | None, segments_BT: Tensor | None, memory: SegmentMemory
    ) -> Sight:
        """What queries see with the memory in front: all of it that is of their text, as a segment 0 (as published)."""
        M, past_BM = memory.length, memory.visible_BM
        if M and table_BHPT is not None:
            past_BM = table_BHPT.new_ones(1, M) if past_BM is None else past_BM
            B, P = max(len(past_BM), len(table_BHPT)), table_BHPT.shape[2]
            parts = past_BM[:, None, None].expand(B, 1, P, M), table_BHPT.expand(B, 1, P, -1)
            table_BHPT = torch.cat(parts, dim=-1)
        other_BHPS = None
        if segments_BT is not None:
            asking_BP = segments_BT if places_BP is None else segments_BT.gather(1, places_BP)
            heard_BS = torch.cat((segments_BT.new_zeros(len(segments_BT), M), segments_BT), dim=1)
            other_BHPS = (asking_BP[:, :, None] != heard_BS[:, None])[:, None]
        return Sight.through(table_BHPT, self.embedding.weight.dtype, places_BP, other_BHPS)

    def _streams(
        self, ids_BT: Tensor, memory: SegmentMemory, h_sight: Sight, g_BPD: Tensor | None, g_sight: Sight | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Both streams through all blocks; where g is asked for, the last block makes no h: nothing would read it."""
        T = ids_BT.shape[1]
        h_BTD: Tensor | None = self.dropout(self.embedding(ids_BT))
        assert h_BTD is not None
        distances_RD = self.dropout(self.distances(T, memory.length + T, h_BTD.dtype, ids_BT.device))
        heard = []
        for n, block in enumerate(self.blocks):
            assert h_BTD is not None
            heard.append(h_BTD)
            needed = g_sight is None or n + 1 < len(self.blocks)
            h_BTD, g_BPD = block(
                h_BTD,
                distances_RD,
                memory.states[n],
                h_sight=h_sight if needed else None,
                g_BPD=g_BPD,
                g_sight=g_sight,
            )
        memory.append(heard)
        return h_BTD, g_BPD


class XLNetConfig(EncoderConfig):
    """Shape of an XLNet. `memory`: how many positions of earlier segments are kept (0: all).

    `context` bounds nothing here; it is the length that evaluation and tasks read at a time, 512 as published.
    """

    norm_eps: float = Field(default=1e-12, gt=0)
    memory: int = Field(default=384, ge=0, le=16_777_216)

    READS: ClassVar[Reads] = "permuted"
    ARCHITECTURE: ClassVar[str] = "XLNetLMHeadModel"
    MODEL_TYPE: ClassVar[str] = "xlnet"
    BODY: ClassVar[str] = "transformer"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "context",  # ours: the published settings have none
        "layers": "n_layer",
        "width": "d_model",
        "heads": "n_head",
        "ffn": "d_inner",
        "activation": "ff_activation",
        "norm_eps": "layer_norm_eps",
        "memory": "mem_len",
        "tied": "tie_word_embeddings",
    }
    CONSTANT: ClassVar[Mapping[str, Any]] = {
        "attn_type": "bi",
        "bi_data": False,
        "clamp_len": -1,
        "same_length": False,
        "untie_r": True,
    }
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        [
            "d_head",  # checked
            "dropout",
            "reuse_len",  # how much of a segment is handed on, when it is cut to overlap the next
            "use_mems_eval",
            "use_mems_train",
            "summary_activation",
            "summary_last_dropout",
            "summary_type",
            "summary_use_proj",
            "start_n_top",
            "end_n_top",
            "task_specific_params",
            "finetuning_task",
            "num_labels",
            "output_past",
        ]
    )
    HEADS: ClassVar[Mapping[str, tuple[str, ...]]] = {"masked": ("lm_loss.",)}
    ASKS: ClassVar[Mapping[str, frozenset[str]]] = {
        "XLNetModel": frozenset(),
        "XLNetLMHeadModel": frozenset({"masked"}),
        **task_classes("XLNet"),
        "XLNetForQuestionAnsweringSimple": frozenset(),
    }

    @property
    def copies(self) -> Mapping[str, str]:
        return {"lm_loss.weight": "embedding.weight"} if self.tied and self.masked else {}

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.width % 2:
            raise ValueError(f"width={self.width} must be even: a distance is told by pairs of sine and cosine")
        return self

    def kept(self, length: int) -> int:
        """As a layer of BERT, with whole rows of scores and of those of distances; a sixth more for the queries."""
        scores = self.heads * (length + self.memory) * 3
        return self.layers * (18 * self.width + 4 * self.ffn + scores) * 7 // 6

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        values = {"context": 512, "d_inner": 4096, **values}
        if values.get("mem_len", 0) is None:
            values["mem_len"] = 0
        config = super().from_published(values, where)
        asked, built = values.get("d_head"), config.width // config.heads
        if asked not in (None, built):
            raise UserError(f"{where}: d_head={asked!r} is not supported for xlnet (only d_model / n_head, {built})")
        return config


def build(config: XLNetConfig, generator: torch.Generator | None = None) -> TwoStream:
    """An XLNet with fresh weights."""
    embedding = TokenEmbedding(config.vocabulary, config.width)
    tied_to = embedding if config.tied else None
    model = TwoStream(
        config,
        embedding=embedding,
        distances=Distances(config.width),
        blocks=[_block(config) for _ in range(config.layers)],
        head=TokenHead(config.vocabulary, config.width, tied_to=tied_to, bias=True) if config.masked else None,
        dropout=config.dropout,
    )
    initialise(model, generator)
    return model


def _block(config: XLNetConfig) -> TwoStreamBlock:
    return TwoStreamBlock(
        RelativeAttention(config.width, config.heads, dropout=config.dropout),
        LayerNorm(config.width, config.norm_eps),
        FeedForward(config.width, config.ffn, activation=config.activation),
        LayerNorm(config.width, config.norm_eps),
        dropout=config.dropout,
    )


def weights(config: XLNetConfig) -> list[Entry]:
    """Our names and the published ones, which keep the heads of a matrix apart."""
    ours, theirs, heads = "blocks.{n}.attention.", f"{config.prefix}layer.{{n}}.rel_attn.", config.heads
    projections = [("query", "q"), ("key", "k"), ("value", "v"), ("position", "r")]
    biases = [("content_bias", "r_w_bias"), ("position_bias", "r_r_bias"), ("segment_bias", "r_s_bias")]
    block: list[Entry] = [
        *(Headed(f"{ours}{a}.weight", f"{theirs}{b}", heads, transposed=True) for a, b in projections),
        Headed(f"{ours}output.weight", f"{theirs}o", heads),
        *(Headed(f"{ours}{a}", f"{theirs}{b}", heads) for a, b in biases),
        Same(f"{ours}segments", f"{theirs}seg_embed"),
        *both("blocks.{n}.attention_norm", f"{theirs}layer_norm"),
        *both("blocks.{n}.feedforward.up", f"{config.prefix}layer.{{n}}.ff.layer_1"),
        *both("blocks.{n}.feedforward.down", f"{config.prefix}layer.{{n}}.ff.layer_2"),
        *both("blocks.{n}.feedforward_norm", f"{config.prefix}layer.{{n}}.ff.layer_norm"),
    ]
    entries: list[Entry] = [
        Same("embedding.weight", f"{config.prefix}word_embedding.weight"),
        Same("start", f"{config.prefix}mask_emb"),
        *per_layer(config.layers, block),
    ]
    if config.masked:
        entries.append(Same("head.bias", "lm_loss.bias"))
        if not config.tied:
            entries.append(Same("head.weight", "lm_loss.weight"))
    return entries
